"""The published forecast of a gap between two ranks: half the rule of thumb with its errors, half no difference.

Nothing is fitted but the slope of the rule for losses, which have another unit than the rule. Both halves are pooled
over all lines of a metric, with the same weight for each publication.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rankviz.core.forecast.bands import LEVELS
from rankviz.core.forecast.curve import GRID, REFERENCE_RANK
from rankviz.core.forecast.lines import RankLine

RULE_PER_OCTAVE, RULE_RANK = 0.5, 32
"""The rule of thumb as a number: so many points an octave below this rank, nothing above."""
DRAWS = 4000
"""Values in each half."""
DIGITS = 4


@dataclass(frozen=True)
class Mixture:
    """The forecast of one metric; each half has DRAWS values, evenly spaced in probability."""

    slope: float
    """Factor on the rule of thumb: 1 for scores."""
    errors: np.ndarray
    """Published gaps minus the rule's."""
    gaps: np.ndarray
    """Published gaps of either sign: as far above no difference as below it."""

    def rule(self, rank: int, reference: int) -> np.ndarray:
        """Draws of how far a rank falls short of a higher one, by the rule of thumb with a band."""
        return self.slope * rule_gap(rank, reference) + self.errors

    def shortfall(self, rank: int, reference: int) -> np.ndarray:
        """Draws of how far a rank falls short of another one, from both halves."""
        if rank == reference:
            return np.zeros(2 * DRAWS)
        low, high = sorted((rank, reference))
        both = np.concatenate([self.rule(low, high), self.gaps])
        return both if rank < reference else -both

    def quantiles(self) -> dict[str, list[float]]:
        """Shortfall from the reference rank at each rank of GRID, by level. The median never has the other sign."""
        levels = [float(level) for level in LEVELS]
        rows = np.array([np.percentile(self.shortfall(r, REFERENCE_RANK), levels) for r in GRID])
        table = dict(zip(LEVELS, rows.T, strict=True))
        below = np.array(GRID) < REFERENCE_RANK
        table["50"] = np.where(below, np.maximum(table["50"], 0.0), np.minimum(table["50"], 0.0))
        return {level: [round(float(each), DIGITS) for each in row] for level, row in table.items()}


def rule_gap(rank: int, highest: int) -> float:
    """What the rule of thumb says of this gap, in points."""
    return RULE_PER_OCTAVE * (np.log2(min(highest, RULE_RANK)) - np.log2(min(rank, RULE_RANK)))


def gaps(line: RankLine) -> list[tuple[int, float]]:
    """How far each rank below the highest falls short of it."""
    return [(rank, line.values[-1] - value) for rank, value in zip(line.ranks[:-1], line.values[:-1], strict=True)]


def mixture(lines: Sequence[RankLine]) -> Mixture:
    """The forecast from these lines, all of one metric."""
    rows = [(line.publication, rule_gap(low, line.ranks[-1]), gap) for line in lines for low, gap in gaps(line)]
    names = [name for name, _, _ in rows]
    weights = np.array([1 / names.count(name) for name in names])
    by_rule, seen = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    slope = 1.0 if lines[0].metric == "score" else _median_slope(by_rule, seen, weights)
    return Mixture(
        slope,
        _even(seen - slope * by_rule, weights),
        _even(np.concatenate([seen, -seen]), np.concatenate([weights, weights])),
    )


def _even(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """DRAWS values of a weighted sample."""
    order = np.argsort(values)
    levels = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    return np.interp((np.arange(DRAWS) + 0.5) / DRAWS, levels, values[order])


def _median_slope(by_rule: np.ndarray, seen: np.ndarray, weights: np.ndarray) -> float:
    """The slope with the least absolute error, through the origin."""
    some = by_rule > 0
    if not some.any():
        return 0.0
    slopes, pull = seen[some] / by_rule[some], weights[some] * by_rule[some]
    order = np.argsort(slopes)
    return float(slopes[order][np.searchsorted(np.cumsum(pull[order]), pull.sum() / 2)])
