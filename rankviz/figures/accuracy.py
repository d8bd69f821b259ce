"""Predicted against measured: every row that can be compared, with its range, and the line where the two are equal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rankviz import units
from rankviz.core.accuracy.report import AccuracyReport, ReportRow
from rankviz.figures.style import ESTIMATED, MEASURED, NEUTRAL, draw, rgba

if TYPE_CHECKING:
    import plotly.graph_objects as go

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "star", "hexagon", "cross")
SOURCE = "Measured rows that ship with RankViz, each with its own source, beside RankViz's predictions."
SETTING_WORDS = 4
"""Parts of a setting in one line of the hover."""
COLUMNS = (
    "row_id",
    "group",
    "tier",
    "scored",
    "reason",
    "model_id",
    "setting",
    "measured_kind",
    "measured_bytes",
    "predicted_bytes",
    "low",
    "high",
    "two_depth_bytes",
    "measured_seconds_per_step",
    "seconds_low",
    "seconds_expected",
    "seconds_high",
    "two_depth_seconds",
    "source",
)


class ComparedPoint(NamedTuple):
    """One measurement. group: its source; scored: whether it counts; text: the hover."""

    group: str
    scored: bool
    measured: float
    predicted: float
    low: float
    high: float
    text: str


class AccuracyInfo(NamedTuple):
    """What a figure of predicted against measured shows. ends: the smallest and the largest value, None of no point."""

    points: Sequence[ComparedPoint]
    unit: str
    ends: tuple[float, float] | None
    source: str = ""
    rows: Sequence[Mapping[str, object]] = ()


def accuracy_info(report: AccuracyReport, quantity: Literal["memory", "time"]) -> AccuracyInfo:
    """The rows of a report that have both a measurement and a prediction.

    Args:
        report: Measured rows beside their predictions.
        quantity: Peak memory in GiB, or seconds per step.
    """
    point = {"memory": _memory_point, "time": _time_point}[quantity]
    points = [each for row in report.rows if (each := point(row))]
    values = [value for each in points for value in (each.measured, each.low, each.high) if value > 0]
    return AccuracyInfo(
        points=points,
        unit={"memory": "GiB", "time": "seconds per step"}[quantity],
        ends=(min(values) * 0.8, max(values) * 1.25) if values else None,
        source=SOURCE,
        rows=[{name: row[name] for name in COLUMNS} for row in map(asdict, report.rows)],
    )


def _memory_point(row: ReportRow) -> ComparedPoint | None:
    if not row.predicted_bytes or not row.measured_bytes:
        return None
    return ComparedPoint(
        group=row.group,
        scored=row.scored,
        measured=row.measured_bytes / units.GIB,
        predicted=row.predicted_bytes / units.GIB,
        low=row.low / units.GIB,
        high=row.high / units.GIB,
        text=_hover(row, row.measured_bytes, row.predicted_bytes, units.memory_size),
    )


def _time_point(row: ReportRow) -> ComparedPoint | None:
    if not row.seconds_expected:
        return None
    return ComparedPoint(
        group=row.group,
        scored=row.tier in ("A", "B"),
        measured=row.measured_seconds_per_step,
        predicted=row.seconds_expected,
        low=row.seconds_low,
        high=row.seconds_high,
        text=_hover(row, row.measured_seconds_per_step, row.seconds_expected, "{:.3g} s".format),
    )


def _hover(row: ReportRow, measured: float, predicted: float, text: Callable[[float], str]) -> str:
    words = escape(row.setting).split(", ")
    lines = [", ".join(words[i : i + SETTING_WORDS]) for i in range(0, len(words), SETTING_WORDS)]
    return "<br>".join(
        [f"<b>{escape(row.model_id)}</b>", *lines, f"measured {text(measured)}, predicted {text(predicted)}"]
    )


def accuracy_figure(info: AccuracyInfo, *, height: int = 460) -> "go.Figure":
    """Logarithmic on both axes. A filled marker counts, an open one is shown only: its setting is not fully known."""
    groups = sorted({(not point.scored, point.group) for point in info.points})
    traces = [_line(*info.ends)] if info.ends else []
    for number, (shown_only, group) in enumerate(groups):
        members = [p for p in info.points if p.group == group and p.scored is not shown_only]
        traces.append(_group(group, members, SYMBOLS[number % len(SYMBOLS)], shown_only=shown_only))
    ticks = _ticks(*info.ends) if info.ends else {}
    return draw(
        traces,
        height=height,
        uirevision=f"accuracy|{info.unit}",
        x={"type": "log", **ticks},
        y={"type": "log", **ticks},
        x_title=f"measured, {info.unit}",
        y_title=f"predicted, {info.unit}",
        message="" if info.points else "No measured row can be compared.",
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
