"""The rule of thumb as a forecast: half a point an octave below r = 32, with its errors on other lines as a band."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rankviz.core.forecast.lines import RankLine

RULE_PER_OCTAVE, RULE_RANK = 0.5, 32
"""The rule of thumb as a number: so many points an octave below this rank, nothing above."""


@dataclass(frozen=True)
class Rule:
    """The rule, and how far off it was on lines that are known."""

    slope: float
    """Factor on the rule: 1 for scores. Losses are in another unit than the rule, so it is fitted there."""
    errors: np.ndarray
    """Observed gap minus the rule's, rising."""
    levels: np.ndarray
    """Of each error, the share of weight below it."""

    def shortfall(self, rank: int, reference: int, draws: int) -> np.ndarray:
        """So many values, evenly spaced in probability, of how far a rank falls short of another."""
        if rank == reference:
            return np.zeros(draws)
        if rank > reference:
            return -self.shortfall(reference, rank, draws)
        spread = np.interp((np.arange(draws) + 0.5) / draws, self.levels, self.errors)
        return self.slope * rule_gap(rank, reference) + spread


def rule_gap(rank: int, highest: int) -> float:
    """What the rule of thumb says of this gap, in points."""
    return RULE_PER_OCTAVE * (np.log2(min(highest, RULE_RANK)) - np.log2(min(rank, RULE_RANK)))


def gaps(line: RankLine) -> list[tuple[int, float]]:
    """How far each rank below the highest falls short of it."""
    return [(rank, line.values[-1] - value) for rank, value in zip(line.ranks[:-1], line.values[:-1], strict=True)]


def fitted_rule(lines: Sequence[RankLine], part: Callable[[RankLine], str] = lambda line: line.publication) -> Rule:
    """The rule with its errors on these lines, all of one metric. Each part weighs the same."""
    rows = [(part(line), rule_gap(low, line.ranks[-1]), gap) for line in lines for low, gap in gaps(line)]
    names = [name for name, _, _ in rows]
    weights = np.array([1 / names.count(name) for name in names])
    by_rule, seen = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    slope = 1.0 if lines[0].metric == "score" else _median_slope(by_rule, seen, weights)
    errors = seen - slope * by_rule
    order = np.argsort(errors)
    levels = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    return Rule(slope, errors[order], levels)


def _median_slope(by_rule: np.ndarray, seen: np.ndarray, weights: np.ndarray) -> float:
    """The slope with the least absolute error, through the origin."""
    some = by_rule > 0
    if not some.any():
        return 0.0
    slopes, pull = seen[some] / by_rule[some], weights[some] * by_rule[some]
    order = np.argsort(slopes)
    return float(slopes[order][np.searchsorted(np.cumsum(pull[order]), pull.sum() / 2)])
