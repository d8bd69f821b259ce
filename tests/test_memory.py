"""Memory of the toy, worked out by hand, and the laws that any model must keep."""

import itertools

import pytest

from rankviz.core import memory_parts
from rankviz.core.blocks import model_shape
from rankviz.core.memory import memory_at, memory_terms
from rankviz.core.memory_parts import Stack
from rankviz.core.training import TrainingSetup
from tests.toy import ASSUMPTIONS, TOY, TOY_MOE, adapted


def stack(framework="peft", use_dora=False, **setup):
    fields = {
        "precision": "bf16",
        "optim": "adamw_torch",
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "max_length": 10,
        "checkpointing": "hf",
        "loss_path": "full",
    }
    setup = TrainingSetup(**{**fields, **setup})
    return Stack(framework=framework, setup=setup, use_dora=use_dora, assume=ASSUMPTIONS)


def shape_of(model, names=("q_proj", "v_proj")):
    return model_shape(model, adapted(model, *names))


def estimate(model=TOY, r=2, parameters=100, saved=0, usable=None, names=("q_proj", "v_proj"), **more):
    terms = memory_terms(model, shape_of(model, names), stack(**more), usable)
    return memory_at(terms, r, parameters, saved)


def test_plain_peft_in_16_bit_peaks_at_the_loss():
    memory = estimate()

    assert 6288 * 2 == memory.base_weights
    assert (400, 400, 800) == (memory.adapter, memory.gradients, memory.optimizer)
    assert 2 * 10 * 16 * 2 == memory.activations  # the checkpoints: blocks × tokens × hidden × 2 bytes
    assert 14 * 10 * 100 == memory.logits
    assert 12_576 + 400 + 400 + 800 + 640 + 14_000 == memory.allocated


def test_with_a_fused_loss_the_peak_is_one_blocks_backward_pass():
    memory = estimate(loss_path="fused")

    working = 2 * 10 * (6 * 16 + 48 + 96 + 2 * 32 + 2 * 16)
    copies = 4 * 10 * 32  # fp32 copies of the inputs of q and v
    intermediates = 2 * 10 * 2 * 2  # x·A of two modules at r = 2
    assert 640 + working + copies + intermediates == memory.activations
    assert 0 == memory.logits


def test_without_checkpointing_every_block_keeps_its_own():
    memory = estimate(checkpointing="none")

    kept = 2 * (2 * 10 * (6 * 16 + 48 + 96) + 4 * 10 * 32 + 2 * 10 * 2 * 2)
    assert kept == memory.activations
    assert 14_000 == memory.logits


def test_unsloth_moves_checkpoints_to_the_host_and_copies_no_inputs():
    asks = {"framework": "unsloth", "optim": "adamw_8bit", "checkpointing": "unsloth", "loss_path": "fused"}

    memory = estimate(usable=0, max_length=1, **asks)  # a full card leaves the loss nothing, so a block is the peak

    assert 2 * (12 * 16 + 48 + 96) + 2 * 2 == memory.activations  # tokens × 2 × (12H + 2Q + 2K + 3M), x·A of one module
    assert 203 == memory.optimizer


def test_without_checkpointing_unsloth_keeps_less_of_each_block():
    memory = estimate(framework="unsloth", checkpointing="none", loss_path="triton")

    assert 2 * 2 * 10 * (4 * 16 + 48 + 96 - 32) == memory.activations  # blocks × 2 × tokens × (4H + 2Q + 2K + 2M)


def test_trls_fused_loss_holds_a_tile_of_logits_and_the_gradient_of_hidden_states():
    assert 2 * 10 * 100 + 4 * 10 * 16 == memory_parts.logits_bytes(TOY, stack("trl", loss_path="fused"))


def test_pefts_k_bit_preparation_makes_checkpoints_fp32():
    held = {
        framework: memory_parts.checkpoint_bytes(TOY, shape_of(TOY), stack(framework, precision="nf4"))
        for framework in ("trl", "peft")
    }

    assert {"trl": 2 * 10 * 16 * 2, "peft": 2 * 10 * 16 * 4} == held


def test_unsloths_fused_loss_takes_half_of_what_is_free_up_to_its_cap():
    fixed = 12_576 + 400 + ASSUMPTIONS.value("context-bytes")  # base, adapter, context

    def logits(free, tokens):
        asks = {"framework": "unsloth", "checkpointing": "unsloth", "loss_path": "fused", "max_length": tokens}
        return estimate(usable=fixed + free, **asks).logits

    assert 16 * 100 * 1000 == logits(10**9, 1000)  # all at once where there is room
    assert 8_000_000 == logits(16_000_000, 10_000)
    assert 4 * 2**30 == logits(10**12, 4_000_000)


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
    assert expected == memory_parts.base_bytes(TOY, shape_of(TOY), stack(framework, precision=precision))


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
    asked = stack(framework, precision=precision, optim=optim)
    each = memory_parts.trained_bytes(asked, asked.adapter_dtype_bytes)

    assert expected == each.weight + each.gradient + each.optimizer


def test_modules_to_save_train_as_full_copies_in_the_bases_dtype():
    memory = estimate(parameters=1700, saved=1600)

    assert 100 * 4 + 1600 * 2 == memory.adapter
    assert 100 * 8 + 1600 * 4 == memory.optimizer


def test_a_quantized_base_needs_one_weight_dequantized():
    assert 2 * 16 * 32 == estimate(framework="trl", precision="nf4").other


def test_peft_merges_targeted_experts_and_unsloth_does_not():
    experts = ("gate_up_proj", "down_proj")

    assert 2 * 2 * 4 * (16 * 16 + 8 * 16) == estimate(TOY_MOE, names=experts).other
    assert 0 == estimate(TOY_MOE, names=experts, framework="unsloth").other


def test_eager_attention_holds_the_matrix():
    more = (
        estimate(loss_path="fused", attn_implementation="eager").activations - estimate(loss_path="fused").activations
    )

    assert round(14.8 * 2 * 10 * 10) == more  # bytes × heads × length²


def test_torchs_adamw_can_be_the_peak_where_nearly_everything_trains():
    memory = estimate(parameters=100_000)

    assert (0, 0, 400_000) == (memory.activations, memory.logits, memory.other)


SETTINGS = list(
    itertools.product(
        ("unsloth", "trl", "peft"),
        ("bf16", "fp32", "nf4-dq", "int8"),
        ("unsloth", "hf", "none"),
        ("fused", "triton", "full"),
        ("adamw_torch", "adamw_8bit", "paged_adamw_8bit", "sgd"),
    )
)


def every_setting(model, **more):
    for framework, precision, checkpointing, loss_path, optim in SETTINGS:
        setup = {"precision": precision, "checkpointing": checkpointing, "loss_path": loss_path, "optim": optim}
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

    static, working = 12_576 + 400 + 400 + 800, 640 + 14_000
    off = 0.02 * static + 0.15 * working
    assert pytest.approx(static + working - off) == memory.allocated_band.low
    assert pytest.approx(static + working + off) == memory.allocated_band.high


def test_unsloths_dynamic_4_bit_checkpoints_raise_the_high_end_alone():
    bands = [estimate(framework=name, precision="nf4").allocated_band for name in ("unsloth", "trl")]

    above_more_than_below = [(band.high - band.expected) - (band.expected - band.low) for band in bands]
    assert pytest.approx([0.12 * 5952, 0]) == above_more_than_below


def test_a_setting_without_data_has_a_wider_band():
    usual, dora = estimate(), estimate(use_dora=True)

    assert (usual.high - usual.low) / usual.device < (dora.high - dora.low) / dora.device
