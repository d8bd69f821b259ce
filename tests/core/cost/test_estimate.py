"""The whole estimate on the toy, and the laws on real catalogue models."""

import itertools
import json
from dataclasses import replace
from typing import get_args

import pytest

from rankviz.catalog.hardware import load_constants
from rankviz.catalog.models import load_model
from rankviz.core.accuracy.predicted import predict_row
from rankviz.core.advice.advice import capacity
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.data import characters, token_range
from rankviz.core.cost.device import Device
from rankviz.core.cost.estimate import (
    FIT_WORDS,
    Fit,
    estimate,
    estimate_as_json,
    fit,
    spare,
    tight_meaning,
    usable_memory,
)
from rankviz.core.cost.pace import Others, Timing, Workload, paces
from rankviz.core.cost.predict import full_finetuning
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.model.spec import UnslothCheckpoint
from rankviz.core.probe import ProbeEstimate, ProbeRecord, applies, calibrate
from rankviz.core.quantity import Range
from rankviz.core.runs.estimate import estimate_run, row_tokens
from rankviz.core.runs.events import ProbeCompleted, RunStarted
from rankviz.errors import InvalidSettingError
from tests.support.runs import probes, questions
from tests.support.runs.measured_rows import measured_row
from tests.support.runs.toy import ASSETS, ASSUMPTIONS, TOY, TOY_MOE, gpu, model

CARD = gpu()
REAL = ("HuggingFaceTB/SmolLM2-135M", "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-30B-A3B", "Qwen/Qwen3.5-4B")


def question(**more):
    training = more.pop("training", {"max_steps": 10})
    return questions.question(**{"target_modules": ("q_proj", "v_proj"), **training, **more})


def ranks(spec=TOY, card=CARD, **more):
    return estimate_as_json(estimate(spec, question(**more), card, ASSUMPTIONS))["ranks"]


def test_the_json_has_the_shape_that_scripts_rely_on():
    answer = estimate_as_json(estimate(TOY, question(ranks=(16,), alpha="2r"), CARD, ASSUMPTIONS))

    (row,) = answer["ranks"]
    assert ("toy/toy-16", 6288, "Toy card") == (answer["model_id"], answer["total_parameters"], answer["gpu"])
    assert (16, 32, 2.0, 1792) == (row["r"], row["lora_alpha"], row["scale"], row["adapter_parameters"])
    assert pytest.approx(100 * 1792 / 6288) == row["adapter_percent"]
    assert ["q_proj", "v_proj"] == row["targets"]
    memory = row["memory_bytes"]
    parts = ("base_weights", "adapter", "gradients", "optimizer", "activations", "logits", "other")
    assert memory["allocated"] == sum(memory[part] for part in parts)
    assert {*parts, "allocated", "reserved", "device", "low", "high", "while_loading"} == set(memory)
    assert {"low", "expected", "high"} == set(row["seconds"]) == set(row["usd"])
    assert "fits" == row["fit"]
    assert json.loads(json.dumps(answer)) == answer


def test_cost_is_hours_times_price_and_ones_own_price_comes_first():
    (table,), (own,) = ranks(), ranks(usd_per_hour=7.2)

    for end in ("low", "expected", "high"):
        assert pytest.approx(table["seconds"][end] * 3.6 / 3600) == table["usd"][end]
        assert pytest.approx(2 * table["usd"][end]) == own["usd"][end]


def test_no_gpu_gives_memory_and_a_reason_instead_of_time():
    answer = estimate_as_json(estimate(TOY, question(), None, ASSUMPTIONS))

    (row,) = answer["ranks"]
    assert (None, None, None, None) == (answer["gpu"], row["seconds"], row["usd"], row["fit"])
    assert row["memory_bytes"]["device"] > row["memory_bytes"]["allocated"]
    assert any(note.startswith("No GPU chosen") for note in answer["notes"])


