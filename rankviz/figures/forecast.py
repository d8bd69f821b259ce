"""Draws a forecast of quality by rank as Plotly traces: the 80 % band, the 50 % band and the median."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rankviz.figures.style import ESTIMATED, rgba, scatter

OUTER, INNER = "80 % band", "50 % band"


class ForecastRank(Protocol):
    """Forecast at one rank, in the unit of the figure: median, and ends of the 50 % and 80 % bands."""

    r: int
    median: float
    low_50: float | None
    """None where only the median is known; then the other three ends are None too."""
    high_50: float | None
    low_80: float | None
    high_80: float | None


def bands(
    ranks: Sequence[ForecastRank], xs: Mapping[int, float] | None = None, *, unit: str = "nats"
) -> list[dict[str, Any]]:
    """Return traces of the median and, where they are known, of both bands; no traces without ranks. xs: place on the
    x axis, by rank; by default the rank itself. unit: unit of the values, for the hover."""
    if not ranks:
        return []
    places = [xs[rank.r] if xs else rank.r for rank in ranks]
    bands = ((OUTER, 0.16, "low_80", "high_80"), (INNER, 0.26, "low_50", "high_50"))
    hidden = {"mode": "lines", "line": {"width": 0}, "fill": "toself", "hoverinfo": "skip"}
    traces = [
        scatter(
            [*places, *reversed(places)],
            [*(getattr(rank, high) for rank in ranks), *(getattr(rank, low) for rank in reversed(ranks))],
            name=name,
            fillcolor=rgba(ESTIMATED, opacity),
            **hidden,
        )
        for name, opacity, low, high in bands
        if all(rank.low_80 is not None for rank in ranks)
    ]
    words = [_words(rank, unit) for rank in ranks]
    look = {"mode": "lines", "name": "median", "line": {"color": ESTIMATED, "width": 2}}
    return [*traces, scatter(places, [rank.median for rank in ranks], hovertext=words, hoverinfo="text", **look)]


def _words(rank: ForecastRank, unit: str) -> str:
    median = f"<b>r = {rank.r}</b><br>median {rank.median:.3g} {unit}"
    if rank.low_80 is None:
        return median
    inner, outer = f"{rank.low_50:.3g} to {rank.high_50:.3g}", f"{rank.low_80:.3g} to {rank.high_80:.3g}"
    return f"{median}<br>{INNER} {inner}<br>{OUTER} {outer}"
