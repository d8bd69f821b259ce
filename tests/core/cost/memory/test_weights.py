"""What weights of the toy take: of the base by precision and checkpoint, and of what trains."""

from dataclasses import replace

import pytest

from rankviz.core.cost import blocks, weights
from rankviz.core.cost.memory import memory_terms
from rankviz.core.cost.predict import predict
from rankviz.core.cost.setup import card
from rankviz.core.cost.stack import settled
from rankviz.core.lora.config import LoraConfig
from rankviz.core.model.spec import OwnTensor, PlainModule, UnslothCheckpoint
from tests.core.cost.memory.toy_memory import estimate, shape_of, stack
from tests.support.runs.toy import ASSUMPTIONS, TOY, TOY_MOE, gpu


@pytest.mark.parametrize(
    ("framework", "precision", "expected"),
    [
        ("trl", "fp32", 6288 * 4),
        ("trl", "nf4", 2592 + 1680 * 2),
        ("trl", "nf4-dq", 2377 + 1680 * 2),
        ("peft", "nf4", 2592 + 1680 * 4),  # prepare_model_for_kbit_training raises the rest to fp32
        ("trl", "int8", 4608 + 4 * 256 + 1680 * 2),  # a scale for each of the 256 output rows
    ],
)
def test_base_weights_by_precision(framework, precision, expected):
    assert expected == weights.base_bytes(TOY, shape_of(TOY), stack(framework, precision=precision))


@pytest.mark.parametrize(
    ("framework", "precision", "optim", "expected"),
    [
        ("peft", "bf16", "adamw_torch", 16),
        ("peft", "bf16", "adamw_8bit", 10.03125),
        ("unsloth", "nf4-dq", "adamw_8bit", 10.03125),
        ("unsloth", "nf4-dq", "paged_adamw_8bit", 10.03125),
        ("trl", "nf4-dq", "adamw_torch", 8),
        ("trl", "nf4-dq", "adamw_8bit", 6.03125),
        ("peft", "bf16", "sgd", 8),
    ],
)
def test_bytes_of_a_trainable_parameter_by_stack(framework, precision, optim, expected):
    chosen = stack(framework, precision=precision, optim=optim)
    each = weights.trained_bytes(chosen, chosen.habits.adapter_bytes)

    assert expected == each.weight + each.gradient + each.optimizer


def test_modules_to_save_train_as_full_copies_in_the_bases_dtype():
    memory = estimate(parameters=1700, saved=1600)

    assert 100 * 4 + 1600 * 2 == memory.adapter
    assert 100 * 8 + 1600 * 4 == memory.optimizer


def test_a_quantized_base_needs_one_weight_dequantized_where_that_is_more_than_gradients():
    short = estimate(framework="trl", precision="nf4", max_length=1, loss_path="fused")
    long = estimate(framework="trl", precision="nf4", max_length=100, loss_path="fused")

    assert 2 * 16 * 32 == short.other
    assert 0 == long.other


def test_peft_merges_targeted_experts_with_one_gradient_at_a_time_and_unsloth_does_not():
    up, down = 4 * 16 * 16, 4 * 8 * 16
    merged = {
        names: estimate(TOY_MOE, names=names, loss_path="fused").other
        for names in (("gate_up_proj", "down_proj"), ("gate_up_proj",), ("down_proj",))
    }

    assert [2 * (up + down + down), 2 * (up + up), 2 * (down + down)] == list(merged.values())
    unsloth = estimate(TOY_MOE, names=("gate_up_proj", "down_proj"), framework="unsloth", loss_path="fused")
    assert weights.rotary_bytes(TOY_MOE) == unsloth.other


def test_unsloths_tables_of_sines_and_cosines_have_32_768_rows_in_16_bit_and_gemmas_8_192_in_fp32():
    assert 2 * 32_768 * 8 * 2 == weights.rotary_bytes(TOY)
    assert 2 * 8192 * 8 * 4 == weights.rotary_bytes(replace(TOY, model_type="gemma2"))


def checkpoint(repository, file_bytes=None):
    return replace(TOY, unsloth_checkpoint=UnslothCheckpoint(repository=repository, file_bytes=file_bytes))


