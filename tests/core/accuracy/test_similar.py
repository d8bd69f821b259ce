"""Which measured rows an estimate rests on."""

from rankviz.api import Api
from rankviz.core.accuracy.report import AccuracyByKind, AccuracyReport, ReportRow, rests_on
from tests.core.cost.toy_cost import stack
from tests.support.runs.questions import question


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
    evidence=AccuracyByKind(static=(), memory=(), lower=(), time=()),
)


def test_rows_of_the_same_kind_come_the_most_alike_first():
    similar = rests_on(REPORT, stack("trl"), predicted_bytes=1000, gpu="L4")

    assert ["same card", "near", "far", "4-bit", "not counted"] == [row.row_id for row in similar.rows]
    assert 6 == similar.count


def test_every_estimate_carries_what_it_rests_on():
    chosen = question("Qwen/Qwen2.5-1.5B", gpu="T4", framework="trl", gradient_checkpointing="hf")
    api = Api()

    assert "hf-eager" == api.estimates.estimate(chosen).basis.memory.kind  # the math kernel holds the matrix too
    assert {"T4"} == {row.gpu for row in api.estimates.rests_on(chosen, 16).rows}
