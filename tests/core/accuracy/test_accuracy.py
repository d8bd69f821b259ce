"""Measured rows against predictions: which count, how errors are weighed, and how wide a band they give."""

import csv
import math
from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.catalog.hardware import load_constants
from rankviz.catalog.measurements import GRPO_FILE, load_validation
from rankviz.core.accuracy.predicted import (
    TRAINED_COPIES,
    MeasuredRow,
    half_width,
    left_out_predictions,
    parse_row,
    predict_row,
    summarize,
)
from rankviz.core.accuracy.report import AccuracyByKind, KindAccuracy, basis_of, in_words
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.resolve import resolve
from rankviz.errors import UnknownModelError
from tests.core.cost.toy_cost import stack
from tests.support.runs.toy import ASSETS, ASSUMPTIONS, TOY, gpu

CELLS = {
    "row_id": "M1",
    "independent_group": "lab-a",
    "tier": "A",
    "use_peak": "yes",
    "use_time": "no",
    "model_id": "toy/toy-16",
    "precision": "bf16",
    "kbit_fp32_upcast": "no",
    "framework": "trl",
    "r": "2",
    "targets": "q_proj,v_proj",
    "batch": "1",
    "grad_accum": "2",
    "seq_len": "10",
    "checkpointing": "hf",
    "attn": "flash",
    "loss_path": "full",
    "optimizer": "adamw_torch",
    "gpu": "toy-card",
    "measured_bytes": "30000",
    "measured_kind": "allocated",
}


def measured_row(**cells: str) -> MeasuredRow:
    return parse_row({**CELLS, **cells}, line=2)


def test_a_sentence_says_what_an_estimate_rests_on():
    errors = {"mean_abs_error": 0.012, "left_out_error": 0.034, "left_out_inside": 2 / 3}
    kind = KindAccuracy(kind="hf", half_width=0.1, groups=("lab-a",), settings=3, **errors)

    sentence = in_words(basis_of(AccuracyByKind(static=(), memory=(kind,), time=()), stack("trl")))

    assert "The memory range rests on 3 measured setups of lab-a with the same kernels" in sentence
    assert "without its own source, a setup was 3.4 % off on average; 67 %" in sentence
    assert "1.2 %" not in sentence


def find_toy(model_id):
    if model_id != TOY.id:
        raise UnknownModelError(model_id)
    return TOY


def predicted(**cells):
    return predict_row(measured_row(**cells), find_toy, lambda _: gpu(), ASSUMPTIONS)


def test_a_row_is_predicted_by_the_formulas_of_any_estimate():
    row = predicted()

    parameters = 2 * 2 * (32 + 24)  # r 2 on q and v of two blocks
    static, working = 12_576 + 16 * parameters, 640 + 960 + 14_000
    assert static + working == row.predicted.expected
    assert (working, True) == (row.working_bytes, row.scored)
    assert (static + working) / 30_000 - 1 == row.error


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"framework": "megatron"}, "program 'megatron': no formula"),
        ({"gpu": "2 x A100"}, "several GPUs"),
        ({"targets": "nothing_proj"}, "nothing_proj matches nothing in this model"),
    ],
)
def test_a_row_that_cant_be_used_says_why(cells, reason):
    row = predicted(**cells)

    assert row.predicted is None
    assert reason in row.reason


def test_the_half_width_is_students_t_times_the_spread_between_sources():
    errors = {"lab-a": [0.03, -0.04], "lab-b": [0.05]}

    spread = math.sqrt(((0.03**2 + 0.04**2) / 2 + 0.05**2) / 2)
    assert pytest.approx(2.920 * spread) == half_width(errors)
    assert pytest.approx(6.314 * 0.05) == half_width({"lab-b": [0.05]})


def test_a_row_whose_length_is_only_a_cap_is_a_bound_and_no_error():
    below, above = (predicted(tier="C", seq_kind="cap", measured_bytes=size) for size in ("10", "1000000000"))

    assert [(False, True, True), (False, True, False)] == [(p.scored, p.bound, p.inside) for p in (below, above)]
    report = summarize([predicted(), below, above], "2026-11-26")
    (bounds,) = report.bounds
    assert (2, 0.5, ()) == (bounds.rows, bounds.inside_band, report.not_scored)


