"""The curve of quality against rank: what is left of the gain from r = 4 to r = 64.

    quality(r) = limit - gain * left(r, bend)
    left(r, bend) = (r^-bend - 64^-bend) / (4^-bend - 64^-bend)

left is 1 at r = 4 and 0 at r = 64, below 0 above it. A small bend is nearly straight in log r, a large bend saturates
early. Where it comes from and how it fits published lines is in docs/forecast.md.
"""

LOW_RANK, HIGH_RANK = 4, 64
GRID = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Ranks that a forecast is tabulated at."""
REFERENCE_RANK = 128
"""A shortfall is counted from here."""


def left(r: float, bend: float) -> float:
    """The share of the gain from r = 4 to r = 64 that is still missing at r."""
    top = HIGH_RANK**-bend
    return (r**-bend - top) / (LOW_RANK**-bend - top)