def test_unknown_speed_or_price_is_null_with_a_note_never_zero():
    slow = estimate_as_json(estimate(TOY, question(), gpu(bf16_flops_per_second=None), ASSUMPTIONS))
    unpriced = estimate_as_json(estimate(TOY, question(), gpu(prices=()), ASSUMPTIONS))

    assert (None, None) == (slow["ranks"][0]["seconds"], slow["ranks"][0]["usd"])
    assert any("dense FLOP/s are not in the table" in note for note in slow["notes"])
    assert unpriced["ranks"][0]["seconds"] and unpriced["ranks"][0]["usd"] is None
    assert any("no price in the table" in note for note in unpriced["notes"])


def test_without_a_length_time_is_one_step_and_with_one_loading_counts():
    (one,), (ten,) = ranks(training={}), ranks(training={"max_steps": 10})

    assert one["seconds"] == one["step_seconds"]
    assert (
        pytest.approx(10 * ten["step_seconds"]["expected"] + ten["load_seconds"]["expected"])
        == (ten["seconds"]["expected"])
    )


@pytest.mark.parametrize(("high", "verdict"), [(90, "fits"), (97, "tight"), (101, "uncertain"), (250, "does_not_fit")])
def test_fit_compares_the_band_with_usable_memory(high, verdict):
    usable = Range(100, 100, 100)
    left = spare(Range(high / 2, high * 0.8, high), usable)

    assert verdict == fit(left, usable, tight_share=0.05)


def test_every_verdict_has_words_and_tight_is_a_kind_of_fitting():
    assert set(get_args(Fit)) == set(FIT_WORDS)
    assert ["fits", "fits, tight"] == [words for words in FIT_WORDS.values() if words.startswith("fits")]
    assert "less than 5 % to spare" == tight_meaning(ASSUMPTIONS)


def test_usable_memory_that_was_never_seen_is_a_range_and_makes_the_verdict_careful():
    usable = usable_memory(gpu(usable_bytes=None), ASSUMPTIONS)

    assert [21.84, 22.8, 23.784] == [round(end / 2**30, 3) for end in (usable.low, usable.expected, usable.high)]
    left = spare(Range(20 * 2**30, 21 * 2**30, 23 * 2**30), usable)
    assert "uncertain" == fit(left, usable, tight_share=0.05)


def test_the_margin_is_counted_from_usable_not_nominal_memory():
    answer = estimate(TOY, question(), CARD, ASSUMPTIONS)

    (rank,) = answer.ranks
    assert 22 * 2**30 - rank.memory.device == rank.margin_bytes


def test_a_fuller_card_leaves_unsloths_former_loss_less():
    training = {"max_length": 100_000, "max_steps": 1, "loss_path": "fused-func"}
    asks = {"training": training, "target_modules": ("q_proj",)}

    (small,), (large,) = ranks(card=gpu(usable_bytes=2**29), **asks), ranks(card=gpu(usable_bytes=2**40), **asks)

    assert small["memory_bytes"]["logits"] < large["memory_bytes"]["logits"]


def test_modules_to_save_weigh_in_memory_and_in_the_file():
    asks = {
        "modules_to_save": ("embed_tokens",),
        "framework": "peft",
        "training": {"precision": "bf16", "max_steps": 1},
    }

    (row,) = ranks(**asks)

    assert 1792 + 1600 == row["adapter_parameters"]
    assert 1792 * 4 + 1600 * 2 == row["memory_bytes"]["adapter"]
    header = row["adapter_bytes"] - (1792 * 4 + 1600 * 2)
    assert 0 < header < 2000


def test_bf16_on_a_card_without_it_is_refused_before_anything_is_computed():
    with pytest.raises(InvalidSettingError, match="does not support bf16"):
        estimate(TOY, question(training={"precision": "bf16"}), gpu(supports_bf16=False), ASSUMPTIONS)


def test_what_a_setting_comes_to_elsewhere_is_said():
    notes = estimate(
        TOY, question(framework="peft", training={"precision": "nf4", "max_steps": 1}), CARD, ASSUMPTIONS
    ).notes

    assert "Unsloth's checkpointing exists only in Unsloth. The estimate uses Hugging Face's." in notes
    assert any("prepare_model_for_kbit_training" in note for note in notes)


