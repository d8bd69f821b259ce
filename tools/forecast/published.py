"""The published forecast of a gap between two ranks, its left-out validation, and what does hold over published lines.

Half of the forecast is the rule of thumb with its errors, half no difference between ranks. Nothing is fitted but the
slope of the rule for losses, which have another unit than the rule. Both halves are pooled over all lines of a metric.
Publications weigh the same everywhere.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np

from rankviz.core.forecast.bands import ENOUGH_PUBLICATIONS, GRID, LEVELS, LOSS, REFERENCE_RANK, RankLine
from rankviz.core.studies.lines import Evidence

RULE_PER_OCTAVE, RULE_RANK = 0.5, 32
"""The rule of thumb as a number: so many points an octave below this rank, nothing above."""
DRAWS = 4000
"""Values in each half."""
LOW, HIGH = 16, 64
"""Ranks that are compared with the best one and with one another."""
NOISE = 2.0
"""Standard deviations of the difference of two values, 2.8 of one value, that count as noise."""
POINT, SHARE_OF_LOSS = 1.0, 0.5
"""A difference that matters: points of a score, % of a loss."""
TOO_LOW = 3.0
"""A learning rate that is too low by this factor is compared with a quarter of the rank."""
SOME = 2.0
"""Rates that lie nearer to the best one than this factor do not count."""
Statement = Callable[[RankLine], bool | None]


def grouped(pairs: Iterable[tuple[Hashable, Any]]) -> dict[Any, list[Any]]:
    """Values by key, in the order of the keys' first values."""
    groups = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups


class Mixture(NamedTuple):
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
        rows = np.array([np.percentile(self.shortfall(r, REFERENCE_RANK), [*map(float, LEVELS)]) for r in GRID])
        table = dict(zip(LEVELS, rows.T, strict=True))
        below = np.array(GRID) < REFERENCE_RANK
        table["50"] = np.where(below, np.maximum(table["50"], 0.0), np.minimum(table["50"], 0.0))
        return {level: [round(float(each), 4) for each in row] for level, row in table.items()}


def rule_gap(rank: int, highest: int) -> float:
    """What the rule of thumb says of this gap, in points."""
    return RULE_PER_OCTAVE * (np.log2(min(highest, RULE_RANK)) - np.log2(min(rank, RULE_RANK)))


def gaps(line: RankLine) -> list[tuple[int, float]]:
    """How far each rank below the highest falls short of it, so that no best value is selected."""
    return [(rank, line.values[-1] - value) for rank, value in zip(line.ranks[:-1], line.values[:-1], strict=True)]


def mixture(lines: Sequence[RankLine]) -> Mixture:
    """The forecast from these lines, all of one metric."""
    rows = [(line.publication, rule_gap(low, line.ranks[-1]), gap) for line in lines for low, gap in gaps(line)]
    names = [name for name, _, _ in rows]
    weights = np.array([1 / names.count(name) for name in names])
    by_rule, seen = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    slope = 1.0
    if lines[0].metric == LOSS:  # the slope through the origin with the least absolute error
        some = by_rule > 0
        slopes, pull = seen[some] / by_rule[some], weights[some] * by_rule[some]
        order = np.argsort(slopes)
        middle = np.searchsorted(np.cumsum(pull[order]), pull.sum() / 2)
        slope = float(slopes[order][middle]) if some.any() else 0.0
    either_sign = np.concatenate([seen, -seen]), np.concatenate([weights, weights])
    return Mixture(slope, _even(seen - slope * by_rule, weights), _even(*either_sign))


