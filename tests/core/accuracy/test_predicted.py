"""Measured rows against predictions: which count, how errors are weighed, how wide a band they give."""

import json
import math
from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.catalog.accuracy import load_validation, measured_widths, read_rows, shipped_rows
from rankviz.catalog.hardware import load_constants
from rankviz.core.accuracy import bands
from rankviz.core.accuracy.predicted import predict_row
from rankviz.core.accuracy.report import as_json, from_json
from rankviz.core.accuracy.summarize import summarize
from rankviz.errors import AssetError, BadDataError, UnknownModelError
from tests.support.measured_rows import CELLS, measured_row
from tests.support.toy import ASSETS, ASSUMPTIONS, ATTENTION, EXPERTS, TOY, gpu, model

QUANTIZABLE_MOE = model((*ATTENTION, *EXPERTS), id="toy/toy-moe", unquantized_parameters=1680 + 2 * 4 * (256 + 128))


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
        ({"precision": "aqlm"}, "precision 'aqlm': no formula"),
        ({"gpu": "2 x A100"}, "several GPUs"),
        ({"measured_bytes": "", "notes": "OOM; dropout 0.05"}, "OOM"),
        ({"use_peak": "no", "notes": "maximum includes evaluation: no peak"}, "maximum includes evaluation"),
        ({"targets": ""}, "target modules not stated"),
        ({"model_id": "toy/other"}, "No model 'toy/other' in the catalogue."),
        ({"targets": "nothing_proj"}, "nothing_proj matches nothing in this model"),
    ],
)
def test_a_row_that_cant_be_used_says_why(cells, reason):
    row = predicted(**cells)

    assert row.predicted is None
    assert reason in row.reason


def test_rows_whose_settings_arent_all_known_are_predicted_and_not_counted():
    rows = [predicted(tier=tier) for tier in ("A", "B", "D", "E")]

    assert [True, True, False, False] == [each.scored for each in rows]
    assert all(each.predicted for each in rows)


def test_each_kind_of_peak_is_compared_with_its_own_total():
    allocated, reserved, device, unknown = (
        predicted(measured_kind=kind).predicted for kind in ("allocated", "reserved", "device", "unknown")
    )

    assert allocated.expected < reserved.expected < device.expected
    assert (allocated.low, reserved.expected, device.high) == (unknown.low, unknown.expected, unknown.high)


def test_older_transformers_quantized_experts_too():
    before, now = (
        predict_row(
            measured_row(precision="nf4", framework_version=f"transformers {version}.1", model_id="toy/toy-moe"),
            lambda _: QUANTIZABLE_MOE,
            lambda _: gpu(),
            ASSUMPTIONS,
        ).loaded_bytes
        for version in (4, 5)
    )

    assert before < now


def test_repeats_of_one_setting_weigh_as_much_as_one_row():
    rows = [predicted(row_id=str(n), measured_bytes="20000") for n in range(9)] + [predicted(seq_len="20")]

    off = [abs(rows[0].error), abs(rows[-1].error)]

    assert pytest.approx(sum(off) / 2) == bands.score("all", rows).mean_abs_error


def test_the_half_width_is_students_t_times_the_spread_between_sources():
    errors = {"lab-a": [0.03, -0.04], "lab-b": [0.05]}

    spread = math.sqrt(((0.03**2 + 0.04**2) / 2 + 0.05**2) / 2)
    assert pytest.approx(2.920 * spread) == bands.half_width(errors)
    assert pytest.approx(6.314 * 0.05) == bands.half_width({"lab-b": [0.05]})


def test_memory_errors_are_shares_of_what_is_modelled():
    (evidence,) = bands.memory_evidence([predicted()])

    row = predicted()
    share = (30_000 - row.predicted.expected) / row.working_bytes
    assert pytest.approx(6.314 * abs(share)) == evidence.half_width
    assert ("hf", ("lab-a",), 1) == (evidence.kind, evidence.groups, evidence.settings)


