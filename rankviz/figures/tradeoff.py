"""Quality against cost: measured points, what none of them beats, and the smallest rank that is good enough."""

from collections.abc import Sequence
from math import log10
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.figures.style import CHOSEN, MEASURED, NEUTRAL, draw, rgba, vertical_line

if TYPE_CHECKING:
    import plotly.graph_objects as go


class PlottedPoint(NamedTuple):
    """One rank of one sweep. low, high: an interval over seeds, or None where there was one run."""

    run_id: str
    r: int
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    x_text: str = ""
    detail: str = ""
    """What else to say on hover: learning rate, seeds, base."""


class PointGroup(NamedTuple):
    """Points that may be compared: one sweep, one base, one set of data."""

    label: str
    points: Sequence[PlottedPoint]
    front: Sequence[int] = ()
    """Indices of the points that no other beats in both cost and quality."""
    smallest_good: int | None = None
    """Index of the smallest rank within noise of the best."""
    noise: tuple[float, float] | None = None
    """The band of quality that can't be told from the best."""


NOISE_WIDTHS = 3
"""An axis that shows less than so many widths of the noise would make a picture of noise alone."""
ONE_TWO_FIVE = [step * 10.0**power for power in range(-3, 6) for step in (1, 2, 5)]
"""Ticks of a logarithmic axis; Plotly's own are bare digits between powers of ten."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon", "hexagon")


def tradeoff_figure(
    groups: Sequence[PointGroup],
    *,
    x_title: str,
    y_title: str,
    chosen_x: float | None = None,
    chosen_r: int | None = None,
    log_x: bool = True,
    empty: str = "No finished runs yet: train a sweep and its points appear here.",
    height: int = 380,
) -> "go.Figure":
    """Each group has its own marker shape; points of different groups are never joined."""
    groups = [group for group in groups if group.points]
    traces, shapes, notes = [], [], []
    for group, symbol in zip(groups, SYMBOLS * len(groups), strict=False):
        traces += [*_front(group), _points(group, symbol), *_ring(group)]
        if group.noise and len(groups) == 1:
            shapes.append(_band(*group.noise))
    if groups and chosen_x is not None:
        shapes.append(vertical_line(chosen_x, CHOSEN))
        notes.append(_chosen_note(groups, chosen_x, f"chosen r = {chosen_r}", log_x=log_x))
    log_ticks = {"tickmode": "array", "tickvals": ONE_TWO_FIVE, "ticktext": [f"{tick:,g}" for tick in ONE_TWO_FIVE]}
    return draw(
        traces,
        height=height,
        uirevision=f"{x_title}|{y_title}|{'|'.join(group.label for group in groups)}",
        x={"type": "log", **log_ticks} if log_x else {"type": "linear"},
        y={"range": _wide_enough(groups)},
        x_title=x_title,
        y_title=y_title,
        say="" if groups else empty,
        shapes=shapes,
        annotations=notes,
        showlegend=len(groups) > 1,
    )


def _wide_enough(groups: Sequence[PointGroup]) -> list[float] | None:
    bands = [group.noise for group in groups if group.noise]
    if not bands:
        return None
    ends = [y for group in groups for p in group.points for y in (p.low, p.y, p.high) if y is not None]
    ends += [y for band in bands for y in band]
    middle, span = (min(ends) + max(ends)) / 2, (max(ends) - min(ends)) * 1.15
    span = max(span, NOISE_WIDTHS * max(high - low for low, high in bands))
    return [middle - span / 2, middle + span / 2]


def _band(low: float, high: float) -> dict[str, Any]:
    return {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": low, "y1": high} | {
        "fillcolor": rgba(NEUTRAL, 0.13),
        "line": {"width": 0},
        "layer": "below",
    }


def _chosen_note(groups: Sequence[PointGroup], x: float, text: str, *, log_x: bool) -> dict[str, Any]:
    xs = [p.x for group in groups for p in group.points]
    on_the_right = x * x > min(xs) * max(xs)
    return {
        # Annotations on a logarithmic axis are placed by the logarithm; shapes are not.
        "x": log10(x) if log_x else x,
        "y": 1,
        "yref": "paper",
        "yanchor": "top",
        "text": text,
        "showarrow": False,
        "xanchor": "right" if on_the_right else "left",
        "xshift": -5 if on_the_right else 5,
    }


def _front(group: PointGroup) -> list[dict[str, Any]]:
    front = sorted((group.points[i] for i in group.front), key=lambda p: p.x)
    if len(front) < 2:
        return []
    return [
        {
            "type": "scatter",
            "x": [p.x for p in front],
            "y": [p.y for p in front],
            "mode": "lines",
            "line": {"color": rgba(MEASURED, 0.45), "width": 1.5, "shape": "hv", "dash": "dot"},
            "hoverinfo": "skip",
            "showlegend": False,
            "name": "Pareto front",
        }
    ]


def _points(group: PointGroup, symbol: str) -> dict[str, Any]:
    bars = [p.low is not None and p.high is not None for p in group.points]
    return {
        "type": "scatter",
        "x": [p.x for p in group.points],
        "y": [p.y for p in group.points],
        "mode": "markers+text",
        "name": group.label,
        "text": [f"\u2009r = {p.r}" for p in group.points],  # a thin space keeps the label clear of the ring
        "textposition": "top right",
        "textfont": {"size": 12},
        "cliponaxis": False,
        "customdata": [p.run_id for p in group.points],
        "marker": {"color": MEASURED, "size": 11, "symbol": symbol, "line": {"color": "white", "width": 1}},
        "error_y": {
            "type": "data",
            "array": [(p.high - p.y) if bar else 0 for p, bar in zip(group.points, bars, strict=True)],
            "arrayminus": [(p.y - p.low) if bar else 0 for p, bar in zip(group.points, bars, strict=True)],
            "visible": any(bars),
            "color": rgba(MEASURED, 0.7),
            "thickness": 1.3,
            "width": 4,
        },
        "hovertext": [f"<b>r = {p.r}</b><br>{p.y:.4f}<br>{p.x_text}<br>{p.detail}" for p in group.points],
        "hoverinfo": "text",
    }


def _ring(group: PointGroup) -> list[dict[str, Any]]:
    if group.smallest_good is None:
        return []
    point = group.points[group.smallest_good]
    return [
        {
            "type": "scatter",
            "x": [point.x],
            "y": [point.y],
            "mode": "markers",
            "marker": {"color": "rgba(0,0,0,0)", "size": 21, "line": {"color": NEUTRAL, "width": 1.6}},
            "hoverinfo": "skip",
            "showlegend": False,
            "name": "smallest rank within noise of the best",
        }
    ]
