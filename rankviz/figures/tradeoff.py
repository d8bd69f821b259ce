"""Quality against cost: measured points, what none of them beats, and the smallest rank that is good enough."""

from collections.abc import Sequence
from math import log10
from typing import NamedTuple

import plotly.graph_objects as go

from rankviz.figures.style import CHOSEN, MEASURED, NEUTRAL, blank_figure, rgba, say


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


ONE_TWO_FIVE = [step * 10.0**power for power in range(-3, 6) for step in (1, 2, 5)]
"""Ticks of a logarithmic axis; Plotly's own are bare digits between powers of ten."""
NOISE_WIDTHS = 3
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
) -> go.Figure:
    """Each group has its own marker shape; points of different groups are never joined."""
    figure = blank_figure(height=height, uirevision=f"{x_title}|{y_title}|{'|'.join(g.label for g in groups)}")
    figure.update_xaxes(title_text=x_title, type="log" if log_x else "linear")
    if log_x:
        figure.update_xaxes(tickmode="array", tickvals=ONE_TWO_FIVE, ticktext=[f"{tick:,g}" for tick in ONE_TWO_FIVE])
    figure.update_yaxes(title_text=y_title)
    if not any(group.points for group in groups):
        return say(figure, empty)
    _widen_to_noise(figure, groups)
    for group, symbol in zip(groups, SYMBOLS * len(groups), strict=False):
        if group.noise and len(groups) == 1:
            figure.add_hrect(
                y0=group.noise[0], y1=group.noise[1], fillcolor=rgba(NEUTRAL, 0.13), line_width=0, layer="below"
            )
        _add_front(figure, group)
        _add_points(figure, group, symbol)
        _mark_smallest_good(figure, group)
    if chosen_x is not None:
        _mark_chosen(figure, groups, chosen_x, f"chosen r = {chosen_r}", log_x=log_x)
    figure.update_layout(showlegend=len(groups) > 1)
    return figure


def _widen_to_noise(figure: go.Figure, groups: Sequence[PointGroup]) -> None:
    """An axis that shows less than a few widths of the noise would make a picture of noise alone."""
    bands = [group.noise for group in groups if group.noise]
    if not bands:
        return
    ends = [y for group in groups for p in group.points for y in (p.low, p.y, p.high) if y is not None]
    ends += [y for band in bands for y in band]
    middle, span = (min(ends) + max(ends)) / 2, (max(ends) - min(ends)) * 1.15
    span = max(span, NOISE_WIDTHS * max(high - low for low, high in bands))
    figure.update_yaxes(range=[middle - span / 2, middle + span / 2])


def _mark_chosen(figure: go.Figure, groups: Sequence[PointGroup], x: float, text: str, *, log_x: bool) -> None:
    figure.add_vline(x=x, line={"color": CHOSEN, "width": 1.2})
    xs = [p.x for group in groups for p in group.points]
    on_the_right = x * x > min(xs) * max(xs)
    figure.add_annotation(
        # Annotations on a logarithmic axis are placed by the logarithm; shapes are not.
        x=log10(x) if log_x else x,
        y=1,
        yref="paper",
        yanchor="top",
        text=text,
        showarrow=False,
        xanchor="right" if on_the_right else "left",
        xshift=-5 if on_the_right else 5,
    )


def _add_front(figure: go.Figure, group: PointGroup) -> None:
    front = sorted((group.points[i] for i in group.front), key=lambda p: p.x)
    if len(front) > 1:
        figure.add_scatter(
            x=[p.x for p in front],
            y=[p.y for p in front],
            mode="lines",
            line={"color": rgba(MEASURED, 0.45), "width": 1.5, "shape": "hv", "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
            name="Pareto front",
        )


def _add_points(figure: go.Figure, group: PointGroup, symbol: str) -> None:
    bars = [p.low is not None and p.high is not None for p in group.points]
    figure.add_scatter(
        x=[p.x for p in group.points],
        y=[p.y for p in group.points],
        mode="markers+text",
        name=group.label,
        text=[f"\u2002r = {p.r}" for p in group.points],  # an en space keeps the label clear of the ring
        textposition="middle right",
        textfont={"size": 12},
        cliponaxis=False,
        customdata=[p.run_id for p in group.points],
        marker={"color": MEASURED, "size": 11, "symbol": symbol, "line": {"color": "white", "width": 1}},
        error_y={
            "type": "data",
            "array": [(p.high - p.y) if b else 0 for p, b in zip(group.points, bars, strict=True)],
            "arrayminus": [(p.y - p.low) if b else 0 for p, b in zip(group.points, bars, strict=True)],
            "visible": any(bars),
            "color": rgba(MEASURED, 0.7),
            "thickness": 1.3,
            "width": 4,
        },
        hovertext=[f"<b>r = {p.r}</b><br>{p.y:.4f}<br>{p.x_text}<br>{p.detail}" for p in group.points],
        hoverinfo="text",
    )


def _mark_smallest_good(figure: go.Figure, group: PointGroup) -> None:
    if group.smallest_good is None:
        return
    point = group.points[group.smallest_good]
    figure.add_scatter(
        x=[point.x],
        y=[point.y],
        mode="markers",
        marker={"color": "rgba(0,0,0,0)", "size": 21, "symbol": "circle", "line": {"color": NEUTRAL, "width": 1.6}},
        hoverinfo="skip",
        showlegend=False,
        name="smallest rank within noise of the best",
    )
