"""The recommended rank and learning rate: led by the nearest published line, moved by capacity and forgetting.

The use case gives the start. The nearest line (lead.py) says what a rank fell short of there. It raises the rank only
if it is similar (the same model, or its family and size; the same kind of task; the learning rate tuned at each rank)
and had no more data than there is here. Capacity raises it up to the use case's ceiling. The wish to keep the base's
abilities halves it where published trainings kept more at smaller ranks. The learning rate is the use case's, moved
into the range of what was best in the nearest tuned sweep. The sentences are in words.py, lead_words.py and reasons.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from rankviz.core.advice.capacity import RANKS, Capacity, capacity, smallest_that_holds
from rankviz.core.advice.lead import Lead, leading
from rankviz.core.advice.use_case import Data, Goal, UseCase, use_case
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.studies.findings import (
    TOLERANCE,
    KeptByRank,
    RankEnough,
    RateAgainstRank,
    RatesTuned,
    ShortOfFull,
    TargetsAgainstRank,
    kept_by_rank,
    rank_enough,
    rate_against_rank,
    rates_of_line,
    rates_tuned,
    short_of_full,
    targets_against_rank,
)
from rankviz.core.studies.lines import FACETS, Evidence
from rankviz.core.studies.nearest import Near, Subject, drawn_lines, nearest

SMALLEST = 8
"""The rule of thumb's smallest rank: concern about forgetting goes no lower."""
NEAREST_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the published studies show for one subject."""

    near: tuple[Near, ...]
    """Studies that show what rank does, the nearest first."""
    lead: Lead | None
    """The nearest line, of the same model or its nearest relative; None where no study has one."""
    enough: RankEnough | None
    rate_or_rank: RateAgainstRank | None
    targets: TargetsAgainstRank | None
    kept: KeptByRank | None
    full: ShortOfFull | None

    @property
    def shown(self) -> tuple[Near, ...]:
        """A few to show: the lead and the study of the same model that it goes before, then the nearest base of each
        other study."""
        shown = [near for near in (self.lead.near, self.lead.passed) if near] if self.lead else []
        studies = {near.line.study.study_id for near in shown}
        for near in self.near:
            if (study_id := near.line.study.study_id) not in studies:
                studies.add(study_id)
                shown.append(near)
        return tuple(shown[:NEAREST_SHOWN])

    @property
    def similar(self) -> Near | None:
        """The nearest of the same kind of task and of the same family or a similar size."""
        return next((n for n in self.near if n.same_task and (n.same_family or n.similar_size)), None)


class Step(NamedTuple):
    """One thing that moved the rank. why: evidence, capacity or forgetting."""

    why: str
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The recommendation, and what it is based on."""

    case: UseCase
    goal: Goal
    data: Data
    findings: Findings
    r: int
    steps: tuple[Step, ...]
    capacity: Capacity
    holds_from: int | None
    """The smallest usual rank that would hold all data; None where none does, or the data are not known."""
    rates: RatesTuned | None
    """The best learning rates around this rank; None where sweeps do not tell them for this use case."""
    rates_of: str
    """Whose rates these are: a base model, or "all models"."""

    @property
    def lora_alpha(self) -> int:
        return self.r

    @property
    def learning_rate(self) -> float:
        """To start with. All that trains or exports the recommended settings takes it from here."""
        return start_rate(self.case, self.rates)

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """To try, smallest first: half the rate, the rate, and twice it or the highest of the best, whichever is
        more."""
        rate = self.learning_rate
        return (rate / 2, rate, max(2 * rate, self.rates.high if self.rates else 0.0))

    @property
    def needed(self) -> int | None:
        """The higher rank that the lead needed, where it tuned each rank and this one missed its mark; else None."""
        lead = self.findings.lead
        if lead is None or not lead.is_tuned_loss:
            return None
        needed = lead.line.smallest_within(TOLERANCE).rank
        return needed if needed > self.r else None

    @property
    def confidence(self) -> str:
        """well supported, supported or rule of thumb."""
        lead = self.findings.lead
        if lead and lead.is_tuned_loss and lead.near.same_model and lead.near.same_task and self.needed is None:
            return "well supported"
        if (lead and (lead.is_tuned_loss or lead.near.same_task)) or self.findings.similar:
            return "supported"
        return "rule of thumb"