@pytest.mark.parametrize("model_id", REAL)
@pytest.mark.parametrize("framework", ["unsloth", "trl", "peft"])
@pytest.mark.parametrize("precision", ["bf16", "nf4-dq"])
def test_twice_the_rank_is_twice_the_adapter_and_nothing_falls(model_id, framework, precision):
    rows = ranks(
        load_model(ASSETS, model_id),
        ranks=(1, 2, 4, 8, 16, 32, 64, 128, 256),
        framework=framework,
        target_modules="unsloth",
        training={"precision": precision, "max_steps": 5},
    )

    for small, large in itertools.pairwise(rows):
        assert 2 * small["adapter_parameters"] == large["adapter_parameters"]
        assert small["memory_bytes"]["device"] <= large["memory_bytes"]["device"]
        assert small["seconds"]["expected"] <= large["seconds"]["expected"]
    for row in rows:
        memory = row["memory_bytes"]
        assert memory["allocated"] <= memory["reserved"] <= memory["device"]
        assert memory["low"] <= memory["device"] <= memory["high"]
        for range_ in (row["seconds"], row["usd"]):
            assert range_["low"] <= range_["expected"] <= range_["high"]


def test_quantizing_the_base_saves_memory_on_a_real_model():
    llama = load_model(ASSETS, "meta-llama/Llama-3.1-8B")

    held = {
        precision: ranks(llama, framework="trl", training={"precision": precision, "max_steps": 1})[0]["memory_bytes"][
            "base_weights"
        ]
        for precision in ("fp32", "bf16", "int8", "nf4", "nf4-dq")
    }

    assert [8_030_261_248 * 4, 8_030_261_248 * 2] == [held["fp32"], held["bf16"]]
    # 6,979,321,856 weights in linear layers, 1,050,939,392 in embeddings, head and norms
    assert round(6_979_321_856 * 0.5625) + 2 * 1_050_939_392 == held["nf4"]
    assert 5.70 == round(held["nf4-dq"] / 1e9, 2)  # the published bnb-4bit download is 5.70 GB
    assert held["nf4-dq"] < held["nf4"] < held["int8"] < held["bf16"]


