"""Predicted against measured: every row that can be compared, with its band, on the line where the two are equal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.figures.style import ESTIMATED, MEASURED, NEUTRAL, draw, rgba

if TYPE_CHECKING:
    import plotly.graph_objects as go

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "star", "hexagon", "cross")


class ComparedPoint(NamedTuple):
    """One measurement. group: whose; scored: whether it counts; text: what it is, for the hover."""

    group: str
    scored: bool
    measured: float
    predicted: float
    low: float
    high: float
    text: str


def validation_figure(points: Sequence[ComparedPoint], *, unit: str, height: int, uirevision: str) -> "go.Figure":
    """Logarithmic on both axes, in the unit that the points are given in. A filled marker counts, an open one is shown
    only: something of its setting isn't known."""
    groups = sorted({(not point.scored, point.group) for point in points})
    ends = [value for point in points for value in (point.measured, point.low, point.high) if value > 0]
    traces = [_line(min(ends) * 0.8, max(ends) * 1.25)] if ends else []
    for number, (shown_only, group) in enumerate(groups):
        members = [p for p in points if p.group == group and p.scored is not shown_only]
        traces.append(_group(group, members, SYMBOLS[number % len(SYMBOLS)], shown_only=shown_only))
    ticks = _ticks(min(ends) * 0.8, max(ends) * 1.25) if ends else {}
    return draw(
        traces,
        height=height,
        uirevision=uirevision,
        x={"type": "log", **ticks},
        y={"type": "log", **ticks},
        x_title=f"measured, {unit}",
        y_title=f"predicted, {unit}",
        say="" if points else "No measured row can be compared.",
    )


def _line(low: float, high: float) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": [low, high],
        "y": [low, high],
        "mode": "lines",
        "name": "equal",
        "line": {"color": NEUTRAL, "width": 1.2, "dash": "dash"},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _group(name: str, members: Sequence[ComparedPoint], symbol: str, *, shown_only: bool) -> dict[str, Any]:
    colour = NEUTRAL if shown_only else MEASURED
    return {
        "type": "scatter",
        "x": [p.measured for p in members],
        "y": [p.predicted for p in members],
        "mode": "markers",
        "name": f"{name}, not counted" if shown_only else name,
        "marker": {"symbol": f"{symbol}-open" if shown_only else symbol, "size": 8, "color": colour}
        | {"line": {"width": 1.2, "color": colour}},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [p.high - p.predicted for p in members],
            "arrayminus": [p.predicted - p.low for p in members],
            "color": rgba(ESTIMATED, 0.55),
            "thickness": 1,
            "width": 0,
        },
        "customdata": [p.text for p in members],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _ticks(low: float, high: float) -> dict[str, Any]:
    """1, 2 and 5 in each decade: a logarithmic axis of few decades has too few ticks of its own."""
    steps = [base * 10.0**power for power in range(-3, 6) for base in (1, 2, 5)]
    values = [step for step in steps if low <= step <= high]
    return {"tickmode": "array", "tickvals": values, "ticktext": [f"{value:g}" for value in values]}
