"""Predictions of left-out points, and how a band did: the share inside, and the error of the whole band (CRPS)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scored:
    """One left-out point: a rank's signed gap to the highest rank of its line, and what two bands said of it."""

    publication: str
    kind: str
    study_id: str
    rank: int
    gap: float
    place: float
    """Share of the forecast's draws below the gap."""
    crps: float
    median_error: float
    crps_rule: float
    crps_curve: float

    def inside(self, percent: int) -> bool:
        """Inside the central band of so many percent."""
        return abs(self.place - 0.5) <= percent / 200


def crps(draws: np.ndarray, value: float) -> float:
    """E|X - y| - E|X - X'| / 2 over draws of X."""
    ordered = np.sort(draws)
    number = len(ordered)
    apart = 2 * (np.arange(1, number + 1) - (number + 1) / 2) @ ordered / number**2
    return float(np.abs(ordered - value).mean() - apart)


def place_of(draws: np.ndarray, value: float) -> float:
    """Share of draws below the value; draws equal to it count half."""
    return float((draws < value).mean() + (draws == value).mean() / 2)


def summary(kind: str, points: Sequence[Scored]) -> dict:
    """One row of the validation: shares over points, and errors as means over publications."""
    by_publication = _grouped(points)
    return {
        "kind": kind,
        "publications": len(by_publication),
        "points": len(points),
        "inside_50": _round(np.mean([point.inside(50) for point in points])),
        "inside_80": _round(np.mean([point.inside(80) for point in points])),
        "inside_80_by_publication": _mean(by_publication, lambda point: point.inside(80)),
        "crps": _mean(by_publication, lambda point: point.crps),
        "crps_no_difference": _mean(by_publication, lambda point: abs(point.gap)),
        "crps_rule": _mean(by_publication, lambda point: point.crps_rule),
        "crps_curve": _mean(by_publication, lambda point: point.crps_curve),
        "median_error": _mean(by_publication, lambda point: point.median_error),
    }


def _grouped(points: Iterable[Scored]) -> dict[str, list[Scored]]:
    groups: dict[str, list[Scored]] = {}
    for point in points:
        groups.setdefault(point.publication, []).append(point)
    return groups


def _mean(groups: dict[str, list[Scored]], value) -> float:
    return _round(np.mean([np.mean([value(point) for point in points]) for points in groups.values()]))


def _round(value: float) -> float:
    return round(float(value), 3)
