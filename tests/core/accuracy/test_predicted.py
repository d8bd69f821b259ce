"""Measured rows against predictions: which count, how errors are weighed, how wide a band they give."""

import json
import math
from dataclasses import asdict, replace

import pytest

from rankviz.api import Api
from rankviz.catalog.hardware import load_constants
from rankviz.catalog.measurements import load_range_evidence, load_validation, read_rows, shipped_rows
from rankviz.core.accuracy.predicted import predict_row
from rankviz.core.accuracy.report import AccuracyReport, widths
from rankviz.core.accuracy.summarize import half_width, interval_score, memory_evidence, summarize, time_evidence
from rankviz.core.from_json import build
from rankviz.errors import AssetError, BadDataError, UnknownModelError
from tests.support.runs.measured_rows import CELLS, measured_row
from tests.support.runs.toy import ASSETS, ASSUMPTIONS, ATTENTION, EXPERTS, TOY, gpu, model

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
        ({"measured_bytes": "", "notes": "OOM; dropout 0.05"}, "stopped out of memory"),
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


def test_a_row_that_is_not_counted_says_what_its_source_leaves_open():
    notes = "rank and targets not stated: defaults assumed; unit GiB assumed; optimizer not stated"

    assert "rank and targets not stated; optimizer not stated" == predicted(tier="D", notes=notes).reason
    assert "a setting is not stated" == predicted(tier="D").reason
    assert "read from an extrapolated line, not measured" == predicted(tier="E").reason


def test_whether_a_row_counts_does_not_depend_on_how_far_off_it_is():
    for tier in ("A", "B", "C", "D", "E"):
        near, far = (predicted(tier=tier, measured_bytes=size) for size in ("30000", "3000000"))
        assert (near.scored, near.reason) == (far.scored, far.reason)


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

    assert pytest.approx(sum(off) / 2) == interval_score("all", rows).mean_abs_error


def test_a_kind_with_measurements_is_no_wider_than_one_without_unless_its_own_errors_are():
    assert 0.25 == half_width({"lab-b": [0.05]}, unmeasured=0.25)
    assert 0.3 == half_width({"lab-b": [0.3]}, unmeasured=0.25)


def test_the_half_width_is_students_t_times_the_spread_between_sources():
    errors = {"lab-a": [0.03, -0.04], "lab-b": [0.05]}

    spread = math.sqrt(((0.03**2 + 0.04**2) / 2 + 0.05**2) / 2)
    assert pytest.approx(2.920 * spread) == half_width(errors)
    assert pytest.approx(6.314 * 0.05) == half_width({"lab-b": [0.05]})


def test_memory_errors_are_shares_of_what_is_modelled():
    row = predicted(measured_bytes="40000")
    (evidence,) = memory_evidence([row])

    share = (40_000 - row.predicted.expected) / row.working_bytes
    assert abs(share) > 0.25
    assert pytest.approx(abs(share)) == evidence.half_width  # one source: 6.3 s, but no more than its worst error
    assert ("hf", ("lab-a",), 1) == (evidence.kind, evidence.groups, evidence.settings)


def test_a_timing_is_compared_by_its_logarithm():
    row = {"use_time": "yes", "measured_seconds_per_step": "1"}
    expected = predicted(**row).seconds.expected

    (evidence,) = time_evidence([predicted(use_time="yes", measured_seconds_per_step=str(2 * expected))])

    assert pytest.approx(math.log(2)) == evidence.half_width


def test_the_report_is_json_with_the_keys_that_scripts_rely_on():
    report = json.loads(
        json.dumps(asdict(summarize([predicted(), predicted(row_id="M2", gpu="2 x A100")], "2026-11-25")))
    )

    row, left_out = report["rows"]
    assert {"row_id", "measured_bytes", "predicted_bytes", "low", "high"} <= row.keys()
    assert {"measured_seconds_per_step", "seconds_low", "seconds_high"} <= row.keys()
    assert ("several GPUs", None) == (left_out["reason"], left_out["predicted_bytes"])
    assert {"group", "rows", "mean_abs_error", "inside_band"} <= report["groups"][0].keys()


