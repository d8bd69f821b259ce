"""Counts over all published points, tabulated by `make forecast` (tools/forecast/counts.py), and over near ones."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from rankviz.core.studies.lines import Line

Alpha = Literal["fixed", "r", ""]
ALPHA_WORDS: dict[Alpha, str] = {"fixed": "with alpha fixed", "r": "with alpha = r", "": "without a stated alpha"}
NEAR_RANKS = 4
"""Up to so many times lower or higher, ranks of one line share their learning rates."""


class RateAgainstRank(NamedTuple):
    """Shares of a loss that the learning rate and the rank moved; medians over models."""

    rate: float
    rank: float
    models: int
    reference_learning_rate: float


class TargetsAgainstRank(NamedTuple):
    """Comparisons in which one study has the same base and task with narrow and with wide targets."""

    more_by_targets: int
    comparisons: int


class Share(NamedTuple):
    """Number of comparisons in which something held."""

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
