"""Guide's accuracy section and the fold under an estimate."""

import json
from dataclasses import fields, replace

from rankviz.api import Api
from rankviz.core.accuracy.report import ReportRow
from rankviz.ui.guide import tab as accuracy

REPORT = Api().accuracy.shipped()
ROW = ReportRow(
    **dict.fromkeys(field.name for field in fields(ReportRow))
    | {
        "model_id": "a/<b>",
        "setting": "trl, bf16",
        "measured_kind": "allocated",
        "measured_bytes": 2 * 2**30,
        "predicted_bytes": 3 * 2**30,
        "source": "somewhere",
    }
)


def test_the_chart_has_every_row_that_can_be_compared():
    comparable = [row for row in REPORT.rows if row.predicted_bytes]

    drawn = json.loads(accuracy.details(REPORT).memory)

    line, *groups = drawn["data"]
    assert line["x"] == line["y"]
    assert len(comparable) == sum(len(group["x"]) for group in groups) == 200
    assert len(REPORT.rows) + 1 == len(drawn["csv"].splitlines())


def test_three_sentences_say_what_the_errors_rest_on_and_repeat_none():
    shown, unseen = accuracy.summary(REPORT), REPORT.left_out

    assert f"{unseen.overall.rows} published memory peaks" in shown
    assert f"With all sources seen, the mean error is {100 * REPORT.overall.mean_abs_error:.1f} % for memory" in shown
    assert f"{100 * unseen.overall.mean_abs_error:.1f} %" not in shown
    assert 3 == shown.count(". ") + 1


def test_the_measured_rows_are_shown_unfolded_and_escaped_with_how_far_off_they_were():
    shown = accuracy.rests_on_html([ROW], "Rests on <this>.")

    assert "Rests on &lt;this&gt;." in shown and "a/&lt;b&gt;" in shown
    assert "+50.0 %" in shown
    assert "+25.0 %" in accuracy.rests_on_html([replace(ROW, left_out_bytes=2.5 * 2**30)], "")
    assert "at most" in accuracy.rests_on_html([replace(ROW, bound=True)], "")
    assert "<table" in shown and "<details" not in shown
