"""The recommended rank and learning rate.

The rank is the use case's: 32, or 16 where the file must be small, or 64 where quality counts more than the file; alpha
is scaled with it. Neither the model nor the size of the data moves it: published lines do not show that they tell the
rank (docs/forecast.md). Only the wish to keep the base's abilities halves it, where published trainings kept more at
smaller ranks. The learning rate is the use case's, moved into the range of what was best in the nearest tuned sweep.
The sentences are in words.py.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from rankviz.core.advice.use_case import DataAmount, Goal, UseCase, use_case
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.runs.request import RATE_FACTOR, RATE_RANKS
from rankviz.core.studies import lines as counts
from rankviz.core.studies.lines import FACETS, RL, Evidence, Line, Near, Study, Subject, drawn_lines, nearest

SMALLEST = 16
"""Halving the rank to keep the base's abilities goes no lower than this."""
(FIRST_RANK,) = RATE_RANKS
"""Rank at which the learning rate is tuned first, at two rates a factor RATE_FACTOR apart."""
NEAREST_SHOWN = 3
ENOUGH_RAN = 3
"""Publications that must have run both ranks before the gain of a doubling counts as measured."""


class Capacity(NamedTuple):
    """Parameters of an adapter compared with the tokens of the data, after LoRA Without Regret (Schulman et al. 2025):
    capacity is parameters times bits per parameter, demand is tokens times loss in bits (assumptions.json).

    It does not change the recommended rank: as a rule it did worse than one rank for all (tools/forecast/regret.py).
    """

    r: int
    parameters: int
    holds_tokens: int
    """Number of tokens that fill the capacity."""
    tokens: int | None
    at_most: bool
    bits_per_parameter: float
    bits_per_token: float
    enough: bool | None
    filled: float | None
    """Share of the capacity that the data fills; None, as for `enough`, where the data's size is unknown."""
    holds_from: None = None
    """Always None; kept for readers of earlier versions."""


def capacity(r: int, parameters: int, tokens: int | None, at_most: bool, assume: Assumptions) -> Capacity:
    """Return the capacity of an adapter with so many parameters, beside the tokens of the data."""
    per_token, per_parameter = assume.value("capacity-bits-per-token"), assume.value("capacity-bits-per-parameter")
    holds = math.floor(parameters * per_parameter / per_token)
    used = (None, None) if tokens is None else (tokens <= holds, tokens / holds)
    return Capacity(r, parameters, holds, tokens, at_most, per_parameter, per_token, *used)


class Mean(NamedTuple):
    """Mean over publications, with the ends of its 90 % interval."""

    mean: float
    low: float
    high: float
    publications: int
    lines: int


class Alternative(NamedTuple):
    """Results of a rule for choosing a rank: advice, one rank for all, or capacity. Scores in points, losses in %."""

    rule: str
    mean_rank: float
    score: Mean
    more: tuple[float, float, float]
    """Points by which the rule's regret exceeds the advice's, on lines that reach its rank: mean and 90 % interval."""
    over_one_point: float
    """Share of publications whose best rank was more than one point better than the rule's."""
    loss: Mean


class Record(NamedTuple):
    """Results of rules and ranks over the published lines (tools/forecast/regret.py)."""

    alternatives: tuple[Alternative, ...]
    """Results by rule, first the advice; each publication was left out in turn."""
    gains: Mapping[str, Mapping[int, Mean]]
    """Points gained by doubling a rank, over publications with both; by kind of task ("all": every) and rank."""
    targets: Mapping[str, int] | None = None
    """`comparisons` of narrow and wide targets on one base and task, in `more_by_targets` of which targets gained more
    than rank."""
    rates: counts.RatesTuned | None = None
    """Best learning rates near FIRST_RANK, over all tuned sweeps."""

    def gain(self, kind: str, r: int) -> Mean | None:
        """Return the gain of doubling rank r; None where fewer than ENOUGH_RAN publications ran both ranks."""
        return self.gains[kind][r] if self.ran(kind, r) >= ENOUGH_RAN else None

    def ran(self, kind: str, r: int) -> int:
        """Return the number of publications that ran both r and 2r."""
        row = self.gains.get(kind, {}).get(r)
        return row.publications if row else 0

    def regret(self, rule: str) -> Alternative:
        return next(each for each in self.alternatives if each.rule == rule)