def test_a_dynamic_checkpoint_weighs_what_is_known_of_it_or_what_others_weigh_more():
    linear = 2432  # 4,608 weights, half a byte each, and maxima of 64 in whole blocks for each of 14 tensors
    plain = linear + 1680 * 2
    asks = {"framework": "unsloth", "precision": "nf4-dq"}
    known, unknown, plainly, on_the_fly = (
        estimate(spec, **asks)
        for spec in (
            checkpoint("unsloth/toy-unsloth-bnb-4bit", 6000),
            checkpoint("unsloth/toy-unsloth-bnb-4bit"),
            checkpoint("unsloth/toy-bnb-4bit"),
            TOY,
        )
    )

    assert (6000, plain + linear // 8, plain, plain) == tuple(
        each.base_weights for each in (known, unknown, plainly, on_the_fly)
    )
    around = [each.allocated_band for each in (unknown, on_the_fly)]
    compiled = 0.05 * 0.125 * linear
    assert pytest.approx((0.175 - 0.125) * linear + compiled, abs=1) == (
        around[0].high - around[0].expected - (around[1].high - around[1].expected)
    )
    by_trl = estimate(checkpoint("unsloth/toy-unsloth-bnb-4bit", 6000), framework="trl", precision="nf4-dq")
    assert 2377 + 1680 * 2 == by_trl.base_weights


def test_a_checkpoint_weighs_no_more_than_a_load_of_it_was_seen_to_take():
    seen = UnslothCheckpoint(repository="unsloth/toy-unsloth-bnb-4bit", at_most_bytes=6000)
    asks = {"framework": "unsloth", "precision": "nf4-dq"}
    known, plain = estimate(replace(TOY, unsloth_checkpoint=seen), **asks), estimate(**asks)

    assert 6000 == known.base_weights  # an eighth of 2,432 more would be 6,096
    above = [each.allocated_band.high - each.allocated for each in (known, plain)]
    assert above[0] == pytest.approx(above[1])


def test_a_dynamic_checkpoint_adds_to_what_it_holds_and_not_to_an_embedding_raised_after_loading():
    gemma = replace(checkpoint("unsloth/toy-unsloth-bnb-4bit"), model_type="gemma3_text")
    chosen = stack("unsloth", precision="nf4-dq")
    here, on_t4 = (
        memory_terms(gemma, shape_of(gemma), settled(chosen, gemma, card(gpu(supports_bf16=bf16))), None).base_weights
        for bf16 in (True, False)
    )

    held = 2432 + 2432 // 8 + 1680 * 2
    assert [held, held + 2 * 100 * 16] == [here, on_t4]


def test_unsloth_moves_an_untied_embedding_to_the_host_where_the_card_is_short_of_room():
    untied = replace(TOY, tie_word_embeddings=False)
    asks = {"framework": "unsloth", "precision": "bf16", "loss_path": "fused", "max_length": 10}
    reserve = 17 / 16 * (48 * 10 * 16 + 4 * 10 * 100 + 16 * 100) + 2**28  # tokens, logits, what trains
    left = 12_576 + 400 + ASSUMPTIONS.value("context-bytes")
    roomy, tight = (
        estimate(untied, usable=left + reserve + 1, **asks),
        estimate(untied, usable=left + reserve - 1, **asks),
    )

    assert [12_576, 12_576 - 2 * 100 * 16] == [roomy.base_weights, tight.base_weights]
    assert 12_576 == estimate(usable=0, **asks).base_weights  # a tied one is the head's too


def test_an_embedding_that_is_trained_in_full_stays_on_the_card():
    norm = PlainModule(path="model.norm", tensors=(OwnTensor(name="weight", shape=(16,)),), is_norm=True)
    untied = replace(TOY, tie_word_embeddings=False, config_ties=False, plain_modules=(norm,))

    def base_weights(*saves: str) -> int:
        lora = LoraConfig(target_modules=("q_proj",), modules_to_save=saves)
        chosen = stack("unsloth", loss_path="fused")
        return predict(untied, lora, chosen, card(gpu()), usable_bytes=1.0).memory_at(2).base_weights

    assert base_weights() == base_weights("norm") == base_weights("embed_tokens") - 2 * 100 * 16


def test_forced_fp32_doubles_the_residual_stream_and_gemmas_embedding():
    chosen = stack("unsloth", precision="fp16", gradient_checkpointing="hf")
    forced = replace(chosen, measured_habits=replace(chosen.habits, fp32_residual=True, fp32_embedding=True))

    assert 2 * 10 * 16 * 4 == blocks.checkpoint_bytes(TOY, shape_of(TOY), forced)
    assert 6288 * 2 == weights.base_bytes(TOY, shape_of(TOY), forced)
    assert 2 * 1600 == weights.raised_bytes(TOY, forced)
