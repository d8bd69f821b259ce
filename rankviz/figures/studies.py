"""Published quality against rank or size: a line a study, base and run date, never joined across, all of it teal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.figures.style import CHOSEN, PUBLISHED, draw, rgba, vertical_line

if TYPE_CHECKING:
    import plotly.graph_objects as go


class PublishedPoint(NamedTuple):
    """One value. error: half an error bar, None where it was one run."""

    x: float
    y: float
    r: int
    error: float | None
    text: str
    """All there is to say of it, in lines for the hover."""


class PublishedLine(NamedTuple):
    """Points that may be joined. study decides the marker's shape, label the legend's entry."""

    study: str
    label: str
    points: Sequence[PublishedPoint]


SHAPES = (
    "circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon", "star", "cross", "x",
    "hourglass", "bowtie",
)  # fmt: skip
DASHES = ("solid", "dot", "dash", "dashdot")
LEGEND_ROW_PIXELS = 38


def shapes_of(studies: Sequence[str]) -> dict[str, str]:
    """One shape a study, the same in every figure that is shown beside this one."""
    return {study: SHAPES[i % len(SHAPES)] for i, study in enumerate(dict.fromkeys(studies))}


def evidence_figure(
    lines: Sequence[PublishedLine],
    *,
    shapes: Mapping[str, str],
    x_title: str,
    y_title: str,
    ticks: Sequence[tuple[float, str]],
    x_range: tuple[float, float] | None,
    chosen_x: float | None,
    uirevision: str,
    height: int,
    empty: str,
) -> "go.Figure":
    """A logarithmic x axis with these ticks and this range, so that figures side by side can be compared."""
    by_label: dict[str, list[PublishedLine]] = {}
    for line in lines:
        by_label.setdefault(line.label, []).append(line)
    by_rank = "rank" in x_title
    traces = [
        _lines(group, shapes[group[0].study], DASHES[i % len(DASHES)], by_rank=by_rank)
        for i, group in enumerate(by_label.values())
    ]
    legend = max(1, len(by_label)) * LEGEND_ROW_PIXELS
    return draw(
        traces,
        height=height,
        uirevision=uirevision,
        x={
            "type": "log",
            "tickangle": 0,
            "tickmode": "array",
            "tickvals": [t for t, _ in ticks],
            "ticktext": [name for _, name in ticks],
        }
        | ({"range": list(x_range)} if x_range else {}),
        y={},
        x_title=x_title,
        y_title=y_title,
        say="" if lines else empty,
        shapes=[vertical_line(chosen_x, CHOSEN)] if chosen_x and lines else [],
        showlegend=bool(lines),
        legend={
            "x": 0,
            "y": 0,
            "yref": "container",
            "yanchor": "bottom",
            "font": {"size": 11},
            "tracegroupgap": 0,
        },
        margin={"l": 58, "r": 14, "t": 12, "b": 52 + legend},
    )


def _lines(group: Sequence[PublishedLine], shape: str, dash: str, *, by_rank: bool) -> dict[str, Any]:
    """The lines of one legend entry as one trace: an empty point between two lines keeps them apart."""
    points: list[PublishedPoint | None] = []
    for line in group:
        points += [*line.points, None]
    points.pop()
    return {
        "type": "scatter",
        "x": [p and p.x for p in points],
        "y": [p and p.y for p in points],
        "mode": "lines+markers" if by_rank else "lines+markers+text",
        "text": None if by_rank else [f"{p.r}" if p else "" for p in points],
        "textposition": "top center",
        "textfont": {"size": 11},
        "connectgaps": False,
        "name": group[0].label,
        "line": {"color": rgba(PUBLISHED, 0.6), "width": 1.2, "dash": dash},
        "marker": {"color": PUBLISHED, "symbol": f"{shape}-open", "size": 9, "line": {"width": 1.6}},
        "error_y": {
            "type": "data",
            "array": [p.error if p and p.error else 0 for p in points],
            "visible": any(p and p.error for p in points),
            "color": rgba(PUBLISHED, 0.6),
            "thickness": 1.2,
            "width": 4,
        },
        "customdata": [group[0].study] * len(points),
        "hovertext": [p.text if p else "" for p in points],
        "hoverinfo": "text",
    }
