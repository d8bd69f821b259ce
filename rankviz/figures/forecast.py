"""A forecast of quality by rank as traces: the 80 % band, the 50 % band and the median. Estimated is never a marker."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rankviz.figures.style import ESTIMATED, rgba

OUTER, INNER = "80 % band", "50 % band"


class ForecastRank(Protocol):
    """A band at one rank, in the figure's unit."""

    r: int
    median: float
    low_50: float | None
    """None where only the median is known, as the other ends are then."""
    high_50: float | None
    low_80: float | None
    high_80: float | None


def bands(
    ranks: Sequence[ForecastRank], xs: Mapping[int, float] | None = None, *, unit: str = "nats"
) -> list[dict[str, Any]]:
    """The two bands where they are known, and the median; nothing without ranks.

    Args:
        ranks: The band by rank.
        xs: Where each rank lies on the x axis; by default at itself.
        unit: Of the values, for the hover.
    """
    if not ranks:
        return []
    places = [xs[rank.r] if xs else rank.r for rank in ranks]
    fills = [
        _band(places, [(rank.low_80, rank.high_80) for rank in ranks], OUTER, 0.16),
        _band(places, [(rank.low_50, rank.high_50) for rank in ranks], INNER, 0.26),
    ]
    return [
        *(fills if all(rank.low_80 is not None for rank in ranks) else ()),
        {
            "type": "scatter",
            "x": places,
            "y": [rank.median for rank in ranks],
            "mode": "lines",
            "name": "median",
            "line": {"color": ESTIMATED, "width": 2},
            "hovertext": [_words(rank, unit) for rank in ranks],
            "hoverinfo": "text",
        },
    ]


def _words(rank: ForecastRank, unit: str) -> str:
    median = f"<b>r = {rank.r}</b><br>median {rank.median:.3g} {unit}"
    if rank.low_80 is None:
        return median
    inner, outer = (
        f"{low:.3g} to {high:.3g}" for low, high in ((rank.low_50, rank.high_50), (rank.low_80, rank.high_80))
    )
    return f"{median}<br>{INNER} {inner}<br>{OUTER} {outer}"


def _band(places: Sequence[float], ends: Sequence[tuple[float, float]], name: str, opacity: float) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": [*places, *reversed(places)],
        "y": [*(high for _, high in ends), *(low for low, _ in reversed(ends))],
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": rgba(ESTIMATED, opacity),
        "name": name,
        "hoverinfo": "skip",
    }