def _even(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """DRAWS values of a weighted sample."""
    order = np.argsort(values)
    levels = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    return np.interp((np.arange(DRAWS) + 0.5) / DRAWS, levels, values[order])


class Scored(NamedTuple):
    """One left-out point: a rank's gap to the highest rank of its line, and the errors (CRPS) of three forecasts."""

    publication: str
    kind: str
    gap: float
    place: float
    """Share of the forecast's draws below the gap; draws equal to it count half."""
    crps: float
    crps_rule: float
    crps_no_difference_band: float

    def inside(self, percent: int) -> bool:
        """Inside the central band of so many percent."""
        return abs(self.place - 0.5) <= percent / 200


def left_out(lines: Sequence[RankLine]) -> Iterator[Scored]:
    """Every point of every publication, forecast from the other publications. lines: all of one metric."""
    for name in sorted({line.publication for line in lines}):
        others = [line for line in lines if line.publication != name]
        if not others:
            return
        known = mixture(others)
        for line in (line for line in lines if line.publication == name):
            for rank, gap in gaps(line):
                draws = known.shortfall(rank, line.ranks[-1])
                yield Scored(
                    publication=name,
                    kind=line.kind,
                    gap=gap,
                    place=float((draws < gap).mean() + (draws == gap).mean() / 2),
                    crps=crps(draws, gap),
                    crps_rule=crps(known.rule(rank, line.ranks[-1]), gap),
                    crps_no_difference_band=crps(known.gaps, gap),
                )


def crps(draws: np.ndarray, value: float) -> float:
    """E|X - y| - E|X - X'| / 2 over draws of X."""
    ordered = np.sort(draws)
    number = len(ordered)
    apart = 2 * (np.arange(1, number + 1) - (number + 1) / 2) @ ordered / number**2
    return float(np.abs(ordered - value).mean() - apart)


def summary(kind: str, points: Sequence[Scored]) -> dict:
    """One row of the validation: shares over points, and errors as means over publications."""

    def mean(value: Callable[[Scored], float]) -> float:
        groups = grouped((point.publication, value(point)) for point in points)
        return round(float(np.mean([np.mean(groups[name]) for name in sorted(groups)])), 3)

    return {
        "kind": kind,
        "publications": len({point.publication for point in points}),
        "points": len(points),
        "inside_50": round(float(np.mean([point.inside(50) for point in points])), 3),
        "inside_80": round(float(np.mean([point.inside(80) for point in points])), 3),
        "inside_80_by_publication": mean(lambda point: point.inside(80)),
        "crps": mean(lambda point: point.crps),
        "crps_no_difference": mean(lambda point: abs(point.gap)),
        "crps_no_difference_band": mean(lambda point: point.crps_no_difference_band),
        "crps_rule": mean(lambda point: point.crps_rule),
    }


def counted(lines: Sequence[RankLine]) -> dict[str, list[dict]]:
    """Each sentence with a row over all scores, a row for each kind with enough publications, and one of losses.

    noise: median over the lines counted, in points.
    """
    scores = [line for line in lines if line.metric == "score"]
    kinds = sorted({line.kind for line in scores})

    def within_point(line: RankLine) -> bool | None:
        return shortfall(line) <= POINT if LOW in line.ranks else None

    def within_noise(line: RankLine) -> bool | None:
        noise = noise_at_low(line)
        return None if noise is None else shortfall(line) <= noise

    def worse(line: RankLine) -> bool | None:
        at = dict(zip(line.ranks, line.values, strict=True))
        if LOW not in at or HIGH not in at:
            return None
        return at[LOW] - at[HIGH] > (SHARE_OF_LOSS if line.metric == LOSS else POINT)

    def by_kind(holds: Statement) -> list[dict]:
        rows = [_row(kind, [line for line in scores if line.kind == kind], holds) for kind in kinds]
        return [_row("any", scores, holds), *(row for row in rows if row["publications"] >= ENOUGH_PUBLICATIONS)]

    def with_noise(row: dict) -> dict:
        noise = [noise_at_low(line) for line in scores if row["kind"] in ("any", line.kind)]
        known = [each for each in noise if each is not None]
        return {**row, "noise": round(median(known), 2) if known else None}

    losses = [line for line in lines if line.metric == LOSS]
    return {
        "low_within_point": by_kind(within_point),
        "low_within_noise": [with_noise(row) for row in by_kind(within_noise)],
        "high_worse": by_kind(worse),
        "high_worse_loss": [_row(LOSS, losses, worse)],
    }


def shortfall(line: RankLine) -> float:
    """How far LOW, which the line has, is short of its best rank."""
    return max(line.values) - line.values[line.ranks.index(LOW)]


def noise_at_low(line: RankLine) -> float | None:
    """NOISE standard deviations of the difference between LOW and the best rank. None where LOW was not run, the
    errors are not known, or noise is as large as the range of the line, so that no rank could differ by more."""
    if LOW not in line.ranks:
        return None
    errors = [line.standard_errors[place] for place in (line.ranks.index(LOW), line.values.index(max(line.values)))]
    noise = NOISE * math.hypot(*errors) if all(errors) else None
    return None if noise is None or noise >= max(line.values) - min(line.values) else noise


def _row(kind: str, lines: Sequence[RankLine], holds: Statement) -> dict:
    """left_out_error: how far the share of a publication is from that of all others, on average."""
    groups = grouped((line.publication, held) for line in lines if (held := holds(line)) is not None)
    shares = [fmean(each) for each in groups.values()]
    every = [held for each in groups.values() for held in each]
    others = [fmean([*shares[:place], *shares[place + 1 :]]) for place in range(len(shares)) if len(shares) > 1]
    return {
        "kind": kind,
        "publications": len(shares),
        "lines": len(every),
        "share": round(fmean(shares), 3) if shares else None,
        "share_of_lines": round(fmean(every), 3) if every else None,
        "left_out_error": round(fmean(abs(a - b) for a, b in zip(shares, others, strict=True)), 3) if others else None,
    }


def rate_and_rank(evidence: Evidence) -> dict | None:
    """What a rate that was too low cost beside a quarter of the rank, in lines that have losses at another rate too.

    Each model counts once, with the mean over its ranks. None where there is no such line.
    """
    by_model: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for line in evidence.published:
        at = {point.rank: point for point in line.points}
        for r, point in at.items():
            quarter, low = at.get(r / 4), point.reference_learning_rate
            if not point.is_loss or quarter is None or not low or not point.value_at_reference_rate:
                continue
            if (times := point.learning_rate / low) >= SOME:
                rate_cost = 100 * math.log(point.value_at_reference_rate / point.value)
                rank_cost = 100 * math.log(quarter.value / point.value)
                by_model[line.model.base_model].append((times, rate_cost, rank_cost))
    if not by_model:
        return None

    def worse(power: float) -> int:
        """Models in which the rate cost more, if loss rises with this power of the distance in log rate; 0: as seen."""
        near = lambda times: min(1.0, math.log(TOO_LOW) / math.log(times)) ** power  # noqa: E731
        return sum(fmean(near(times) * rate - rank for times, rate, rank in rows) > 0 for rows in by_model.values())

    every = [times for rows in by_model.values() for times, _, _ in rows]
    return {
        "models": len(by_model),
        "worse": worse(0),
        "times": [round(min(every), 1), round(max(every), 1)],
        "rate_cost": round(median(fmean(rate for _, rate, _ in rows) for rows in by_model.values()), 2),
        "rank_cost": round(median(fmean(rank for _, _, rank in rows) for rows in by_model.values()), 2),
        "worse_at_3": [worse(2), worse(1)],
    }