def test_a_row_whose_length_is_only_a_cap_is_a_bound_and_no_error():
    below, above = (predicted(tier="C", seq_kind="cap", measured_bytes=size) for size in ("10", "1000000000"))

    assert [(False, True, True), (False, True, False)] == [(p.scored, p.bound, p.inside) for p in (below, above)]
    report = summarize([predicted(), below, above], "2026-11-26")
    (bounds,) = report.bounds
    assert (2, 0.5, ()) == (bounds.rows, bounds.inside_band, report.not_scored)


def test_what_a_program_did_depends_on_its_version():
    def habits(**cells):
        return predicted(**cells).stack.habits

    triton = {"framework": "fms-foak", "loss_path": "triton"}
    assert habits(**triton, framework_version="transformers 4.45.2").rebinds_logits
    assert not habits(**triton, framework_version="transformers 4.46.0").rebinds_logits
    of_2024 = {"independent_group": "fms-a100_80gb_liger", "date": "2024-11..2025"}  # requirements.txt of that time
    assert habits(**triton, **of_2024).rebinds_logits
    litgpt = {"framework": "litgpt", "checkpointing": "none"}
    assert [False, True] == [habits(**litgpt, date=date).keeps_previous_graph for date in ("2023-10", "2024")]
    unsloth = {"framework": "unsloth", "checkpointing": "unsloth", "loss_path": "fused"}
    versions = ("unsloth 2024.8", "unsloth 2025.10.8 | transformers 4.55.4", "unsloth 2026.10.9")
    assert ["cut", "func-2025", "chunked"] == [habits(**unsloth, framework_version=v).unsloth_loss for v in versions]


def test_unsloth_trains_full_copies_of_an_untied_embedding_that_is_named_as_a_target():
    untied = replace(TOY, tie_word_embeddings=False)
    cells = {"framework": "unsloth", "checkpointing": "unsloth", "targets": "q_proj,embed_tokens"}
    row = predict_row(measured_row(**cells), lambda _: untied, lambda _: gpu(), ASSUMPTIONS)

    assert 4 * (2 * 2 * 32) + 4 * 1600 == row.memory.adapter


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

    assert text == json.dumps(asdict(build(AccuracyReport, json.loads(text))), indent=1) + "\n"


def test_a_report_of_another_version_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "validation.json").write_text('{"made": "2026-11-25"}')

    for load in (load_validation, load_range_evidence):
        with pytest.raises(AssetError, match="run make validate"):
            load(tmp_path)


def test_sources_that_were_not_seen_are_met_as_promised():
    report = load_validation(ASSETS)
    unseen = report.left_out

    assert unseen.overall.mean_abs_error <= 0.06
    assert max(source.mean_abs_error for source in unseen.origins) <= 0.12
    assert unseen.overall.inside_band >= 0.90
    assert min(source.inside_band for source in unseen.origins) >= 0.85
    assert {"fitcheck", "fms-acceleration", "litgpt"} == report.sources_on_gpus
    assert unseen.time.inside_range >= 0.90
    assert 1.0 == min(score.inside_band for score in report.bounds)


def test_with_their_sources_seen_the_rows_are_closer_and_the_ranges_narrower():
    report = load_validation(ASSETS)

    assert report.overall.mean_abs_error <= report.left_out.overall.mean_abs_error
    assert report.overall.mean_half_width <= report.left_out.overall.mean_half_width
    assert report.time.mean_abs_error <= report.left_out.time.mean_abs_error
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


def test_published_counts_of_trainable_parameters_are_met():
    api = Api()
    rows = [row for row in shipped_rows(ASSETS) if row.trainable_parameters]
    counted = {
        row.row_id: (row.trainable_parameters, predict_row(row, api.models.get, lambda _: None, ASSUMPTIONS).parameters)
        for row in rows
    }

    differ = {row_id for row_id, (published, ours) in counted.items() if ours is not None and published != ours}
    assert set() == differ
    assert 40 <= sum(ours is not None for _, ours in counted.values())


def test_widths_come_from_the_validation_and_not_from_the_constants():
    constants = load_constants(ASSETS)
    measured = {row.id for row in widths(*load_range_evidence(ASSETS))}

    assert {"width-static", "width-hf", "width-hf-none", "width-hf-eager", "time-width-hf"} <= measured
    assert not any(row_id in constants for row_id in measured)
