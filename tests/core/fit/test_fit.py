"""FitAnswer on the toy: what fits, what a knob costs, three methods.

Cards are made to measure from the estimate's own figures, so that nothing here depends on a constant's value.
"""

import json
from dataclasses import replace

import pytest

from rankviz.core.cost.setup import MAX_BATCH
from rankviz.core.fit.changes import changed, keeping_tokens, largest, setting
from rankviz.core.fit.decide import as_json
from rankviz.errors import InvalidSettingError
from tests.core.fit.toy_fits import WIDE, card_for, knob_of, limit_of, on, question
from tests.support.runs import questions
from tests.support.runs.toy import ASSUMPTIONS, TOY, gpu


@pytest.mark.parametrize(("edge", "ceiling", "last"), [(0, 9, None), (1, 9, 1), (5, 9, 5), (8, 9, 8), (99, 9, 9)])
def test_the_search_finds_the_last_number_that_holds(edge, ceiling, last):
    tried = []

    assert last == largest(lambda n: tried.append(n) or n <= edge, ceiling)
    assert max(tried) <= ceiling


@pytest.mark.parametrize(("option", "largest_one"), [("r", 48), ("batch", 5), ("max_length", 1088)])
def test_the_largest_that_fits_is_the_one_the_card_was_made_for(option, largest_one):
    made_for = changed(question(), {option: largest_one})

    limit = limit_of(on(changed(question(), {option: 1}), card_for(made_for)), option)

    assert largest_one == limit.surely
    assert limit.expected > limit.surely


def test_lengths_are_said_in_steps_of_64():
    made_for = changed(question(), {"max_length": 1100})

    assert 1088 == limit_of(on(question(), card_for(made_for)), "max_length").surely


def test_the_searchs_own_ceiling_is_told_from_the_cards():
    roomy = gpu(usable_bytes=2**50)

    decided = on(question(training={"max_length": 1, "max_steps": 1}), roomy)

    assert 1024 == limit_of(decided, "r").surely == limit_of(decided, "r").expected
    assert MAX_BATCH == limit_of(decided, "batch").surely
    assert "the highest rank that RankViz estimates; the card has room for more" == limit_of(decided, "r").note


def test_where_not_even_one_fits_the_reason_is_the_memory_it_takes():
    limit = limit_of(on(question(), gpu(usable_bytes=2**20)), "batch")

    assert (None, None) == (limit.surely, limit.expected)
    assert limit.note.startswith("a batch of 1 does not fit: ")
    assert " needed, 1 MiB usable; " in limit.note


def test_a_knob_costs_what_asking_again_gives():
    chosen, card = question(), gpu()
    before = setting(WIDE, chosen, card, ASSUMPTIONS).row
    after = setting(WIDE, changed(chosen, {"r": 32}), card, ASSUMPTIONS).row

    knob = knob_of(on(chosen, card), r=32)

    assert after.memory.device - before.memory.device == knob.device_bytes > 0
    assert pytest.approx(after.duration.total.expected - before.duration.total.expected) == knob.seconds
    assert pytest.approx(knob.seconds / 3600 * 3.6) == knob.usd
    assert "fits" == knob.fit


@pytest.mark.parametrize(
    ("given", "change", "whole"),
    [
        ({"max_steps": 10, "max_length": 512}, {"max_length": 1024}, {"max_length": 1024, "steps": 5}),
        ({"max_steps": 10, "max_length": 512}, {"max_length": 256}, {"max_length": 256, "steps": 20}),
        # 5 steps of 2 · 4 · 512 tokens are 20,480; steps of 8,192 don't divide them.
        ({"max_steps": 5, "max_length": 512}, {"max_length": 1024}, {"max_length": 1024, "tokens": 20_480}),
        ({"tokens": 9_999, "max_length": 512}, {"max_length": 1024}, {"max_length": 1024}),
        ({"max_steps": 10}, {"batch": 1, "accum": 8}, {"batch": 1, "accum": 8}),
        ({"max_steps": 10}, {"r": 64}, {"r": 64}),
    ],
)
def test_a_change_trains_as_many_tokens_as_before(given, change, whole):
    assert whole == keeping_tokens(questions.question(**given), change)


def test_rows_moved_from_batch_to_accumulation_cost_the_same_work():
    """Twice the micro-steps of half the tokens: only launching is more."""
    decided = on(question(), gpu())

    moved, back = knob_of(decided, batch=1, accum=8), knob_of(decided, batch=4, accum=2)

    assert moved.device_bytes < 0 < back.device_bytes
    assert moved.seconds > 0 > back.seconds
    assert moved.same_result and back.same_result


def test_without_a_length_a_longer_row_is_priced_for_one_steps_tokens():
    decided = on(question(training={"max_steps": None}), gpu())

    twice = knob_of(decided, max_length=4096)

    # Longer rows cost more attention for the same tokens, but nothing like twice the time of a step.
    assert 0 < twice.seconds < 0.5 * decided.setting.row.duration.step.expected


