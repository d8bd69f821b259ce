"""Shows the accuracy of the estimates: predicted against measured, errors by source, and rows that are not counted."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.accuracy.report import AccuracyReport, ReportRow, Score
from rankviz.figures import accuracy_figure, accuracy_info
from rankviz.figures.accuracy import AccuracyInfo
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart, chart_value
from rankviz.ui.parts.controls import plain
from rankviz.ui.parts.html import Row, rounded
from rankviz.ui.wiring import wire
from rankviz.units import rounded_percent as percent

HEIGHT = 460
RANGES = (
    "A source is who measured with which program. Its tables share mistakes, so each source is predicted as if it had "
    "not been seen: without the constants that it taught and without its errors in the width of ranges. The width "
    "comes from the errors of the other sources with the same kind of setup: Student's t at 95 % times the spread "
    "between sources. It is computed separately for modelled memory (activations, logits) and for counted memory "
    "(weights, adapter, optimizer states, scratch). Where no measurement has the same kind of setup, the range is "
    "wider, and the page says so. No formula is fitted to single rows, but some code was read because a row did not "
    "fit, so a source that nobody has looked at may be further off."
)


class Details(NamedTuple):
    memory: str
    time: str
    tables: str


def build_details(api: Api) -> None:
    """The charts and tables, folded and made when they are opened."""
    with gr.Accordion("Details: every measurement and every source", open=False, elem_id="accuracy-details") as fold:
        outputs = {
            "memory": chart("Peak memory, predicted against measured", height=HEIGHT, elem_id="validation-memory"),
            "time": chart("Seconds per step, predicted against measured", height=HEIGHT, elem_id="validation-time"),
            "tables": plain(elem_id="accuracy-tables"),
        }
    fold.expand(**wire(lambda: details(api.accuracy.shipped()), inputs={}, outputs=outputs))


def details(report: AccuracyReport) -> Details:
    """Every row that can be compared, and the tables."""
    return Details(
        memory=accuracy_chart(accuracy_info(report, "memory")),
        time=accuracy_chart(accuracy_info(report, "time")),
        tables=scores_html(report)
        + html.paragraphs(RANGES)
        + two_depths_html(report.rows)
        + left_out_html(report.rows),
    )


def accuracy_html(report: AccuracyReport) -> str:
    """What the errors of memory and time rest on; tab.py shows the errors."""
    return f"<h2>Accuracy of these numbers</h2>{html.paragraphs(summary(report))}"


def _on_cards(report: AccuracyReport) -> Sequence[Score]:
    """The sources that measured on GPUs, each predicted without itself."""
    return [score for score in report.left_out.origins if score.group in report.sources_on_gpus]


def accuracy_chart(info: AccuracyInfo) -> str:
    return chart_value(accuracy_figure.drawing(info, height=HEIGHT), info.rows, file="validation", source=info.source)


def summary(report: AccuracyReport) -> str:
    """What the errors rest on, in three sentences."""
    every, on_cards = report.left_out.overall, _on_cards(report)
    furthest = max(score.mean_abs_error for score in on_cards)
    return (
        f"{every.rows} published memory peaks on GPUs are counted: {every.settings} setups from "
        f"{len(on_cards)} sources, each source predicted without its own measurements; the mean error is "
        f"{percent(furthest)} for the worst source. With all sources seen, "
        f"the mean error is {percent(report.overall.mean_abs_error)} for memory and "
        f"{percent(report.time.mean_abs_error)} for time. To compare measurements of your own, run rankviz validate "
        "FILE.csv."
    )


def scores_html(report: AccuracyReport) -> str:
    """Errors by source, each predicted without itself, and all together; then the tables with their sources seen, rows
    whose length is only a cap, and rows that are not counted."""
    unseen = [_score(score) for score in report.left_out.origins]
    together = [_score(report.left_out.overall, chosen=True)]
    seen = [_score(score) for score in (*report.groups, report.overall)]
    shown = [_score(score, after=", not counted") for score in report.not_scored]
    bounds = [
        Row(cells=[score.group, f"{score.rows:,}", f"{score.settings:,}", percent(score.inside_band)])
        for score in report.bounds
    ]
    return (
        _table("Sources, each predicted without its own measurements", [*unseen, *together], "Error by unseen source")
        + html.titled(
            "Rows whose length is only a cap",
            html.table(
                ["Table", "Rows", "Setups", "Measured at most the upper end"], bounds, label="Rows that are bounds"
            ),
        )
        + _table("Tables of measurements, with their sources seen", [*seen, *shown], "Error by table")
    )


def _table(title: str, scores: Sequence[tuple[list[str], bool]], label: str) -> str:
    return html.titled(
        title,
        html.table(
            ["Source", "Rows", "Setups", "Mean error", "Largest error", "Inside the range", "Range"],
            [Row(cells=cells, chosen=chosen) for cells, chosen in scores],
            label=label,
        ),
    )


def _score(score: Score, *, after: str = "", chosen: bool = False) -> tuple[list[str], bool]:
    return [
        score.group + after,
        f"{score.rows:,}",
        f"{score.settings:,}",
        percent(score.mean_abs_error),
        _signed(score.worst_error),
        percent(score.inside_band),
        f"±{percent(score.mean_half_width)}",
    ], chosen


def two_depths_html(rows: Sequence[ReportRow]) -> str:
    """Probes that ran the whole model, beside the extrapolation from two shallow depths; nothing without one."""
    rows = [row for row in rows if row.two_depth_bytes]
    if not rows:
        return ""
    cells = [
        [
            html.Cell(row.model_id, kind="wrap", sub=row.setting),
            rounded(units.memory_size, row.measured_bytes, "bytes"),
            rounded(units.memory_size, row.two_depth_bytes, "bytes"),
            _signed(row.two_depth_bytes / row.measured_bytes - 1),
            rounded(units.duration, row.measured_seconds_per_step, "seconds"),
            rounded(units.duration, row.two_depth_seconds, "seconds") if row.two_depth_seconds else "not known",
            _signed(row.two_depth_seconds / row.measured_seconds_per_step - 1)
            if row.two_depth_seconds
            else "not known",
        ]
        for row in rows
    ]
    return html.titled(
        "Probes: extrapolation from two depths against the whole model",
        html.table(
            ["Model", "Memory", "From two depths", "Error", "Step", "From two depths", "Error"],
            [Row(cells=each) for each in cells],
            label="Two-depth extrapolation beside the full measurement",
        ),
    )


def left_out_html(rows: Sequence[ReportRow]) -> str:
    """Rows that are not counted, by source and reason."""
    reasons = Counter((row.group, row.reason) for row in rows if row.reason)
    items = [f"{count} of {group}: {reason}." for (group, reason), count in sorted(reasons.items())]
    return html.titled("Rows that are not counted, and why", html.bullet_list(items)) if items else ""


def rests_on_html(rows: Sequence[ReportRow], summary: str) -> str:
    """Under an estimate: what it rests on in a sentence, and the measured rows most like it."""
    if not rows:
        return html.paragraphs(summary)
    return html.paragraphs(summary) + html.table(
        ["Measured setup", "Measured", "Predicted without its source", "Error"],
        [
            Row(
                cells=[
                    html.Cell(row.model_id, kind="wrap", sub=row.setting),
                    rounded(units.memory_size, row.measured_bytes, f"bytes, {row.measured_kind}; {row.source}"),
                    rounded(units.memory_size, row.left_out_bytes or row.predicted_bytes, "bytes"),
                    "at most" if row.bound else _signed(row.error),
                ]
            )
            for row in rows
        ],
        label="Measured rows most like this estimate",
    )


def _signed(share: float) -> str:
    text = f"{100 * share:+.1f} %"
    return "0.0 %" if text[1:] == "0.0 %" else text.replace("-", "−")
