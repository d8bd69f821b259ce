"""The middle of a few repeated measurements, and how well it is known."""

from collections.abc import Sequence


def middle(values: Sequence[float]) -> float:
    """The median."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def median_error(values: Sequence[float]) -> float:
    """Standard error of the median, from the median distance to it (1.48 of which is a standard deviation for normal
    noise, and 1.25 of that over the root of the count the median's error); 0 for a single value."""
    if len(values) < 2:
        return 0.0
    centre = middle(values)
    return 1.25 * 1.48 * middle([abs(value - centre) for value in values]) / len(values) ** 0.5
