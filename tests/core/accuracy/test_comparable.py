"""Which measured rows an estimate rests on."""

from rankviz.api import Api
from rankviz.core.accuracy.similar import evidence_for, in_words, rests_on
from tests.core.cost.test_memory import stack
from tests.support.questions import question

ROW = {
    "model_id": "a/b",
    "predicted_bytes": 1000,
    "kind": "hf",
    "scored": True,
    "quantized": False,
    "gpu": "T4",
    "measured_kind": "allocated",
}
VALIDATION = {
    "rows": [
        {**ROW, "row_id": "far", "setting": "far", "predicted_bytes": 8000},
        {**ROW, "row_id": "far again", "predicted_bytes": 8000, "setting": "far"},
        {**ROW, "row_id": "near", "setting": "near", "predicted_bytes": 1100},
        {**ROW, "row_id": "4-bit", "setting": "4-bit", "quantized": True},
        {**ROW, "row_id": "not counted", "setting": "not counted", "scored": False},
        {**ROW, "row_id": "other kernels", "setting": "other kernels", "kind": "unsloth"},
        {**ROW, "row_id": "no prediction", "setting": "no prediction", "predicted_bytes": None, "kind": None},
        {**ROW, "row_id": "same card", "setting": "same card", "predicted_bytes": 1200, "gpu": "L4"},
    ],
    "evidence": {
        "memory": [{"kind": "hf", "settings": 3, "groups": ["lab-a"], "mean_abs_error": 0.012}],
        "lower": [{"kind": "unsloth", "settings": 8, "groups": ["wiki"], "mean_abs_error": 0.048}],
        "time": [],
    },
}


def test_rows_of_the_same_kind_come_the_most_alike_first():
    found = rests_on(VALIDATION, stack("trl"), predicted_bytes=1000, gpu="L4")

    assert ["same card", "near", "far", "4-bit", "not counted"] == [row["row_id"] for row in found["rows"]]
    assert 6 == found["alike"]


def test_what_it_rests_on_is_said_in_a_sentence():
    said = in_words(evidence_for(VALIDATION, stack("trl")))

    assert "Memory was checked against 3 measured settings from 1 source with these kernels" in said
    assert "average error was 1.2 %" in said


def test_a_kind_of_setting_without_measurements_says_so():
    unsloth = in_words(evidence_for(VALIDATION, stack("unsloth")))
    eager = in_words(evidence_for(VALIDATION, stack("trl", attn_implementation="eager")))

    assert "No measured run matches this setup" in unsloth and "8 runs with unknown settings" in unsloth
    assert "No measured run matches this setup" in eager and "unknown settings" not in eager


def test_every_estimate_carries_what_it_rests_on():
    asked = question("Qwen/Qwen2.5-1.5B", gpu="T4", framework="trl", gradient_checkpointing="hf")
    api = Api()

    assert "hf" == api.estimate(asked)["rests_on"]["memory"]["kind"]
    assert {"T4"} == {row["gpu"] for row in api.rests_on(asked, 16)["rows"]}
