"""Left-out validation of the published forecast: each publication forecast from the others.

Compared is the signed gap of each rank to the highest rank of its line, so that no best value is selected.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rankviz.core.forecast.lines import RankLine
from rankviz.worker.assets.forecast.rule import gaps, mixture


@dataclass(frozen=True)
class Scored:
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
        for line in lines:
            if line.publication == name:
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
    publications = sorted({point.publication for point in points})

    def mean(value: Callable[[Scored], float]) -> float:
        each = [np.mean([value(point) for point in points if point.publication == name]) for name in publications]
        return round(float(np.mean(each)), 3)

    return {
        "kind": kind,
        "publications": len(publications),
        "points": len(points),
        "inside_50": round(float(np.mean([point.inside(50) for point in points])), 3),
        "inside_80": round(float(np.mean([point.inside(80) for point in points])), 3),
        "inside_80_by_publication": mean(lambda point: point.inside(80)),
        "crps": mean(lambda point: point.crps),
        "crps_no_difference": mean(lambda point: abs(point.gap)),
        "crps_no_difference_band": mean(lambda point: point.crps_no_difference_band),
        "crps_rule": mean(lambda point: point.crps_rule),
    }