def advise(
    evidence: Evidence,
    subject: Subject,
    goal: Goal,
    data: Data,
    parameters: Callable[[int], int],
    assume: Assumptions,
) -> Advice:
    """The recommended rank and its reasons. parameters: of an adapter of this model at a rank, on all linear layers."""
    case = use_case(goal.use_case)
    findings = find(evidence, subject, case)
    r, steps = case.r, []
    for why, to in (
        ("evidence", _by_evidence(findings, data)),
        ("capacity", min(_by_capacity(parameters, data, assume) or 0, case.ceiling)),
    ):
        if to and to > r:
            steps.append(Step(why, r, to))
            r = to
    if goal.forgetting and findings.kept and 2 * findings.kept.better_at_the_smaller > findings.kept.comparisons:
        after = max(SMALLEST, r // 2)
        if after < r:
            steps.append(Step("forgetting", r, after))
            r = after
    rates, rates_of = _rates(findings, r) if case.rates_of_instruction else (None, "")
    return Advice(
        case=case,
        goal=goal,
        data=data,
        findings=findings,
        r=r,
        steps=tuple(steps),
        capacity=capacity(r, parameters(r), data.tokens, data.at_most, assume),
        holds_from=smallest_that_holds(parameters, data.tokens, assume) if data.tokens else None,
        rates=rates,
        rates_of=rates_of,
    )


def start_rate(case: UseCase, rates: RatesTuned | None) -> float:
    """The use case's learning rate, moved into the range of the best ones, to the end that is nearer.

    That is usually the lower end, and the careful one: most sweeps had larger batches (128) than most fine-tunings.
    """
    return case.learning_rate if rates is None else min(max(case.learning_rate, rates.low), rates.high)


def find(evidence: Evidence, subject: Subject, case: UseCase) -> Findings:
    """Nearest studies, and the counts over all of them."""
    published = evidence.published
    near = nearest(drawn_lines(evidence, ("lora",), FACETS), subject)
    forgetting = [
        line for n in nearest([x for x in published if x.first.role == "forgetting"], subject) for line in n.lines
    ]
    return Findings(
        near=near,
        lead=leading(near),
        enough=rank_enough(published),
        rate_or_rank=rate_against_rank(published),
        targets=targets_against_rank(published),
        kept=kept_by_rank(forgetting),
        full=short_of_full([line for n in near if n.same_task and n.line.study.counted for line in n.lines]),
    )


def _rates(findings: Findings, r: int) -> tuple[RatesTuned | None, str]:
    """The best learning rates near r: of the lead, of the nearest tuned relative, or of all tuned sweeps."""
    near, lead = findings.near, findings.lead
    related = [line for n in near if n.same_family and n.line.study.counted for line in n.lines]
    for line in [lead.line, *related] if lead else []:
        if rates := rates_of_line(line, r):
            return rates, line.model.base_model
    return rates_tuned([line for n in near if not n.line.study.own for line in n.lines], r), "all models"


def _by_evidence(findings: Findings, data: Data) -> int | None:
    """What the nearest tuned sweep needed, if it had no more examples than there are here."""
    lead = findings.lead
    if lead is None or not lead.speaks_for_rank:
        return None
    trained = lead.line.study.examples
    if trained is None or data.examples is None or data.examples < trained:
        return None
    return lead.line.smallest_within(TOLERANCE).rank


def _by_capacity(parameters: Callable[[int], int], data: Data, assume: Assumptions) -> int | None:
    """The rank that holds the data, the largest where none does. An upper bound does not change the rank."""
    if data.tokens is None or data.at_most:
        return None
    return smallest_that_holds(parameters, data.tokens, assume) or RANKS[-1]