def test_every_assumption_is_used_by_some_estimate():
    used = set()

    class Listening(Assumptions):
        def row(self, row_id):
            used.add(row_id)
            return super().row(row_id)

    listening = Listening({row.id: row for row in ASSUMPTIONS})
    hybrid = model(layer_types=("linear_attention", "full_attention"))
    for card in (gpu(utilisation_group=group) for group in ("turing", "a100", "hopper", "workstation", "geforce")):
        for framework in ("unsloth", "trl", "peft"):
            for precision in ("bf16", "nf4", "nf4-dq", "int8", "fp32"):
                setup = {"precision": precision, "max_steps": 1}
                estimate(TOY, question(framework=framework, training=setup), card, listening)
    without_widths = Listening({row.id: row for row in load_constants(ASSETS)})
    estimate(TOY, question(framework="trl"), CARD, without_widths)
    unseen = gpu(usable_bytes=None)
    for setup in (
        {"loss_path": "triton"},
        {"loss_path": "full"},
        {"optim": "adamw_torch", "gradient_checkpointing": "none"},
        {"optim": "paged_adamw_8bit"},
        {"attn_implementation": "eager"},
        {"attn_implementation": "eager", "precision": "fp16"},
    ):
        for framework in ("unsloth", "peft"):
            estimate(TOY, question(framework=framework, training=setup), unseen, listening)
    estimate(TOY, question(framework="unsloth", training={"loss_path": "fused-func"}), unseen, listening)
    for precision in ("nf4", "fp32"):
        eager = {"attn_implementation": "eager", "loss_path": "full", "precision": precision}
        estimate(TOY, question(framework="peft", training=eager), None, listening)
    estimate(hybrid, question(use_dora=True, training={"precision": "bf16", "loss_path": "full"}), CARD, listening)
    estimate(TOY_MOE, question(framework="peft"), CARD, listening)
    estimate(TOY, question(framework="trl"), gpu(compute_capability=9.0), listening)
    estimate(TOY, question(framework="trl"), gpu(compute_capability=7.5), listening)
    estimate(replace(TOY, model_type="gpt_oss"), question(framework="trl"), CARD, listening)
    estimate(replace(TOY, model_type="gemma2"), question(framework="unsloth"), CARD, listening)
    dynamic = replace(TOY, unsloth_checkpoint=UnslothCheckpoint(repository="unsloth/toy-unsloth-bnb-4bit"))
    estimate(dynamic, question(framework="unsloth"), CARD, listening)
    estimate(
        replace(TOY_MOE, unsloth_checkpoint=dynamic.unsloth_checkpoint), question(framework="unsloth"), CARD, listening
    )
    estimate(TOY, question(framework="trl", training={"precision": "bf16", "loss_path": "full"}), None, listening)
    full_finetuning(TOY, TrainingSetup(framework="trl"), None, None, listening)
    for line in (
        {"precision": "gptq-int4"},
        {"framework": "litgpt", "loss_path": "unknown", "checkpointing": "none"},
        {"framework": "fms-foak", "framework_version": "transformers 4.45.2", "loss_path": "triton"},
    ):
        predict_row(measured_row(**line), lambda _: TOY, lambda _: None, listening)
    estimate_run(TOY, questions.run(r=8, precision="bf16"), Device(cpu_count=2), listening)
    row_tokens(10, 20, listening)
    probed = ProbeRecord(request=probes.request()).after_all(
        (
            RunStarted(time=1.0, environment={"device": "cpu"}),
            probes.measured(30, forward=800),
            ProbeCompleted(time=2.0),
        )
    )
    request = probed.request
    applies(probed, request.model_id, request.lora, request.training, 256, probed.environment, listening)
    known = Range(600 * probes.MIB, 600 * probes.MIB, 600 * probes.MIB)
    estimated = ProbeEstimate(static_bytes=0, working_bytes=1, memory_bytes=known, step_seconds=None)
    calibrate([(probed, estimated)], listening)
    here = Workload(base="a", parameters=1, kernels=("unsloth", "fp32"), tokens=1)
    for there in (here, replace(here, tokens=2), replace(here, base="b"), replace(here, kernels=("unsloth", "bf16"))):
        timed = Timing(source_id="r", kind="run", ended_at=0.0, workload=there, ratios={"load": 1.0, "training": 1.0})
        paces([timed], here, listening)
        slowed = replace(timed, slowdowns={"training": 1.5})
        paces([slowed], here, listening, Others(threads=1.0, cpus=2, at=1.0))
    capacity(16, 1000, 100, False, listening)
    for text in ("plain words", "ドラゴン"):
        token_range(characters(text), 1, listening)

    assert {row.id for row in ASSUMPTIONS} == used


@pytest.mark.parametrize("framework", ["unsloth", "peft"])
def test_experts_of_another_rank_take_the_memory_and_the_time_of_that_rank(framework):
    def at(r, expert_rank):
        setup = {"framework": framework, "moe_scheme": "unsloth", "target_modules": "unsloth"}
        (rank,) = ranks(TOY_MOE, ranks=(r,), expert_rank=expert_rank, gradient_checkpointing="none", **setup)
        return rank

    eight, four, two, one = at(8, "r"), at(8, "r/active"), at(8, "r/all"), at(8, 1)

    assert eight == at(8, 8)
    assert [8, 4, 2, 1] == [each["expert_rank"] for each in (eight, four, two, one)]
    # Per unit of rank, attention adds 224 and the experts 448.
    assert [224 * 8 + 448 * e for e in (8, 4, 2, 1)] == [e["adapter_parameters"] for e in (eight, four, two, one)]
    assert {1.0} == {each["scale"] for each in (eight, four, two, one)}
    for part in ("adapter", "activations"):
        sizes = [each["memory_bytes"][part] for each in (eight, four, two, one)]
        assert sizes[0] - sizes[1] == 4 * (sizes[2] - sizes[3]) == 2 * (sizes[1] - sizes[2]), part
    seconds = [each["step_seconds"]["expected"] for each in (eight, four, two, one, at(1, 1))]
    assert seconds == sorted(seconds, reverse=True)
    assert len(set(seconds)) == len(seconds)
