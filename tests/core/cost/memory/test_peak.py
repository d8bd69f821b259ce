"""Memory of the toy, worked out by hand, and the laws that any model must keep."""

import itertools
from dataclasses import replace

import pytest

from rankviz.core.cost.memory import memory_at, memory_terms
from tests.core.cost.memory.toy_memory import estimate, shape_of, stack
from tests.support.runs.toy import ASSUMPTIONS, TOY, TOY_MOE

SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def test_plain_peft_in_16_bit_peaks_at_the_loss():
    memory = estimate()

    assert 6288 * 2 == memory.base_weights
    assert (400, 400, 800) == (memory.adapter, memory.gradients, memory.optimizer)
    assert 2 * 10 * 16 * 2 + 10 * 16 * 6 == memory.activations  # blocks × tokens × hidden × 2 bytes, the last norm's 6H
    assert 12 * 10 * 100 == memory.logits
    assert 12_576 + 400 + 400 + 800 + 640 + 960 + 12_000 == memory.allocated


def test_with_a_fused_loss_the_peak_is_one_blocks_backward_pass():
    memory = estimate(loss_path="fused")

    kept = 10 * (8 * 16 + 2 * (48 + 96))  # tokens × (8H + 2(2Q + 2K + 3M))
    copies = 2 * 10 * 32  # of the inputs of q and v, fp32 and turned back by autocast
    intermediates = 2 * 10 * 2 * 2  # x·A of two modules at r = 2
    gradients = 10 * (2 * 32 + 11 * 16)  # tokens × (2M + 11H): this MLP is narrow
    assert 640 + kept + copies + intermediates + gradients == memory.activations
    assert 0 == memory.logits


def test_without_checkpointing_every_block_keeps_its_own():
    memory = estimate(gradient_checkpointing="none")

    kept = 2 * (10 * (8 * 16 + 2 * (48 + 96)) + 2 * 10 * 32 + 2 * 10 * 2 * 2)
    assert kept + 10 * 16 * 6 == memory.activations
    assert 12_000 == memory.logits


def test_unsloth_moves_checkpoints_to_the_host_and_copies_no_inputs():
    asks = {"framework": "unsloth", "optim": "adamw_8bit", "gradient_checkpointing": "unsloth", "loss_path": "fused"}

    few_words = replace(TOY, vocab_size=10)  # so that a block is the peak
    memory, short = (estimate(few_words, max_length=n, names=SEVEN, **asks) for n in (512, 511))

    block, checkpoints = 2 * (5 * 16 + 48 + 96), 2 * 2 * 16  # 2 × (5H + 2Q + 2K + 3M), and the inputs of two blocks
    assert [512 * (block + checkpoints), 511 * (block + checkpoints)] == [memory.activations, short.activations]
    assert 203 == memory.optimizer


def test_without_checkpointing_unsloth_keeps_less_of_each_block():
    memory = estimate(framework="unsloth", names=SEVEN, gradient_checkpointing="none", loss_path="triton")

    kept = 2 * 2 * 10 * (4 * 16 + 48 + 96 - 32)  # blocks × 2 × tokens × (4H + 2Q + 2K + 2M)
    assert kept + 4 * 10 * 16 == memory.activations


def test_unsloths_former_fused_loss_takes_half_of_what_is_free_up_to_its_cap():
    fixed = 12_576 + 400 + ASSUMPTIONS.value("context-bytes")  # base, adapter, context

    def logits(free, tokens):
        asks = {"gradient_checkpointing": "unsloth", "loss_path": "fused-func", "max_length": tokens}
        return estimate(usable=fixed + free, framework="unsloth", **asks).logits

    assert 16 * 100 * 1000 == logits(10**9, 1000)  # all at once where there is room
    assert 8_000_000 == logits(16_000_000, 10_000)
    assert 4 * 2**30 == logits(10**12, 4_000_000)


def test_unsloth_unpacks_weights_into_a_buffer_that_stays_and_one_more_beside_its_gradients():
    asks = {"framework": "unsloth", "precision": "nf4-dq", "gradient_checkpointing": "unsloth"}

    tables = 2 * 2 * 32_768 * 8  # sines and cosines
    assert (
        2 * 2 * 16 * 32 + tables == estimate(names=SEVEN, loss_path="fused", **asks).other
    )  # the peak is a block's backward pass
    assert 2 * 16 * 32 + tables == estimate(names=SEVEN, loss_path="full", **asks).other  # the peak is the loss
    # Without adapters on the MLP the buffer has room for q alone, and nothing is unpacked beside three gradients.
    assert 2 * 16 * 16 + tables == estimate(loss_path="fused", **asks).other


