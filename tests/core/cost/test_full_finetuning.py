"""Full fine-tuning of the toy, worked out by hand: 6,288 weights, 4,608 of them multiplied with each token."""

import pytest

from rankviz.core.cost.estimate import estimate
from rankviz.core.cost.predict import full_finetuning
from rankviz.core.cost.setup import TrainingSetup
from tests.support.runs.questions import question
from tests.support.runs.toy import ASSUMPTIONS, TOY, gpu


def full(card=None, **setup):
    fields = {"framework": "trl", "optim": "adamw_torch", "gradient_checkpointing": "hf", "max_steps": 1}
    return full_finetuning(TOY, TrainingSetup(**fields | setup), card or gpu(), 22 * 2**30, ASSUMPTIONS)


@pytest.mark.parametrize("framework", ["trl", "unsloth", "peft"])
def test_weights_gradients_and_states_are_bf16(framework):
    got = full(framework=framework)

    assert ("bf16", 6288, 2 * 6288) == (got.dtype, got.trained_parameters, got.saved_bytes)
    assert (2 * 6288, 0, 2 * 6288) == (got.memory.base_weights, got.memory.adapter, got.memory.gradients)
    assert 2 * 2 * 6288 == got.memory.optimizer


def test_a_four_bit_question_still_trains_16_bit_weights():
    assert full(precision="nf4-dq").memory == full(precision="bf16").memory


def test_a_card_without_bf16_and_fp32_train_in_fp32():
    t4 = gpu(supports_bf16=False, bf16_flops_per_second=None, fp16_flops_per_second=1e14)

    for got in (full(t4), full(precision="fp32")):
        assert "fp32" == got.dtype
        assert (4 * 6288, 4 * 6288, 8 * 6288) == (
            got.memory.base_weights,
            got.memory.gradients,
            got.memory.optimizer,
        )


@pytest.mark.parametrize(
    ("checkpointing", "ours", "adapters"),
    [
        # P = 4,608, head 16 · 100 = 1,600, attention over rows of 2 tokens 4 · 2 · 16 · 1 = 128, an adapter of r = 1
        # on q 2 · 32 = 64: 8P + 4.5 att + 6HV against 6P + 8p + 4.5 att + 4HV.
        ("hf", 36_864 + 576 + 9_600, 27_648 + 512 + 576 + 6_400),
        # 6P + 3.5 att + 6HV against 4P + 6p + 3.5 att + 4HV.
        ("none", 27_648 + 448 + 9_600, 18_432 + 384 + 448 + 6_400),
    ],
)
def test_a_token_takes_2p_and_2hv_operations_more_than_with_a_frozen_base(checkpointing, ours, adapters):
    slow = gpu(bf16_flops_per_second=1e-3)  # so that launching takes no share
    setup = {"framework": "trl", "precision": "bf16", "max_length": 2, "max_steps": 1}
    chosen = question(ranks=(1,), target_modules=("q_proj",), gradient_checkpointing=checkpointing, **setup)

    frozen = estimate(TOY, chosen, slow, ASSUMPTIONS).ranks[0].duration.step
    trained = full(slow, gradient_checkpointing=checkpointing, max_length=2).duration.step

    assert pytest.approx(ours / adapters) == trained.expected / frozen.expected


def test_its_band_is_more_than_twice_as_wide_as_an_adapters():
    """One token, so that weights and states are nearly all there is."""
    tiny = {"per_device_train_batch_size": 1, "max_length": 1, "optim": "adamw_8bit", "precision": "bf16"}
    chosen = question(target_modules=("q_proj",), framework="trl", max_steps=1, **tiny)

    adapter, trained = estimate(TOY, chosen, gpu(), ASSUMPTIONS).ranks[0].memory, full(**tiny).memory

    def share_above(memory):
        """Without the bytes that are missing from any count, which are more than the toy."""
        above = memory.allocated_band.high - memory.allocated
        return (above - ASSUMPTIONS.value("width-static")) / memory.allocated

    assert 2 * share_above(adapter) < share_above(trained)


def test_unknown_speed_is_no_duration():
    assert full(gpu(bf16_flops_per_second=None)).duration is None
