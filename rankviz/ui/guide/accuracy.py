"""Shows the accuracy of the estimates: predicted against measured, errors by source, and rows that are not counted."""

from collections import Counter
from collections.abc import Sequence

from rankviz import units
from rankviz.api import Api
from rankviz.core.accuracy.report import AccuracyReport, ReportRow, Score
from rankviz.figures import AccuracyInfo, accuracy_figure, accuracy_info
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart, chart_value
from rankviz.ui.parts.controls import plain
from rankviz.ui.parts.html import Row

HEIGHT = 460
RANGES = (
    "The width of a range comes from the errors of measured rows of the same kind of setting: Student's t at 95 % "
    "times the spread between sources. It is computed separately for modelled memory (activations, logits, scratch) "
    "and for counted memory (weights, adapter, optimizer states). Where no measured row has the same kind of setting, "
    "the range is wider, and the page says so. No formula is fitted to single rows."
)


def build(api: Api) -> None:
    report = api.accuracy.shipped()
    plain("<h2>Accuracy of these numbers</h2>" + html.paragraphs(summary(report)))
    memory = chart("Peak memory, predicted against measured", height=HEIGHT, elem_id="validation-memory")
    memory.value = accuracy_chart(accuracy_info(report, "memory"))
    time = chart("Seconds per step, predicted against measured", height=HEIGHT, elem_id="validation-time")
    time.value = accuracy_chart(accuracy_info(report, "time"))
    plain(scores_html(report) + html.paragraphs(RANGES) + two_depths_html(report.rows) + left_out_html(report.rows))


def accuracy_chart(info: AccuracyInfo) -> str:
    return chart_value(accuracy_figure(info, height=HEIGHT), info.rows, file="validation", source=info.source)


def summary(report: AccuracyReport) -> str:
    """The report in a few sentences."""
    every, time = report.overall, report.time
    cards = {row.group for row in report.rows if row.scored and row.kind != "cpu"}
    return (
        f"{every.rows} published memory peaks on GPUs are counted: {every.settings} setups from {len(cards)} sources, "
        f"with every setting known. The mean error is {_percent(every.mean_abs_error)}; {_percent(every.inside_band)} "
        f"of them are inside the predicted range, which is ±{_percent(every.mean_half_width)} wide on average. Of "
        f"{time.rows} timings, {_percent(time.inside_range)} are inside their range; the mean error is "
        f"{_percent(time.mean_abs_error)}. To compare measurements of your own, run rankviz validate FILE.csv."
    )


def scores_html(report: AccuracyReport) -> str:
    """Errors by source: counted rows, all of them together, and rows that are not counted."""
    counted = [_score(score) for score in report.groups]
    together = [_score(report.overall, chosen=True)] if report.overall else []
    shown = [_score(score, after=", not counted") for score in report.not_scored]
    return html.table(
        ["Source", "Rows", "Setups", "Mean error", "Largest error", "Inside the range", "Range"],
        [Row(cells=cells, chosen=chosen) for cells, chosen in (*counted, *together, *shown)],
        label="Error by source",
    )


def _score(score: Score, *, after: str = "", chosen: bool = False) -> tuple[list[str], bool]:
    return [
        score.group + after,
        f"{score.rows:,}",
        f"{score.settings:,}",
        _percent(score.mean_abs_error),
        _signed(score.worst_error),
        _percent(score.inside_band),
        f"±{_percent(score.mean_half_width)}",
    ], chosen


def two_depths_html(rows: Sequence[ReportRow]) -> str:
    """Probes that ran the whole model, beside the extrapolation from two shallow depths; nothing without one."""
    rows = [row for row in rows if row.two_depth_bytes]
    if not rows:
        return ""
    cells = [
        [
            html.Cell(row.model_id, kind="wrap", sub=row.setting),
            units.memory_size(row.measured_bytes),
            units.memory_size(row.two_depth_bytes),
            _signed(row.two_depth_bytes / row.measured_bytes - 1),
            units.duration(row.measured_seconds_per_step),
            units.duration(row.two_depth_seconds) if row.two_depth_seconds else "not known",
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
    """Rows without a prediction, by source and reason."""
    reasons = Counter((row.group, row.reason) for row in rows if row.predicted_bytes is None)
    items = [f"{count} of {group}: {reason}." for (group, reason), count in sorted(reasons.items())]
    return html.titled("Rows left out, and why", html.bullet_list(items)) if items else ""


def rests_on_html(rows: Sequence[ReportRow], summary: str) -> str:
    """Under an estimate: what it rests on in a sentence, and the measured rows most like it, folded."""
    if not rows:
        return html.paragraphs(summary)
    body = html.table(
        ["Measured setting", "Measured", "Predicted", "Error"],
        [
            Row(
                cells=[
                    html.Cell(row.model_id, kind="wrap", sub=row.setting),
                    html.Cell(units.memory_size(row.measured_bytes), title=f"{row.measured_kind}; {row.source}"),
                    units.memory_size(row.predicted_bytes),
                    _signed(row.predicted_bytes / row.measured_bytes - 1),
                ]
            )
            for row in rows
        ],
        label="Measured rows most like this estimate",
    )
    return html.folded(summary, body)


def _signed(share: float) -> str:
    text = f"{100 * share:+.1f} %"
    return "0.0 %" if text[1:] == "0.0 %" else text.replace("-", "−")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
