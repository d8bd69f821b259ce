"""Predicted against measured peak memory: every measured row that can be compared, with its predicted range."""

from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from typing import Any, NamedTuple

from rankviz import units
from rankviz.core.accuracy.report import AccuracyReport
from rankviz.figures.style import (
    ESTIMATED,
    MEASURED,
    NEUTRAL,
    ONE_TWO_FIVE,
    Drawing,
    Rows,
    bars,
    draw,
    figure,
    rgba,
    scatter,
    ticks_at,
)

SYMBOLS = ("circle", "square", "diamond", "triangle-down", "star", "hexagon", "cross", "pentagon")
BOUND_SYMBOL = "triangle-up"
SOURCE = (
    "Measured rows that ship with RankViz, each with its own source, beside RankViz's predictions. Each row is "
    "predicted without the measurements of its own source."
)
SETTING_WORDS = 4


class ComparedPoint(NamedTuple):
    """One measured row and its prediction, in GiB. group: the row's table. scored: True where it counts in the
    accuracy. bound: True where the prediction is only an upper limit. low, high: predicted range. text: the hover."""

    group: str
    scored: bool
    bound: bool
    measured: float
    predicted: float
    low: float
    high: float
    text: str


class AccuracyInfo(NamedTuple):
    """Content of the figure of predicted against measured memory. ends: ends of both axes, GiB; None without points."""

    points: Sequence[ComparedPoint] = ()
    ends: tuple[float, float] | None = None
    source: str = ""
    rows: Rows = ()


def accuracy_info(report: AccuracyReport) -> AccuracyInfo:
    """Return the rows of a report that have a measured peak and a prediction, in GiB."""
    points = []
    for row in report.rows:
        if not row.measured_bytes or not row.predicted_bytes:
            continue
        known = row.predicted_bytes, row.low, row.high
        words = escape(row.setting).split(", ")
        lines = [", ".join(words[i : i + SETTING_WORDS]) for i in range(0, len(words), SETTING_WORDS)]
        text = f"measured {units.memory_size(row.measured_bytes)}, predicted {units.memory_size(known[0])}"
        bound = ["at most as predicted: the length is only a cap"] * row.bound
        text = "<br>".join([f"<b>{escape(row.model_id)}</b>", *lines, text, *bound])
        places = (value / units.GIB for value in (row.measured_bytes, *known))
        points.append(ComparedPoint(row.group, row.scored, row.bound, *places, text))
    values = [value for each in points for value in (each.measured, each.low, each.high) if value > 0]
    return AccuracyInfo(
        points=points,
        ends=(min(values) * 0.8, max(values) * 1.25) if values else None,
        source=SOURCE,
        rows=[asdict(row) for row in report.rows],
    )


@figure
def accuracy_figure(info: AccuracyInfo, *, height: int = 460) -> Drawing:
    """Draw predicted against measured memory on two logarithmic axes. An open marker does not count, since its setup
    is not fully known. An open triangle that points up is an upper limit: it is right anywhere above the line."""
    groups = sorted({(not point.scored, point.bound, point.group) for point in info.points})
    low, high = info.ends or (0, 0)
    line = {"color": NEUTRAL, "width": 1.2, "dash": "dash"}
    equal = scatter([low, high], [low, high], mode="lines", name="equal", line=line, hoverinfo="skip", showlegend=False)
    traces = [equal] if info.ends else []
    for number, (shown_only, bound, group) in enumerate(groups):
        members = [p for p in info.points if (p.group, p.bound, not p.scored) == (group, bound, shown_only)]
        name = f"{group}, measured at most" if bound else f"{group}, not counted" if shown_only else group
        symbol = BOUND_SYMBOL if bound else SYMBOLS[number % len(SYMBOLS)]
        traces.append(_group(name, members, symbol, shown_only=shown_only))
    # A logarithmic axis of few decades has too few ticks of its own.
    ticks = ticks_at([(at, f"{at:g}") for at, _ in ONE_TWO_FIVE if low <= at <= high]) if info.ends else {}
    return draw(
        traces,
        height=height,
        uirevision="accuracy",
        x={"type": "log", **ticks},
        y={"type": "log", **ticks},
        x_title="measured, GiB",
        y_title="predicted, GiB",
        message="" if info.points else "No measured row can be compared.",
    )


def _group(name: str, members: Sequence[ComparedPoint], symbol: str, *, shown_only: bool) -> dict[str, Any]:
    colour, ys = NEUTRAL if shown_only else MEASURED, [p.predicted for p in members]
    marker = {"symbol": f"{symbol}-open" if shown_only else symbol, "size": 8, "color": colour}
    range_look = {"symmetric": False, "color": rgba(ESTIMATED, 0.55), "thickness": 1, "width": 0}
    return scatter(
        [p.measured for p in members],
        ys,
        name=name,
        marker=marker | {"line": {"width": 1.2, "color": colour}},
        error_y=bars(ys, [(p.low, p.high) for p in members], ESTIMATED, **range_look),
        customdata=[p.text for p in members],
        hovertemplate="%{customdata}<extra></extra>",
    )
