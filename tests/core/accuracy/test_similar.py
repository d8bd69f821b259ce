"""Which measured rows an estimate rests on."""

from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.core.accuracy.report import AccuracyByKind, AccuracyReport, KindAccuracy, ReportRow
from rankviz.core.accuracy.similar import basis_of, in_words, rests_on
from tests.core.cost.test_memory import stack
from tests.support.questions import question


def row(row_id, setting=None, **cells):
    known = dict.fromkeys(ReportRow.__dataclass_fields__) | {
        "model_id": "a/b",
        "predicted_bytes": 1000,
        "kind": "hf",
        "scored": True,
        "quantized": False,
        "gpu": "T4",
        "measured_kind": "allocated",
    }
    return ReportRow(**{**known, "row_id": row_id, "setting": setting or row_id, **cells})


def evidence(kind, settings, group, mean_abs_error):
    return KindAccuracy(kind=kind, half_width=0.1, groups=(group,), settings=settings, mean_abs_error=mean_abs_error)


REPORT = AccuracyReport(
    made="2026-11-25",
    rows=(
        row("far", predicted_bytes=8000),
        row("far again", "far", predicted_bytes=8000),
        row("near", predicted_bytes=1100),
        row("4-bit", quantized=True),
        row("not counted", scored=False),
        row("other kernels", kind="unsloth"),
        row("no prediction", predicted_bytes=None, kind=None),
        row("same card", predicted_bytes=1200, gpu="L4"),
    ),
    groups=(),
    overall=None,
    settings=(),
    not_scored=(),
    totals=(),
    time=None,
    evidence=AccuracyByKind(
        static=(),
        memory=(replace(evidence("hf", 3, "lab-a", 0.012), left_out_error=0.034, left_out_inside=2 / 3),),
        lower=(evidence("unsloth", 8, "wiki", 0.048),),
        time=(),
    ),
)


def test_rows_of_the_same_kind_come_the_most_alike_first():
    similar = rests_on(REPORT, stack("trl"), predicted_bytes=1000, gpu="L4")

    assert ["same card", "near", "far", "4-bit", "not counted"] == [row.row_id for row in similar.rows]
    assert 6 == similar.count


def test_a_sentence_says_what_an_estimate_rests_on():
    sentence = in_words(basis_of(REPORT, stack("trl")))

    assert "The memory range rests on 3 measured setups from 1 source with the same kernels" in sentence
    assert "without the measurements of its own source, a setup was 3.4 % off on average, and 67 %" in sentence
    assert "1.2 %" not in sentence


@pytest.mark.parametrize("settings", ({"framework": "unsloth"}, {"framework": "trl", "attn_implementation": "eager"}))
def test_a_kind_of_setting_without_measurements_quotes_no_figure(settings):
    """Rows that are shown and not counted are in-sample and say nothing about coverage."""
    sentence = in_words(basis_of(REPORT, stack(**settings)))

    assert "There is no measurement of this kind of setup" in sentence
    assert "the width of the range is an assumption" in sentence
    assert not any(character.isdigit() for character in sentence)


def test_every_estimate_carries_what_it_rests_on():
    chosen = question("Qwen/Qwen2.5-1.5B", gpu="T4", framework="trl", gradient_checkpointing="hf")
    api = Api()

    assert "hf" == api.estimates.estimate(chosen).basis.memory.kind
    assert {"T4"} == {row.gpu for row in api.estimates.rests_on(chosen, 16).rows}
