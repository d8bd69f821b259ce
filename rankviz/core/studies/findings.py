"""Counts over the published points. No result is written down here: without a study the counts change.

Each function takes lines (core.studies.lines) and returns numbers, or None where no line has them; rate_by_rank takes
the best learning rates of sweeps that tuned them at several ranks.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rankviz.core.studies.lines import Line

Alpha = Literal["fixed", "r", ""]
ALPHA_WORDS: dict[Alpha, str] = {"fixed": "with alpha fixed", "r": "with alpha = r", "": "without a stated alpha"}
SWEPT_TO = 64
"""A tuned sweep of losses reaches at least this rank."""
NEAR_RANKS = 4
"""Up to so many times lower or higher, ranks of one line share their learning rates."""


class RateAgainstRank(NamedTuple):
    """How much of a loss the learning rate moved, and how much rank did, as shares; medians over models."""

    rate: float
    rank: float
    models: int
    reference_learning_rate: float


class TargetsAgainstRank(NamedTuple):
    """Comparisons in which one study has the same base and task with narrow and with wide targets."""

    more_by_targets: int
    comparisons: int


class Share(NamedTuple):
    """In how many of so many comparisons something held."""

    count: int
    comparisons: int
    line: Line
    """The longest training of the nearest study."""


class RatesTuned(NamedTuple):
    """The best of the learning rates tried, at ranks near the requested one."""

    ranks: tuple[int, ...]
    low: float
    high: float
    models: int


def tuned_losses(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Held-out losses whose learning rate was tuned at each rank, one line a model, swept up to SWEPT_TO or higher."""
    return tuple(
        line
        for line in lines
        if line.first.role == "main"
        and line.first.method == "lora"
        and line.study.learning_rate_tuned_per_rank
        and line.first.is_loss
        and max(line.ranks) >= SWEPT_TO
        and len(line.points) > 1
    )


def rate_against_rank(lines: Sequence[Line]) -> RateAgainstRank | None:
    """How far an untuned rate is from the best rate (at the largest rank), and the smallest rank from the best rank."""
    tuned = [line for line in tuned_losses(lines) if line.points[-1].value_at_reference_rate is not None]
    if not tuned:
        return None
    largest = [line.points[-1] for line in tuned]
    return RateAgainstRank(
        rate=statistics.median(point.value_at_reference_rate / point.value - 1 for point in largest),
        rank=statistics.median(line.points[0].value / line.best.value - 1 for line in tuned),
        models=len(tuned),
        reference_learning_rate=statistics.median(point.reference_learning_rate for point in largest),
    )


def targets_against_rank(lines: Sequence[Line]) -> TargetsAgainstRank | None:
    """How often wider targets gained more than a higher rank on narrow ones.

    Narrow and wide lines share study, base, task, metric, method and length, and their ranks from the smallest to the
    largest of the narrow one. Compared: the wide line at the smallest rank with the narrow line at its best.
    """
    by_task: dict[tuple, list[Line]] = {}
    for line in lines:
        first = line.first
        if first.role == "main" and first.method == "lora":
            key = (first.study_id, first.base_model, first.task, first.metric, first.duration, first.run_date)
            by_task.setdefault(key, []).append(line)
    compared = []
    for group in by_task.values():
        narrow, wide = min(group, key=_width), max(group, key=_width)
        common = set(narrow.ranks) & set(wide.ranks)
        if common and len(narrow.points) > 1 and _width(wide) > _width(narrow):
            start = next(point for point in wide.points if point.rank == min(common))
            compared.append(narrow.short_of_best(start.value) < 0)
    return TargetsAgainstRank(sum(compared), len(compared)) if compared else None


def _width(line: Line) -> float:
    """Count the kinds of modules that are named; "all …" is more than any list."""
    targets = line.first.target_modules
    return math.inf if targets.startswith("all") else len(targets.split(","))


def kept_by_rank(nearest_first: Sequence[Line]) -> Share | None:
    """Count the lines of forgetting whose smallest rank kept more of the base than the largest."""

    def better(line: Line) -> bool:
        small, large = line.points[0].value, line.points[-1].value
        return small != large and (small > large) is line.first.higher_is_better

    return _share([x for x in nearest_first if x.first.role == "forgetting" and len(x.points) > 1], better)