def test_compiled_blocks_of_unsloth_may_hold_a_twentieth_more_at_the_high_end():
    terms = {name: memory_terms(TOY, shape_of(TOY), stack(name), None) for name in ("unsloth", "trl")}
    memory, plain = (
        memory_at(each, 2, 100) for each in (terms["unsloth"], terms["unsloth"]._replace(width_compiled=0))
    )

    assert pytest.approx(memory.allocated / 20) == memory.allocated_band.high - plain.allocated_band.high
    never = memory_terms(replace(TOY, model_type="gpt_oss"), shape_of(TOY), stack("unsloth"), None)
    assert 0 == terms["trl"].width_compiled == never.width_compiled


def test_eager_attention_has_its_fullest_moment_in_its_own_backward_pass():
    asks = {"loss_path": "fused", "max_length": 1000}
    flash, eager = estimate(**asks), estimate(attn_implementation="eager", **asks)

    matrix, mask = 2 * 1000 * 1000, 2 * 1000 * 1000  # heads × length², and two bytes of length²
    copies = 1000 * 2 * 2 * (16 - 8)  # keys and values for both query heads
    given_back = 1000 * (2 * 96 + 4 * 16)  # the MLP and the norm before it
    gradients = 1000 * (2 * 32 + 11 * 16)
    assert 16 * matrix + mask + copies - given_back - gradients == eager.activations - flash.activations


def test_in_the_only_micro_step_gradients_come_as_checkpoints_go():
    asks = {"framework": "trl", "loss_path": "fused", "max_length": 1000, "optim": "sgd"}

    def at(steps, parameters):
        return estimate(gradient_accumulation_steps=steps, parameters=parameters, **asks)

    checkpoint = 1000 * 16 * 2
    few, many = 1_000, 100_000  # 4,000 and 400,000 bytes of gradients
    assert [4_000, 2_000] == [at(steps, few).gradients for steps in (2, 1)]  # one of two blocks
    assert [400_000, 400_000] == [at(steps, many).gradients for steps in (2, 1)]
    assert checkpoint == at(2, many).activations - at(1, many).activations  # the first block's alone is left


def test_torchs_adamw_can_be_the_peak_where_nearly_everything_trains():
    memory = estimate(parameters=100_000)

    assert (0, 0, 400_000) == (memory.activations, memory.logits, memory.other)


SETTINGS = list(
    itertools.product(
        ("unsloth", "trl", "peft"),
        ("bf16", "fp32", "nf4-dq", "int8"),
        ("unsloth", "hf", "none"),
        ("fused", "fused-func", "triton", "full"),
        ("adamw_torch", "adamw_8bit", "paged_adamw_8bit", "sgd"),
    )
)


def every_setting(model, **more):
    for framework, precision, checkpointing, loss_path, optim in SETTINGS:
        setup = {
            "precision": precision,
            "gradient_checkpointing": checkpointing,
            "loss_path": loss_path,
            "optim": optim,
        }
        yield lambda r=8, fw=framework, setup=setup, **other: estimate(
            model, r=r, parameters=1000 * r, usable=2**29, framework=fw, **{**setup, **more, **other}
        )


@pytest.mark.parametrize("model", [TOY, TOY_MOE], ids=["dense", "experts"])
def test_memory_never_falls_as_rank_batch_or_length_grow(model):
    for at in every_setting(model):
        for smaller, larger in (
            (at(r=8), at(r=16)),
            (at(per_device_train_batch_size=1), at(per_device_train_batch_size=2)),
            (at(max_length=100), at(max_length=5000)),
        ):
            assert smaller.allocated <= larger.allocated
            assert smaller.low <= larger.low and smaller.high <= larger.high


def test_the_totals_and_their_bands_rise():
    for at in every_setting(TOY):
        memory = at()

        assert memory.allocated <= memory.reserved <= memory.device
        assert memory.low <= memory.device <= memory.high
        assert memory.allocated_band.low <= memory.allocated <= memory.allocated_band.high


def test_twice_the_rank_is_twice_the_adapter_with_its_gradients_and_states():
    for at in every_setting(TOY):
        small, large = at(r=8), at(r=16)

        assert 2 * small.adapter == large.adapter
        assert 2 * small.gradients == large.gradients
        assert abs(2 * small.optimizer - large.optimizer) <= 1


def test_the_band_is_narrow_around_what_is_counted_and_wide_around_what_is_modelled():
    memory = estimate(framework="trl")

    static, working = 12_576 + 400 + 400 + 800, 640 + 960 + 12_000
    off = ASSUMPTIONS.value("width-static") + ASSUMPTIONS.value("width-hf") * working
    off += ASSUMPTIONS.value("width-trained-blocks") * (400 + 400 + 800)
    assert 10 * 2**20 < ASSUMPTIONS.value("width-static") < 100 * 2**20  # more than the toy's whole base
    assert pytest.approx(400 + (1 - ASSUMPTIONS.value("width-hf")) * working) == memory.allocated_band.low
    assert pytest.approx(static + working + off) == memory.allocated_band.high


def test_a_setting_without_data_has_a_wider_band():
    usual, dora = estimate(), estimate(use_dora=True)

    assert (usual.high - usual.low) / usual.device < (dora.high - dora.low) / dora.device