def record_of(section: Mapping[str, Any], counted: Mapping[str, Any] = MappingProxyType({})) -> Record:
    """Read the sections "advice" and "counts" of assets/forecast.json."""

    def mean(row: Mapping[str, Any], name: str) -> Mean:
        return Mean(*row[name], row["publications"], row["lines"])

    rates = counted.get("rates_tuned")
    return Record(
        tuple(
            Alternative(
                rule=row["rule"],
                mean_rank=score["mean_rank"],
                score=mean(score, "regret"),
                more=tuple(score["more"]),
                over_one_point=score["over_one"],
                loss=mean(row["loss"], "regret"),
            )
            for row in section["alternatives"]
            for score in [row["score"]]
        ),
        {kind: {int(r): mean(row, "gain") for r, row in rows.items()} for kind, rows in section["gains"].items()},
        targets=counted.get("targets_against_rank"),
        rates=counts.RatesTuned(**rates) if rates else None,
    )


class Step(NamedTuple):
    """One change of the recommended rank. why: "forgetting"."""

    why: str
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class RankAdvice:
    """The recommended settings, and the evidence for them."""

    case: UseCase
    goal: Goal
    data: DataAmount
    shown: tuple[Near, ...]
    """Nearest base model of each of a few studies; for reinforcement learning, of every study."""
    other_studies: tuple[Study, ...]
    """Studies of reinforcement learning without a line over ranks; their caveat states the result."""
    retention: counts.Share | None
    """Count of trainings in which the smallest rank kept more of the base's abilities than the largest."""
    record: Record
    r: int
    steps: tuple[Step, ...]
    capacity: Capacity | None
    """None where the layers are not known, and for reinforcement learning (its data teach far less)."""
    equal_ranks: Mapping[str, Mapping[int, float]]
    """Ranks of a study with another MoE scheme, by its id, each with the rank here of equal parameters."""
    rates: counts.RatesTuned | None
    """Best learning rates near FIRST_RANK; None where no tuned sweep applies to this use case."""

    @property
    def lora_alpha(self) -> int:
        return self.r

    @property
    def learning_rate(self) -> float:
        """Recommended learning rate, also for training and exports: the use case's, clipped to `rates`."""
        rates, usual = self.rates, self.case.learning_rate
        return usual if rates is None else min(max(usual, rates.low), rates.high)

    @property
    def learning_rates(self) -> tuple[float, float]:
        """Two learning rates to try first, at FIRST_RANK."""
        return self.learning_rate, float(f"{RATE_FACTOR * self.learning_rate:.2g}")


def advise(
    evidence: Evidence,
    record: Record,
    subject: Subject,
    goal: Goal,
    data: DataAmount,
    parameters: Callable[[int], int] | None,
    assume: Assumptions,
    equal_ranks: Callable[[Line], Mapping[int, float]] = lambda line: {},
) -> RankAdvice:
    """Return the recommended settings and the evidence for them. parameters: function from rank to parameters of an
    adapter on all linear layers; None where the layers are not known. equal_ranks: function from a line with another
    MoE scheme to its ranks, each with the rank here of equal parameters."""
    case = use_case(goal.use_case)
    rl = RL in case.task_kinds
    lines = [x for x in drawn_lines(evidence, ("lora",), FACETS) if (x.study.task_kind == RL) is rl]
    near, published = nearest(lines, subject), evidence.published
    first: dict[str, Near] = {}
    for each in near:
        first.setdefault(each.line.study.study_id, each)
    shown = tuple(first.values())[: None if rl else NEAREST_SHOWN]
    of_rl = [study for study in evidence.studies.values() if rl and study.task_kind == RL]
    forgetting = nearest([line for line in published if line.first.role == "forgetting"], subject)
    retention = counts.kept_by_rank([line for each in forgetting for line in each.lines])
    r, steps = case.r, ()
    if goal.forgetting and retention and 2 * retention.count > retention.comparisons and r > SMALLEST:
        r = max(SMALLEST, case.r // 2)
        steps = (Step("forgetting", case.r, r),)
    family = [line for each in near if each.same_family and each.line.study.counted for line in each.lines]
    nearest_rates = (rates for line in family if (rates := counts.rates_of_line(line, FIRST_RANK)))
    return RankAdvice(
        case=case,
        goal=goal,
        data=data,
        shown=shown,
        other_studies=tuple(study for study in of_rl if study.study_id not in first),
        retention=retention,
        record=record,
        r=r,
        steps=steps,
        capacity=capacity(r, parameters(r), data.tokens, data.at_most, assume) if parameters and not rl else None,
        equal_ranks={each.line.study.study_id: equal_ranks(each.scheme_line) for each in shown if each.scheme_line},
        rates=next(nearest_rates, record.rates) if case.rates_of_instruction else None,
    )
