"""Rows predicted as if their source had not been seen."""

from dataclasses import replace

import pytest

from rankviz.catalog.hardware import load_constants
from rankviz.core.accuracy.predicted import predict_row
from rankviz.core.accuracy.report import CHECKED_ON_ROWS, basis_of, in_words
from rankviz.core.accuracy.summarize import left_out_predictions, summarize
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.quantity import Range
from tests.support.runs.measured_rows import measured_row
from tests.support.runs.toy import ASSETS, ASSUMPTIONS, TOY, gpu

CONSTANTS = load_constants(ASSETS).with_rows([ASSUMPTIONS.row("cublas-workspace-bytes")])
UNMEASURED = CONSTANTS.value("width-unmeasured")


def predict(row, assume):
    return predict_row(row, lambda _: TOY, lambda _: gpu(), assume)


def rows_of(*groups):
    return [measured_row(row_id=f"{group} {n}", independent_group=group) for n, group in enumerate(groups)]


def taught(row_id, origin, otherwise):
    row = CONSTANTS.row(row_id)
    value = Range(otherwise, otherwise, otherwise)
    return CONSTANTS.with_rows([replace(row, without=((origin, value),))])


def width(prediction):
    return prediction.stack.assume.value("width-hf", "width-unmeasured")


def test_tables_of_one_source_are_left_out_together():
    origins = [
        row.origin for row in rows_of("fms-a100_80gb", "fms-a100_80gb_liger", "raschka-2023", "litgpt-hub", "mine")
    ]

    assert ["fms-acceleration", "fms-acceleration", "litgpt", "litgpt", "mine"] == origins


def test_a_source_has_the_width_that_the_others_give():
    rows = rows_of("lab-a", "lab-b")
    rows[0] = replace(rows[0], measured_bytes=40_000)  # further off than lab-b's

    a, b = left_out_predictions(rows, predict, CONSTANTS, "2026-11-26")

    error = abs(40_000 - a.predicted.expected) / a.working_bytes
    assert error == pytest.approx(width(b))  # lab-a's one error, larger than the width of unmeasured kinds
    assert UNMEASURED == width(a)  # 6.3 times lab-b's small error would be more


def test_a_kind_that_only_its_own_source_measured_has_the_width_of_unmeasured_kinds():
    rows = [*rows_of("lab-a"), measured_row(independent_group="lab-b", attn="eager")]

    a, b = left_out_predictions(rows, predict, CONSTANTS, "2026-11-26")
    report = summarize([predict(row, CONSTANTS) for row in rows], "2026-11-26", [a, b])

    assert UNMEASURED == width(a)
    assert ("lab-a", "lab-b") == report.left_out.without_own_kind


def test_a_constant_is_what_it_would_be_without_the_source_that_taught_it():
    constants = taught("logits-bytes-full", "lab-a", 20)

    a, b = left_out_predictions(rows_of("lab-a", "lab-b"), predict, constants, "2026-11-26")

    assert (20 - 12) * 10 * 100 == a.memory.logits - b.memory.logits


def test_the_report_counts_errors_over_these_predictions():
    rows = rows_of("lab-a", "lab-b")
    unseen = left_out_predictions(rows, predict, taught("logits-bytes-full", "lab-a", 20), "2026-11-26")

    report = summarize([predict(row, CONSTANTS) for row in rows], "2026-11-26", unseen)

    errors = [abs(p.error) for p in unseen]
    assert sum(errors) / 2 == pytest.approx(report.left_out.overall.mean_abs_error)
    assert set(errors) == {score.mean_abs_error for score in report.left_out.origins}
    (evidence,) = report.evidence.memory
    assert sum(errors) / 2 == pytest.approx(evidence.left_out_error)
    assert [p.predicted.expected for p in unseen] == [row.left_out_bytes for row in report.rows]


def test_a_file_of_ones_own_is_unseen_anyway():
    assert summarize([predict(row, CONSTANTS) for row in rows_of("mine")], "2026-11-26").left_out is None


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


def test_without_an_unknown_source_constants_stay():
    same = CONSTANTS.without("nobody")

    assert isinstance(same, Assumptions)
    assert list(CONSTANTS) == list(same)


@pytest.mark.parametrize("row_id", ["litgpt-logit-bytes", "litgpt-quantized-head", "litgpt-unpacked-copies"])
def test_what_rows_of_litgpt_taught_is_left_out_with_them(row_id):
    row = measured_row(independent_group="litgpt-2023", framework="litgpt", precision="nf4", loss_path="unknown")
    known, alone = CONSTANTS, CONSTANTS.with_rows([replace(CONSTANTS.row(row_id), without=())])

    assert predict(row, known).memory == predict(row, alone).memory
    assert predict(row, known.without("litgpt")).memory != predict(row, alone.without("litgpt")).memory


def test_a_figure_over_unseen_sources_says_that_formulas_were_checked_on_the_same_rows():
    rows = rows_of("lab-a", "lab-b")
    unseen = left_out_predictions(rows, predict, CONSTANTS, "2026-11-26")
    report = summarize([predict(row, CONSTANTS) for row in rows], "2026-11-26", unseen)

    assert in_words(basis_of(report.evidence, unseen[0].stack)).endswith(CHECKED_ON_ROWS)