def test_a_timing_is_compared_by_its_logarithm():
    row = {"use_time": "yes", "measured_seconds_per_step": "1"}
    expected = predicted(**row).seconds.expected

    (evidence,) = bands.time_evidence([predicted(use_time="yes", measured_seconds_per_step=str(2 * expected))])

    assert pytest.approx(6.314 * math.log(2)) == evidence.half_width


def test_the_report_is_json_with_the_keys_that_scripts_rely_on():
    report = json.loads(
        json.dumps(as_json(summarize([predicted(), predicted(row_id="M2", gpu="2 x A100")], "2026-11-25")))
    )

    row, left_out = report["rows"]
    assert {"row_id", "measured_bytes", "predicted_bytes", "low", "high"} <= row.keys()
    assert {"measured_seconds_per_step", "seconds_low", "seconds_high"} <= row.keys()
    assert ("several GPUs", None) == (left_out["reason"], left_out["predicted_bytes"])
    assert {"group", "rows", "mean_abs_error", "inside_band"} <= report["groups"][0].keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column"),
        ("model_id,precision\nx,bf16\n", "has no column framework, r, targets, batch, seq_len"),
        (",".join(CELLS) + "\n", "has no rows"),
        (",".join(CELLS) + "\n" + ",".join(CELLS.values()).replace(",2,", ",two,", 1) + "\n", "Line 2, column"),
    ],
)
def test_a_file_that_cant_be_read_says_what_it_lacks(tmp_path, text, message):
    file = tmp_path / "rows.csv"
    file.write_text(text)

    with pytest.raises(BadDataError, match=message):
        read_rows(file)


def test_the_shipped_validation_is_what_the_shipped_rows_give():
    shipped, anew = load_validation(ASSETS), Api().accuracy.remake()

    assert replace(shipped, made="") == replace(anew, made="")


def test_the_shipped_report_is_read_and_written_without_a_change():
    text = (ASSETS / "validation.json").read_text(encoding="utf-8")

    assert text == json.dumps(as_json(from_json(json.loads(text))), indent=1) + "\n"


def test_a_report_of_another_version_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "validation.json").write_text('{"made": "2026-11-25"}')

    with pytest.raises(AssetError, match="run make validate"):
        load_validation(tmp_path)


def test_the_shipped_rows_are_met_as_promised():
    report = load_validation(ASSETS)

    assert report.overall.mean_abs_error <= 0.05
    assert max(group.mean_abs_error for group in report.groups) <= 0.10
    assert report.overall.inside_band >= 0.90
    # A process's resident memory is known less well, and from one source.
    on_cards = [each for each in report.groups if each.group != "rankviz-probe-cpu"]
    assert max(each.mean_half_width for each in on_cards) <= 0.12
    assert len(on_cards) + 1 == len(report.groups)
    assert min(each.inside_band for each in report.unseen_groups) >= 0.90
    assert report.time.inside_range >= 0.80
    assert report.time.widest_high_over_low <= 2.5


def test_two_shallow_depths_gave_the_whole_models_memory_on_every_shipped_probe():
    probes = [row for row in load_validation(ASSETS).rows if row.two_depth_bytes]

    assert {"HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-360M"} == {row.model_id for row in probes}
    assert max(abs(row.two_depth_bytes / row.measured_bytes - 1) for row in probes) <= 0.05


def test_every_shipped_row_is_scored_shown_or_named_with_a_reason():
    rows = load_validation(ASSETS).rows

    assert len(shipped_rows(ASSETS)) == len(rows)
    assert all(row.scored or row.reason for row in rows)
    assert all(row.source for row in rows)


def test_widths_come_from_the_validation_and_not_from_the_constants():
    constants = load_constants(ASSETS)
    widths = {row.id for row in measured_widths(load_validation(ASSETS))}

    assert {"width-static", "width-hf", "width-hf-none", "width-hf-eager", "time-width-hf"} <= widths
    assert not any(row_id in constants for row_id in widths)