def test_the_shipped_validation_is_what_the_shipped_rows_give():
    shipped, anew = load_validation(ASSETS), Api().estimates.validate()

    assert replace(shipped, made="") == replace(anew, made="")


def test_a_table_of_grpo_runs_is_read_and_a_row_that_does_not_count_says_why():
    found, shipped = Api().estimates.validate(ASSETS / GRPO_FILE), load_validation(ASSETS)

    assert (28, found.groups) == (len(found.rows), shipped.grpo)
    assert all(row.scored or row.reason for row in shipped.grpo_rows)


def test_sources_that_were_not_seen_are_met_as_promised():
    report = load_validation(ASSETS)
    unseen = report.left_out

    assert unseen.overall.mean_abs_error <= 0.06
    assert max(source.mean_abs_error for source in unseen.origins) <= 0.12
    assert unseen.overall.inside_band >= 0.90
    assert min(source.inside_band for source in unseen.origins) >= 0.85
    assert {"fitcheck", "fms-acceleration", "litgpt"} < {source.group for source in unseen.origins}
    assert unseen.time.inside_range >= 0.90
    assert 1.0 == min(score.inside_band for score in report.bounds)
    assert report.several.overall.mean_abs_error <= 0.2 and report.several.overall.inside_band >= 0.85
    assert {"fms-acceleration", "fsdp-qlora", "peft-docs", "torchtune"} == {s.group for s in report.several.origins}


def test_published_counts_of_trainable_parameters_are_met():
    api, met = Api(), 0
    for file in (ASSETS / "validation").glob("*.csv"):
        for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
            if row["use_count"] == "yes" and row["trainable_params"]:
                model, names = api.models.get(row["model_id"]), row["targets"].split(",")
                copies = TRAINED_COPIES if row["framework"] == "unsloth" and not model.tie_word_embeddings else ()
                saved = tuple(name for name in names if name in copies)
                lora = LoraConfig(target_modules=tuple(n for n in names if n not in copies), modules_to_save=saved)
                plan = resolve(model, lora, "peft")
                assert int(row["trainable_params"]) == plan.parameters(int(row["r"])), row["row_id"]
                met += 1
    assert 30 <= met


CONSTANTS = load_constants(ASSETS).with_rows(row for row in ASSUMPTIONS if row.id == "cublas-workspace-bytes")
UNMEASURED = CONSTANTS.value("width-unmeasured")


def predict(row, assume):
    return predict_row(row, lambda _: TOY, lambda _: gpu(), assume)


def rows_of(*groups):
    return [measured_row(row_id=f"{group} {n}", independent_group=group) for n, group in enumerate(groups)]


def width_of(prediction):
    return prediction.stack.assume.value("width-hf", "width-unmeasured")


def test_a_source_has_the_width_that_the_others_give():
    rows = rows_of("lab-a", "lab-b")
    rows[0] = replace(rows[0], measured_bytes=40_000)  # further off than lab-b's

    a, b = left_out_predictions(rows, predict, CONSTANTS, "2026-11-26")

    error = abs(40_000 - a.predicted.expected) / a.working_bytes
    assert error == pytest.approx(width_of(b))  # lab-a's one error, larger than the width of unmeasured kinds
    assert UNMEASURED == width_of(a)  # 6.3 times lab-b's small error would be more


def test_every_constant_whose_source_is_a_table_of_rows_says_what_it_is_without_it():
    named = {
        "fitcheck-llm 0.3.1 sdist": "fitcheck",
        "scripts/benchmarks/refs/a100_80gb": "fms-acceleration",
        "rows of litgpt": "litgpt",
    }
    read = {"weight-bytes-gptq-int4"}  # the format's own bytes, which RankViz offers to nobody

    missing = {
        (row.id, origin)
        for row in CONSTANTS
        for words, origin in named.items()
        if words in row.source and row.id not in read and origin not in dict(row.without)
    }
    assert set() == missing
