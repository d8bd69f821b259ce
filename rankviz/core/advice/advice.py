"""The recommended rank, alpha and learning rate.

The rank is the use case's: 32; 16 where the file must be small; 64 where quality counts more than the file. alpha is
scaled with the rank. Neither the model nor the amount of data changes it, because published lines do not show that they
determine the rank (docs/forecast.md). Only the goal to keep the base's abilities halves it: published trainings kept
more at smaller ranks. The learning rate is the use case's, clipped to the range of best rates in the nearest tuned
sweep. words.py has the sentences.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rankviz.core.advice.use_case import DataAmount, Goal, UseCase, use_case
from rankviz.core.quantity import Assumptions
from rankviz.core.runs.request import RATE_FACTOR, RATE_RANKS
from rankviz.core.studies import lines as counts
from rankviz.core.studies.lines import FACETS, RL, Evidence, Line, Near, Study, Subject, nearest_drawn

SMALLEST = 16
"""Lowest rank to which the goal to keep the base's abilities may halve the recommended rank."""
(FIRST_RANK,) = RATE_RANKS
"""Rank at which the learning rate is tuned first, with two rates that differ by RATE_FACTOR."""
NEAREST_SHOWN = 3
ENOUGH_RAN = 3
"""Number of publications with both ranks from which the gain of doubling a rank counts as measured."""


class Capacity(NamedTuple):
    """Capacity of an adapter beside the size of the data, after LoRA Without Regret (Schulman et al. 2025): parameters
    times bits per parameter, against tokens times loss in bits (assumptions.json).

    It does not change the recommended rank: ranks chosen by it did no better than the advice on scores, and worse on
    losses (tools/forecast/regret.py; 2 publications each).
    """

    r: int
    parameters: int
    holds_tokens: int
    """Number of tokens that fill the adapter's capacity."""
    tokens: int | None
    at_most: bool
    bits_per_parameter: float
    bits_per_token: float
    enough: bool | None
    filled: float | None
    """Share of the capacity that the data fills; like `enough` None where the size of the data is unknown."""
    holds_from: None = None
    """Always None; kept for readers of earlier versions."""


def capacity(r: int, parameters: int, tokens: int | None, at_most: bool, assume: Assumptions) -> Capacity:
    """Return the capacity of an adapter with this number of parameters, beside the tokens of the data."""
    per_token, per_parameter = assume.value("capacity-bits-per-token"), assume.value("capacity-bits-per-parameter")
    holds = math.floor(parameters * per_parameter / per_token)
    used = (None, None) if tokens is None else (tokens <= holds, tokens / holds)
    return Capacity(r, parameters, holds, tokens, at_most, per_parameter, per_token, *used)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mean:
    """Mean over publications, with its 90 % interval (low to high)."""

    mean: float
    low: float
    high: float
    publications: int
    lines: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Alternative:
    """Regret of one rule for choosing a rank (the advice, a fixed rank, or capacity): how much worse the rank that it
    chose did than the best tested rank. score: In points. loss: In % of the loss."""

    rule: str
    mean_rank: float
    score: Mean
    more: tuple[float, float, float]
    """Regret of this rule minus the advice's, in points, on lines that reach its rank: mean and 90 % interval."""
    over_one_point: float
    """Share of publications in which the best rank was more than one point better than this rule's rank."""
    loss: Mean


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """Results of rules and of ranks over the published lines: sections of assets/forecast.json."""

    alternatives: tuple[Alternative, ...]
    """Results of each rule, the advice first. Each publication was left out in turn."""
    gains: dict[str, dict[str, Mean]]
    """Points gained by doubling a rank: {kind of task ("all": every): {rank as text: mean over publications}}."""
    targets: dict[str, int] | None
    """Counts: `comparisons` of narrow and wide target modules on one base and task, and `more_by_targets`, those in
    which wider targets gained more than a higher rank."""
    rates: counts.RatesTuned | None
    """Range of the best learning rates near FIRST_RANK, over all tuned sweeps."""

    def gain(self, kind: str, r: int) -> Mean | None:
        """Return the gain of doubling rank r; None where fewer than ENOUGH_RAN publications ran both ranks."""
        return self.gains[kind][str(r)] if self.ran(kind, r) >= ENOUGH_RAN else None

    def ran(self, kind: str, r: int) -> int:
        """Return the number of publications that ran both r and 2r."""
        row = self.gains.get(kind, {}).get(str(r))
        return row.publications if row else 0

    def regret(self, rule: str) -> Alternative:
        return next(each for each in self.alternatives if each.rule == rule)


@dataclass(frozen=True, kw_only=True)
class RankAdvice:
    """The recommended settings and the evidence for them."""

    case: UseCase
    goal: Goal
    data: DataAmount
    shown: tuple[Near, ...]
    """Nearest base model of each of a few studies; for reinforcement learning, of every study."""
    other_studies: tuple[Study, ...]
    """Studies of reinforcement learning without a line over ranks; their caveats state the results."""
    retention: counts.Share | None
    """Number of trainings in which the smallest rank kept more of the base's abilities than the largest."""
    record: Record
    r: int
    """Recommended rank; lower than the use case's where the base must keep its abilities."""
    capacity: Capacity | None
    """Capacity of the adapter; None where layers are unknown, and for reinforcement learning."""
    equal_ranks: Mapping[str, Mapping[int, float]]
    """For studies with another MoE scheme, by study id: {rank of the study: rank here with as many parameters}."""
    rates: counts.RatesTuned | None
    """Range of the best learning rates near FIRST_RANK; None where no tuned sweep applies to this use case."""

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
        """The two learning rates to try first, at FIRST_RANK."""
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
    """Return the recommended settings and the evidence for them. parameters: Returns the parameters at a rank of an
    adapter on all linear layers; None where layers are not known. equal_ranks: Returns, for a line with another MoE
    scheme, {its rank: rank here with as many parameters}."""
    case = use_case(goal.use_case)
    rl = RL in case.task_kinds
    drawn = nearest_drawn(evidence, subject, ("lora",), FACETS)
    near = [each for each in drawn if (each.line.study.task_kind == RL) is rl]
    first: dict[str, Near] = {}
    for each in near:
        first.setdefault(each.line.study.study_id, each)
    shown = tuple(first.values())[: None if rl else NEAREST_SHOWN]
    of_rl = [study for study in evidence.studies.values() if rl and study.task_kind == RL]
    retention = counts.kept_by_rank(evidence, subject)
    r = case.r
    if goal.forgetting and retention and 2 * retention.count > retention.comparisons and r > SMALLEST:
        r = max(SMALLEST, case.r // 2)
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
        capacity=capacity(r, parameters(r), data.tokens, data.at_most, assume) if parameters and not rl else None,
        equal_ranks={each.line.study.study_id: equal_ranks(each.scheme_line) for each in shown if each.scheme_line},
        rates=next(nearest_rates, record.rates) if case.rates_of_instruction else None,
    )