@pytest.mark.parametrize(
    ("given", "labels", "not_labels"),
    [
        ({"target_modules": "attention"}, {"add MLP targets"}, {"attention targets only", "add attention targets"}),
        ({"target_modules": "mlp"}, {"add attention targets"}, {"add MLP targets"}),
        # No preset has the embedding too, so there is nothing to widen to.
        ({"target_modules": ("q_proj", "embed_tokens")}, set(), {"add MLP targets"}),
        ({"target_modules": "all-linear"}, {"attention targets only"}, {"add MLP targets"}),
        ({"training": {"loss_path": "full"}}, {"fused loss"}, set()),
        ({"training": {"loss_path": "fused"}}, set(), {"fused loss"}),
        ({"training": {"optim": "adamw_torch"}}, {"8-bit AdamW"}, {"AdamW with full states (adamw_torch)"}),
        ({"training": {"precision": "bf16"}}, {"4-bit base (NF4)"}, {"16-bit base (bf16)"}),
        ({"training": {"gradient_checkpointing": "none"}}, {"Hugging Face checkpointing"}, {"no checkpointing"}),
        ({"framework": "unsloth"}, {"Unsloth's checkpointing"}, {"Hugging Face checkpointing"}),
        ({"framework": "trl"}, set(), {"Unsloth's checkpointing"}),
        ({"ranks": (1,)}, {"r = 2"}, {"r = 1"}),
        ({"ranks": (24,)}, {"r = 16", "r = 32"}, set()),
        ({"ranks": (1024,)}, {"r = 512"}, {"r = 2048"}),
        ({"training": {"per_device_train_batch_size": 1}}, {"batch 2, accumulation 2"}, {"batch 0, accumulation 8"}),
        ({"training": {"gradient_accumulation_steps": 1}}, {"batch 1, accumulation 2"}, {"batch 4, accumulation 0"}),
    ],
    ids=lambda each: str(sorted(each) if isinstance(each, set) else each),
)
def test_only_knobs_that_apply_are_offered(given, labels, not_labels):
    offered = {knob.label for knob in on(question(**given), gpu()).knobs}

    assert labels <= offered
    assert not not_labels & offered


def test_a_card_without_bf16_is_offered_fp16():
    decided = on(question(), gpu(supports_bf16=False, fp16_flops_per_second=1e14))

    assert "16-bit base (fp16)" in {knob.label for knob in decided.knobs}
    assert ["nf4-dq", "fp16", "fp32"] == [method.precision for method in decided.methods]


def test_three_methods_at_the_same_rank_and_batch():
    qlora, lora, full = on(question(), gpu()).methods

    assert ("nf4-dq", "bf16", "bf16") == (qlora.precision, lora.precision, full.precision)
    assert qlora.trained_parameters == lora.trained_parameters < full.trained_parameters == WIDE.total_parameters
    assert 2 * WIDE.total_parameters == full.saved_bytes
    assert qlora.device.expected < lora.device.expected < full.device.expected
    assert lora.seconds.expected < full.seconds.expected
    assert [True, False, False] == [m.chosen for m in (qlora, lora, full)]


def test_without_a_gpu_knobs_have_memory_alone_and_the_table_still_says_what_fits():
    decided = on(question(), None, gpus=(gpu(),))

    assert () == decided.limits
    assert {None} == {knob.seconds for knob in decided.knobs} == {knob.fit for knob in decided.knobs}
    assert decided.sentence.startswith("No GPU is chosen; the cheapest GPU that fits is the Toy card, ")


def test_decisions_are_for_one_rank():
    with pytest.raises(InvalidSettingError, match="for one rank"):
        on(question(ranks=(8, 16)), gpu())


def test_the_json_is_plain_and_whole():
    result = as_json(on(question(), gpu()))

    assert result == json.loads(json.dumps(result))
    assert {"r", "batch", "max_length"} == set(result["limits"])
    assert {"surely", "expected", "ceiling", "note"} == set(result["limits"]["r"])
    assert {"label", "change", "device_bytes", "seconds", "usd", "fit"} <= set(result["knobs"][0])
    assert ("Toy cloud", "2026-11-25") == (result["gpus"][0]["provider"], result["gpus"][0]["price_checked"])
    assert ["qlora", "lora", "full"] == [method["name"] for method in result["methods"]]


def test_the_toy_of_other_tests_is_answered_too():
    decided = on(questions.question(ranks=(8,)), gpu(), spec=TOY)

    assert 3 == len(decided.methods)


@pytest.mark.parametrize(("framework", "offered"), [("trl", False), ("peft", False), ("unsloth", True)])
def test_fp16_is_offered_for_a_model_that_overflows_in_it_only_where_that_is_prevented(framework, offered):
    training = {"framework": framework, "precision": "nf4", "loss_path": "full"}
    decided = on(question(training=training), gpu(supports_bf16=False), replace(WIDE, model_type="gemma3_text"))

    assert offered is any("fp16" == knob.change.get("precision") for knob in decided.knobs)
    assert offered is ("lora" in [method.name for method in decided.methods])
