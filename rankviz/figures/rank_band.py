"""The forecast between the runs of a sweep, drawn under them: bands of 50 and 80 %, and the median as a line."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.figures.style import ESTIMATED, rgba

if TYPE_CHECKING:
    from rankviz.core.forecast.bent import BentForecast

NAME = "estimated band"


class BandPoint(NamedTuple):
    """What is forecast of a run at one rank, nats."""

    r: int
    median: float
    low_50: float
    high_50: float
    low_80: float
    high_80: float


def band_points(forecast: "BentForecast | None") -> Sequence[BandPoint]:
    """Of a forecast between runs; nothing of None."""
    if forecast is None:
        return ()
    return [BandPoint(p.r, p.median, p.low_50, p.high_50, p.low_80, p.high_80) for p in forecast.ranks]


def band_traces(points: Sequence[BandPoint]) -> Sequence[dict[str, Any]]:
    """One entry of the legend for the three of them."""
    if not points:
        return ()
    return [
        _area(points, [(p.low_80, p.high_80) for p in points], opacity=0.14),
        _area(points, [(p.low_50, p.high_50) for p in points], opacity=0.2),
        {
            "type": "scatter",
            "x": [p.r for p in points],
            "y": [p.median for p in points],
            "mode": "lines",
            "name": f"{NAME}, 50 and 80 %",
            "legendgroup": NAME,
            "line": {"color": ESTIMATED, "width": 2},
            "hovertext": [
                f"<b>r = {p.r}</b><br>estimated {p.median:.4f}<br>80 %: {p.low_80:.4f} to {p.high_80:.4f}<br>"
                f"50 %: {p.low_50:.4f} to {p.high_50:.4f}"
                for p in points
            ],
            "hoverinfo": "text",
        },
    ]


def band_rows(points: Sequence[BandPoint]) -> Sequence[dict[str, object]]:
    """The band as rows of the figure's CSV."""
    return [{"kind": NAME, "r": p.r, "loss": p.median, **_bounds(p)} for p in points]


def _bounds(point: BandPoint) -> dict[str, float]:
    return {name: getattr(point, name) for name in ("low_50", "high_50", "low_80", "high_80")}


def _area(points: Sequence[BandPoint], bounds: Sequence[tuple[float, float]], *, opacity: float) -> dict[str, Any]:
    ranks = [p.r for p in points]
    return {
        "type": "scatter",
        "x": [*ranks, *reversed(ranks)],
        "y": [*(low for low, _ in bounds), *(high for _, high in reversed(bounds))],
        "mode": "lines",
        "fill": "toself",
        "fillcolor": rgba(ESTIMATED, opacity),
        "line": {"width": 0},
        "legendgroup": NAME,
        "showlegend": False,
        "hoverinfo": "skip",
    }
