"""Guide's "how far off": predicted against measured, errors by group, and the rows that can't be used, with why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rankviz import units
from rankviz.api import Api
from rankviz.core.accuracy.report import as_json
from rankviz.figures import ComparedPoint, validation_figure
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart, chart_value
from rankviz.ui.parts.controls import plain
from rankviz.ui.parts.html import Row

SOURCE = "Measured rows from assets/validation, each with its own source, beside RankViz's predictions of them."
HEIGHT = 460
CSV_COLUMNS = (
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
BANDS = """
A band is as wide as the errors of measured rows of the same kind make it: Student's t at 95 % times the spread between
sources, over what is modelled (activations, logits, scratch) and over what is counted (weights, adapter, states) apart.
A kind of setting without measured rows takes a wider band by choice, and says so. Nothing is fitted to single rows.
"""


def build(api: Api) -> None:
    found = as_json(api.accuracy.shipped())
    plain("<h2>How far off the ranges have been</h2>" + html.paragraphs(summary(found)))
    memory = chart("Peak memory, predicted against measured", height=HEIGHT, elem_id="validation-memory")
    memory.value = memory_chart(found)
    time = chart("Seconds a step, predicted against measured", height=HEIGHT, elem_id="validation-time")
    time.value = time_chart(found)
    plain(scores_html(found) + html.paragraphs(" ".join(BANDS.split())) + two_depths_html(found) + left_out_html(found))


def summary(found: Mapping[str, Any]) -> str:
    """The validation in one sentence."""
    every, time = found["overall"], found["time"]
    cards = {row["group"] for row in found["rows"] if row["scored"] and row["kind"] != "cpu"}
    return (
        f"{every['rows']} published peaks on GPUs, of {every['settings']} settings from {len(cards)} sources, whose "
        f"settings are all known, were predicted {_percent(every['mean_abs_error'])} off on average, and "
        f"{_percent(every['inside_band'])} of them lie inside the band, which is ±{_percent(every['mean_half_width'])} "
        f"wide. Of {time['rows']} timings {_percent(time['inside_range'])} lie inside their range, "
        f"{_percent(time['mean_abs_error'])} off on average. The command rankviz validate FILE.csv does the same for "
        "rows of your own."
    )


def memory_chart(found: Mapping[str, Any]) -> str:
    points = [
        ComparedPoint(
            group=row["group"],
            scored=row["scored"],
            measured=row["measured_bytes"] / units.GIB,
            predicted=row["predicted_bytes"] / units.GIB,
            low=row["low"] / units.GIB,
            high=row["high"] / units.GIB,
            text=_hover(row, units.memory_size(row["measured_bytes"]), units.memory_size(row["predicted_bytes"])),
        )
        for row in found["rows"]
        if row["predicted_bytes"] and row["measured_bytes"]
    ]
    figure = validation_figure(points, unit="GiB", height=HEIGHT, uirevision="validation-memory")
    return chart_value(figure, _csv(found), file="validation", source=SOURCE)


def time_chart(found: Mapping[str, Any]) -> str:
    points = [
        ComparedPoint(
            group=row["group"],
            scored=row["tier"] in ("A", "B"),
            measured=row["measured_seconds_per_step"],
            predicted=row["seconds_expected"],
            low=row["seconds_low"],
            high=row["seconds_high"],
            text=_hover(row, f"{row['measured_seconds_per_step']:.3g} s", f"{row['seconds_expected']:.3g} s"),
        )
        for row in found["rows"]
        if row["seconds_expected"]
    ]
    figure = validation_figure(points, unit="s a step", height=HEIGHT, uirevision="validation-time")
    return chart_value(figure, _csv(found), file="validation", source=SOURCE)


def _hover(row: Mapping[str, Any], measured: str, predicted: str) -> str:
    words = row["setting"].split(", ")
    lines = [", ".join(words[i : i + 4]) for i in range(0, len(words), 4)]
    return "<br>".join([f"<b>{row['model_id']}</b>", *lines, f"measured {measured}, predicted {predicted}"])


def _csv(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in CSV_COLUMNS} for row in found["rows"]]


def scores_html(found: Mapping[str, Any]) -> str:
    """Errors by group: those that count, all of them together, and those that are shown only."""
    counted = [_score(score) for score in found["groups"]]
    together = [_score(found["overall"], chosen=True)] if found["overall"] else []
    shown = [_score(score, after=", not counted") for score in found["not_scored"]]
    return html.table(
        ["Source", "Rows", "Settings", "Mean error", "Worst", "Inside the band", "Band"],
        [Row(cells=cells, chosen=chosen) for cells, chosen in (*counted, *together, *shown)],
        label="Error by source",
    )


def _score(score: Mapping[str, Any], *, after: str = "", chosen: bool = False) -> tuple[list[str], bool]:
    return [
        score["group"] + after,
        f"{score['rows']:,}",
        f"{score['settings']:,}",
        _percent(score["mean_abs_error"]),
        _signed(score["worst_error"]),
        _percent(score["inside_band"]),
        f"±{_percent(score['mean_half_width'])}",
    ], chosen


def two_depths_html(found: Mapping[str, Any]) -> str:
    """Probes that ran the whole model: what two shallow depths made of it, beside what it took."""
    rows = [row for row in found["rows"] if row["two_depth_bytes"]]
    if not rows:
        return ""
    cells = [
        [
            html.Cell(row["model_id"], kind="wrap", sub=row["setting"]),
            units.memory_size(row["measured_bytes"]),
            units.memory_size(row["two_depth_bytes"]),
            _signed(row["two_depth_bytes"] / row["measured_bytes"] - 1),
            units.duration(row["measured_seconds_per_step"]),
            units.duration(row["two_depth_seconds"]) if row["two_depth_seconds"] else "not known",
            _signed(row["two_depth_seconds"] / row["measured_seconds_per_step"] - 1)
            if row["two_depth_seconds"]
            else "not known",
        ]
        for row in rows
    ]
    return html.titled(
        "Probes: two shallow depths against the whole model",
        html.table(
            ["Model", "Memory", "From two depths", "Off", "Step", "From two depths", "Off"],
            [Row(cells=each) for each in cells],
            label="Two-depth extrapolation beside the full measurement",
        ),
    )


def left_out_html(found: Mapping[str, Any]) -> str:
    """Rows without a prediction, by source and reason."""
    reasons = Counter((row["group"], row["reason"]) for row in found["rows"] if row["predicted_bytes"] is None)
    items = [f"{count} of {group}: {reason}." for (group, reason), count in sorted(reasons.items())]
    return html.titled("Rows that can't be used", html.bullet_list(items)) if items else ""


def rests_on_html(rests: Mapping[str, Any], said: str) -> str:
    """Under an estimate: what it rests on in a sentence, and the measured rows most alike, folded."""
    rows: Sequence[Mapping[str, Any]] = rests["rows"]
    if not rows:
        return html.paragraphs(said)
    body = html.table(
        ["Measured elsewhere", "Measured", "Predicted", "Off"],
        [
            Row(
                cells=[
                    html.Cell(row["model_id"], kind="wrap", sub=row["setting"]),
                    html.Cell(
                        units.memory_size(row["measured_bytes"]), title=f"{row['measured_kind']}; {row['source']}"
                    ),
                    units.memory_size(row["predicted_bytes"]),
                    _signed(row["predicted_bytes"] / row["measured_bytes"] - 1),
                ]
            )
            for row in rows
        ],
        label="Measured rows most like this estimate",
    )
    return html.folded(said, body)


def _signed(share: float) -> str:
    text = f"{100 * share:+.1f} %"
    return "0.0 %" if text[1:] == "0.0 %" else text.replace("-", "−")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
