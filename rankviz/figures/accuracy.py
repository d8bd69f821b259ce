"""Predicted against measured peak memory: every measured row that can be compared, with its predicted range."""

from dataclasses import asdict
from html import escape

from rankviz import units
from rankviz.core.accuracy.report import AccuracyReport, ReportRow
from rankviz.figures import style

SYMBOLS = ("circle", "square", "diamond", "triangle-down", "star", "hexagon", "cross", "pentagon")
BOUND_SYMBOL = "triangle-up"
SOURCE = (
    "Measured rows that ship with RankViz, each with its own source, beside RankViz's predictions. Each row is "
    "predicted without the measurements of its own source."
)
SETTING_WORDS = 4


def accuracy_figure(report: AccuracyReport, *, height: int = 460) -> style.Drawing:
    """Draw predicted against measured memory on two logarithmic axes. An open marker does not count, since its setup
    is not fully known. An open triangle that points up is an upper limit: it is right anywhere above the line."""
    points = [row for row in report.rows if row.measured_bytes and row.predicted_bytes]
    sizes = [size / units.GIB for row in points for size in (row.measured_bytes, row.low, row.high) if size > 0]
    groups: dict[tuple[bool, bool, str], list[ReportRow]] = {}
    for row in points:
        groups.setdefault((not row.scored, row.bound, row.group), []).append(row)
    low, high = (min(sizes) * 0.8, max(sizes) * 1.25) if sizes else (0, 0)
    look = {"line": {"color": style.NEUTRAL, "width": 1.2, "dash": "dash"}, "hoverinfo": "skip", "showlegend": False}
    traces = [style.scatter([low, high], [low, high], mode="lines", name="equal", **look)] if sizes else []
    range_look = {"symmetric": False, "color": style.rgba(style.ESTIMATED, 0.55), "thickness": 1, "width": 0}
    for number, ((shown_only, bound, group), rows) in enumerate(sorted(groups.items())):
        colour = style.NEUTRAL if shown_only else style.MEASURED
        symbol = BOUND_SYMBOL if bound else SYMBOLS[number % len(SYMBOLS)]
        marker = {"symbol": f"{symbol}-open" if shown_only else symbol, "size": 8, "color": colour}
        ys = [row.predicted_bytes / units.GIB for row in rows]
        ends = [(row.low / units.GIB, row.high / units.GIB) for row in rows]
        trace = style.scatter(
            [row.measured_bytes / units.GIB for row in rows],
            ys,
            name=f"{group}, measured at most" if bound else f"{group}, not counted" if shown_only else group,
            marker=marker | {"line": {"width": 1.2, "color": colour}},
            error_y=style.bars(ys, ends, style.ESTIMATED, **range_look),
            customdata=[_hover(row) for row in rows],
            hovertemplate="%{customdata}<extra></extra>",
        )
        traces.append(trace)
    # A logarithmic axis of few decades has too few ticks of its own.
    ticks = style.ticks_at([(at, f"{at:g}") for at, _ in style.ONE_TWO_FIVE if low <= at <= high]) if sizes else {}
    return style.draw(
        traces,
        height=height,
        uirevision="accuracy",
        x={"type": "log", **ticks},
        y={"type": "log", **ticks},
        x_title="measured, GiB",
        y_title="predicted, GiB",
        message="" if points else "No measured row can be compared.",
        rows=[asdict(row) for row in report.rows],
        source=SOURCE,
    )


def _hover(row: ReportRow) -> str:
    words = escape(row.setting).split(", ")
    lines = [", ".join(words[i : i + SETTING_WORDS]) for i in range(0, len(words), SETTING_WORDS)]
    text = f"measured {units.memory_size(row.measured_bytes)}, predicted {units.memory_size(row.predicted_bytes)}"
    bound = ["at most as predicted: the length is only a cap"] * row.bound
    return "<br>".join([f"<b>{escape(row.model_id)}</b>", *lines, text, *bound])
