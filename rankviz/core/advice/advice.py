"""The recommended rank, with reasons: the rule of thumb, moved by published evidence, capacity and forgetting.

The rule gives the start. Studies raise it only if they are similar (the same model, the same kind of task, the learning
rate tuned at each rank) and had no more data than there is here. Capacity raises it up to the use case's ceiling. The
wish to keep the base's abilities halves it where published trainings kept more at smaller ranks. The sentences are in
words.py and reasons.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rankviz.core.advice.capacity import RANKS, Capacity, capacity, smallest_that_holds
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
    rates_tuned,
    short_of_full,
    targets_against_rank,
    tuned_losses,
)
from rankviz.core.studies.lines import FACETS, Evidence, Line
from rankviz.core.studies.nearest import Near, Subject, drawn_lines, nearest

SMALLEST = 8
"""The rule of thumb's smallest rank: concern about forgetting goes no lower."""
NEAREST_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the published studies show for one subject."""

    near: tuple[Near, ...]
    """Studies that show what rank does, the nearest first."""
    tuned: Near | None
    """The nearest whose learning rate was tuned at each rank, of the same model or family."""
    enough: RankEnough | None
    rates: RatesTuned | None
    rates_of: str
    """Whose rates these are, in words."""
    rate_or_rank: RateAgainstRank | None
    targets: TargetsAgainstRank | None
    kept: KeptByRank | None
    full: ShortOfFull | None

    @property
    def shown(self) -> tuple[Near, ...]:
        """A few to show: the nearest base of each study."""
        of_study: dict[str, Near] = {}
        for near in self.near:
            of_study.setdefault(near.line.study.study_id, near)
        return tuple(of_study.values())[:NEAREST_SHOWN]

    @property
    def tuned_line(self) -> Line | None:
        return next(iter(tuned_losses(self.tuned.lines)), None) if self.tuned else None


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
    learning_rates: tuple[float, ...]
    """To try, smallest first; the use case's own among them."""

    @property
    def lora_alpha(self) -> int:
        return self.r

    @property
    def learning_rate(self) -> float:
        return self.case.learning_rate

    @property
    def confidence(self) -> str:
        """well supported, supported or rule of thumb."""
        tuned = self.findings.tuned
        if tuned and tuned.same_model and tuned.same_task:
            return "well supported"
        if tuned or any(near.same_task and (near.same_family or near.similar_size) for near in self.findings.near):
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
    return Advice(
        case=case,
        goal=goal,
        data=data,
        findings=findings,
        r=r,
        steps=tuple(steps),
        capacity=capacity(r, parameters(r), data.tokens, data.at_most, assume),
        holds_from=smallest_that_holds(parameters, data.tokens, assume) if data.tokens else None,
        learning_rates=_to_try(case.learning_rate, findings.rates),
    )


def find(evidence: Evidence, subject: Subject, case: UseCase) -> Findings:
    """Nearest studies, and the counts over all of them."""
    published = evidence.published
    near = nearest(drawn_lines(evidence, ("lora",), FACETS), subject)
    tuned = next((n for n in near if n.same_family and tuned_losses(n.lines)), None)
    rates, rates_of = _rates(near, tuned, case.r) if case.rates_of_instruction else (None, "")
    forgetting = [
        line for n in nearest([x for x in published if x.first.role == "forgetting"], subject) for line in n.lines
    ]
    return Findings(
        near=near,
        tuned=tuned,
        enough=rank_enough(published),
        rates=rates,
        rates_of=rates_of,
        rate_or_rank=rate_against_rank(published),
        targets=targets_against_rank(published),
        kept=kept_by_rank(forgetting),
        full=short_of_full([line for n in near if n.same_task and n.line.study.counted for line in n.lines]),
    )


def _rates(near: Sequence[Near], tuned: Near | None, r: int) -> tuple[RatesTuned | None, str]:
    if tuned and tuned.same_model:
        return rates_tuned(tuned.lines, r), "this model"
    family = [line for n in near if n.same_family for line in n.lines]
    if rates := rates_tuned(family, r):
        return rates, "this family"
    return rates_tuned([line for n in near if not n.line.study.own for line in n.lines], r), "all models"


def _by_evidence(findings: Findings, data: Data) -> int | None:
    """What the nearest tuned sweep needed, if it had no more examples than there are here."""
    line = findings.tuned_line
    if line is None or not (findings.tuned.same_model and findings.tuned.same_task):
        return None
    trained = line.study.examples
    if trained is None or data.examples is None or data.examples < trained:
        return None
    return line.smallest_within(TOLERANCE).rank


def _by_capacity(parameters: Callable[[int], int], data: Data, assume: Assumptions) -> int | None:
    """The rank that holds the data, the largest where none does. An upper bound does not change the rank."""
    if data.tokens is None or data.at_most:
        return None
    return smallest_that_holds(parameters, data.tokens, assume) or RANKS[-1]


def _to_try(rate: float, tuned: RatesTuned | None) -> tuple[float, ...]:
    """Half the rate, the rate, and twice it or what served tuned sweeps best, whichever is more."""
    return (rate / 2, rate, max(2 * rate, tuned.high if tuned else 0.0))
