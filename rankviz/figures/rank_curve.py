"""Held-out loss by rank: independent runs as markers, a fast curve as a dashed line of its own."""

from collections.abc import Sequence
from math import log2
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.figures.style import CHOSEN, FAST_CURVE, MEASURED, draw, rgba, vertical_line

if TYPE_CHECKING:
    import plotly.graph_objects as go


class RunPoint(NamedTuple):
    """One rank's independent runs at one learning rate. low, high: one standard deviation; None of one run."""

    r: int
    loss: float
    low: float | None
    high: float | None
    run_id: str
    detail: str


class CutPoint(NamedTuple):
    """The trained adapter at one rank."""

    r: int
    loss: float
    detail: str


class CutLine(NamedTuple):
    """One training, cut to lower ranks."""

    label: str
    run_id: str
    points: Sequence[CutPoint]


def rank_figure(
    runs: Sequence[RunPoint],
    lines: Sequence[CutLine],
    *,
    picked: int | None = None,
    height: int = 320,
    empty: str = "",
) -> "go.Figure":
    """The two kinds are never joined. picked: the rank that the fast curve or the verdict names, a thin line."""
    ranks = sorted({point.r for point in runs} | {point.r for line in lines for point in line.points})
    say = "" if ranks else empty or "Points appear here as runs end."
    return draw(
        [*(_line(line) for line in lines), *([_markers(runs)] if runs else [])],
        height=height,
        uirevision=f"rank-curve|{ranks}",
        x={
            "type": "log",
            "tickvals": ranks,
            "ticktext": [str(r) for r in ranks],
            "range": _span(ranks),
        },
        y={"tickformat": ".2f"},
        x_title="LoRA rank r",
        y_title="held-out loss, nats a token (lower is better)",
        say=say,
        shapes=[vertical_line(picked, CHOSEN)] if picked else [],
        showlegend=bool(lines),
    )


def _span(ranks: Sequence[int]) -> list[float] | None:
    """In powers of ten, with half a doubling of room on either side."""
    if not ranks:
        return None
    ends = log2(ranks[0]) - 0.5, log2(ranks[-1]) + 0.5
    return [end / log2(10) for end in ends]


def _line(line: CutLine) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": [p.r for p in line.points],
        "y": [p.loss for p in line.points],
        "mode": "lines+markers",
        "name": line.label,
        "customdata": [line.run_id for _ in line.points],
        "line": {"color": FAST_CURVE, "width": 2, "dash": "dash"},
        "marker": {"color": FAST_CURVE, "size": 8, "symbol": "x-thin-open", "line": {"width": 2}},
        "hovertext": [f"<b>r = {p.r}</b><br>{p.loss:.4f}<br>{p.detail}" for p in line.points],
        "hoverinfo": "text",
        "cliponaxis": False,
    }


def _markers(runs: Sequence[RunPoint]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": [p.r for p in runs],
        "y": [p.loss for p in runs],
        "mode": "markers",
        "name": "independent runs",
        "customdata": [p.run_id for p in runs],
        "marker": {"color": MEASURED, "size": 11, "line": {"color": "white", "width": 1}},
        "error_y": {
            "type": "data",
            "array": [0 if p.high is None else p.high - p.loss for p in runs],
            "arrayminus": [0 if p.low is None else p.loss - p.low for p in runs],
            "visible": any(p.high is not None for p in runs),
            "color": rgba(MEASURED, 0.7),
            "thickness": 1.3,
            "width": 4,
        },
        "hovertext": [f"<b>r = {p.r}</b><br>{p.loss:.4f}<br>{p.detail}" for p in runs],
        "hoverinfo": "text",
        "cliponaxis": False,
    }