def short_of_full(nearest_first: Sequence[Line]) -> Share | None:
    """Count the lines whose best rank was worse than full fine-tuning of the same base on the same data."""
    lines = [line for line in nearest_first if line.full is not None and line.first.role == "main"]
    return _share(lines, lambda line: line.short_of_best(line.full.value) < 0)


def _share(lines: Sequence[Line], holds: Callable[[Line], bool]) -> Share | None:
    if not lines:
        return None
    same_pair = [line for line in lines if (line.study, line.model) == (lines[0].study, lines[0].model)]
    return Share(sum(map(holds, lines)), len(lines), same_pair[-1])


def rates_tuned(lines: Sequence[Line], r: int) -> RatesTuned | None:
    """The best learning rates of tuned lines at the rank nearest to r (by ratio; of two the smaller).

    Only ranks that many models ran: at least half as many as ran the most frequent rank.
    """
    points = [
        point
        for line in lines
        if line.study.learning_rate_tuned_per_rank and line.first.method == "lora" and line.first.role == "main"
        for point in line.points
        if point.learning_rate is not None
    ]
    if not points:
        return None
    models = Counter(rank for rank, _ in {(point.rank, point.base_model) for point in points})
    often = [rank for rank, count in models.items() if 2 * count >= max(models.values())]
    near = min(often, key=lambda rank: (max(rank / r, r / rank), rank))
    rates = [point.learning_rate for point in points if point.rank == near]
    return RatesTuned((near,), min(rates), max(rates), models[near])


def rates_of_line(line: Line, r: int) -> RatesTuned | None:
    """The best learning rates of one tuned line at its ranks up to NEAR_RANKS times below or above r, or else at its
    rank nearest to r; None where the study did not tune them at each rank.

    With alpha / r as the scale, the best rate hardly depends on the rank (LoRA Without Regret, Schulman et al. 2025),
    and a grid of three or four rates, run once, does not place it more exactly than between those ranks' best rates.
    """
    points = [point for point in line.points if point.learning_rate is not None]
    if not line.study.learning_rate_tuned_per_rank or not points:
        return None
    times = {point.rank: max(point.rank / r, r / point.rank) for point in points}
    within = max(NEAR_RANKS, min(times.values()))
    chosen = [point for point in points if times[point.rank] <= within]
    rates = [point.learning_rate for point in chosen]
    return RatesTuned(tuple(point.rank for point in chosen), min(rates), max(rates), 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class BestRate:
    """The best of the learning rates that a sweep tried at one rank."""

    study_id: str
    base_model: str
    task: str
    method: str
    rank: int
    alpha: Alpha
    """How alpha goes with the rank: one alpha for all, alpha = r, or not stated."""
    best_learning_rate: float
    learning_rates: str
    """Those tried, as the study gives them."""
    value: str
    """What the best one reached."""
    source: str
    notes: str
    checked: str


class RateByRank(NamedTuple):
    """The best learning rate at a sweep's highest rank over that at its lowest, for sweeps with one policy of alpha."""

    alpha: Alpha
    sweeps: int
    median: float
    low: float
    high: float

    @property
    def in_words(self) -> str:
        which = f"{self.sweeps} sweeps" if self.sweeps > 1 else "one sweep"
        times = f"{self.median:.2g} times" if self.median != 1 else "equal to"
        spread = f" (median; {self.low:.2g} to {self.high:.2g} times)" if self.sweeps > 1 else ""
        return (
            f"In {which} {ALPHA_WORDS[self.alpha]}, the best learning rate at the highest rank was {times} that at the "
            f"lowest{spread}."
        )


def rate_by_rank(rates: Iterable[BestRate]) -> tuple[RateByRank, ...]:
    """One count per policy of alpha, those with most sweeps first; sweeps of one rank say nothing."""
    sweeps: dict[tuple, list[BestRate]] = {}
    for each in rates:
        sweeps.setdefault((each.study_id, each.base_model, each.task, each.method, each.alpha), []).append(each)
    times: dict[Alpha, list[float]] = {}
    for sweep in sweeps.values():
        lowest, highest = min(sweep, key=lambda each: each.rank), max(sweep, key=lambda each: each.rank)
        if lowest.rank < highest.rank:
            times.setdefault(lowest.alpha, []).append(highest.best_learning_rate / lowest.best_learning_rate)
    counts = [RateByRank(alpha, len(x), statistics.median(x), min(x), max(x)) for alpha, x in times.items()]
    return tuple(sorted(counts, key=lambda count: -count.sweeps))
