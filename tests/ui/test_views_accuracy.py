"""Guide's accuracy section and the fold under an estimate."""

import json

from rankviz.api import Api
from rankviz.core.accuracy.report import as_json
from rankviz.ui.guide import accuracy
from tests.support.finished_runs import text_of

ROW = {
    "model_id": "a/<b>",
    "setting": "trl, bf16",
    "measured_kind": "allocated",
    "measured_bytes": 2 * 2**30,
    "predicted_bytes": 3 * 2**30,
    "source": "somewhere",
}


def test_the_chart_has_every_row_that_can_be_compared():
    found = as_json(Api().accuracy.shipped())
    comparable = [row for row in found["rows"] if row["predicted_bytes"]]

    drawn = json.loads(accuracy.memory_chart(found))

    line, *groups = drawn["data"]
    assert line["x"] == line["y"]
    assert len(comparable) == sum(len(group["x"]) for group in groups) == 152
    assert len(found["rows"]) + 1 == len(drawn["csv"].splitlines())


def test_timings_have_a_chart_of_their_own():
    found = as_json(Api().accuracy.shipped())

    _, *groups = json.loads(accuracy.time_chart(found))["data"]

    assert 103 == sum(len(group["x"]) for group in groups)


def test_rows_that_cant_be_used_are_named_with_the_reason():
    said = accuracy.left_out_html(as_json(Api().accuracy.shipped()))

    assert "5 of litgpt-2023: several GPUs." in said
    assert "17 of peft-metamath: maximum includes batch-50 evaluation generation." in said


def test_the_summary_says_rows_error_and_share_inside():
    found = as_json(Api().accuracy.shipped())

    said = accuracy.summary(found)

    assert f"{found['overall']['rows']} published peaks" in said
    assert f"{100 * found['overall']['mean_abs_error']:.1f} % off on average" in said


def test_the_fold_shows_rows_escaped_and_how_far_off_they_were():
    said = accuracy.rests_on_html({"rows": [ROW]}, "Rests on <this>.")

    assert "Rests on &lt;this&gt;." in said and "a/&lt;b&gt;" in said
    assert "+50.0 %" in said
    assert "<details" in said


def test_without_rows_the_sentence_stands_alone():
    assert "<details" not in accuracy.rests_on_html({"rows": []}, "Nothing measured.")


def test_a_probe_of_all_blocks_shows_what_two_depths_made_of_it():
    row = ROW | {
        "two_depth_bytes": 1.5 * 2**30,
        "measured_seconds_per_step": 4.0,
        "two_depth_seconds": 5.0,
    }

    said = text_of(accuracy.two_depths_html({"rows": [row, ROW | {"two_depth_bytes": None}]}))

    assert said.endswith("a/&lt;b&gt; trl, bf16 2.00 GiB 1.50 GiB −25.0 % 4.0 s 5.0 s +25.0 %")
    assert "" == accuracy.two_depths_html({"rows": [ROW | {"two_depth_bytes": None}]})
