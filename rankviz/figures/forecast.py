"""A forecast of quality by rank as traces: the 80 % band, the 50 % band and the median. Estimated is never a marker."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rankviz.figures.style import ESTIMATED, rgba

OUTER, INNER = "80 % band", "50 % band"


class ForecastRank(Protocol):
    """A band at one rank, in the figure's unit."""

    r: int
    median: float
    low_50: float
    high_50: float
    low_80: float
    high_80: float


def bands(
    ranks: Sequence[ForecastRank], xs: Mapping[int, float] | None = None, *, unit: str = "nats"
) -> list[dict[str, Any]]:
    """Three traces; none without ranks.

    Args:
        ranks: The band by rank.
        xs: Where each rank lies on the x axis; by default at itself.
        unit: Of the values, for the hover.
    """
    if not ranks:
        return []
    places = [xs[rank.r] if xs else rank.r for rank in ranks]
    return [
        _band(places, [(rank.low_80, rank.high_80) for rank in ranks], OUTER, 0.16),
        _band(places, [(rank.low_50, rank.high_50) for rank in ranks], INNER, 0.26),
        {
            "type": "scatter",
            "x": places,
            "y": [rank.median for rank in ranks],
            "mode": "lines",
            "name": "median",
            "line": {"color": ESTIMATED, "width": 2},
            "hovertext": [
                f"<b>r = {rank.r}</b><br>median {rank.median:.3g} {unit}<br>{INNER} {rank.low_50:.3g} to "
                f"{rank.high_50:.3g}<br>{OUTER} {rank.low_80:.3g} to {rank.high_80:.3g}"
                for rank in ranks
            ],
            "hoverinfo": "text",
        },
    ]


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
