"""Tinker's parameter counts from shapes, and ranks converted by parameters between MoE schemes."""

import pytest

from rankviz.api import ASSETS
from rankviz.catalog.models import load_model
from rankviz.core.lora.config import UNSLOTH_SEVEN, LoraConfig
from rankviz.core.lora.experts import rank_of_size, shared_outer_per_rank
from rankviz.core.lora.resolve import resolve

TINKER = {
    "Qwen/Qwen3-30B-A3B": 14_450_688 + 835_584 + 153_984,
    "openai/gpt-oss-20b": 6_842_880 + 497_664 + 203_968,
    "openai/gpt-oss-120b": 40_124_160 + 746_496 + 203_968,
    "Qwen/Qwen3.5-35B-A3B": 16_281_600 + 1_013_760 + 250_368,
    "deepseek-ai/DeepSeek-V3": 94_307_328 + 2_440_000 + 136_448,
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": 11_346_176 + 584_832 + 133_760,
}
"""MLP, attention and unembedding per unit of rank, as get_lora_param_count of the tinker-cookbook stores them."""


@pytest.mark.parametrize("model_id", TINKER)
def test_tinkers_parameters_follow_from_the_shapes(model_id):
    assert TINKER[model_id] == shared_outer_per_rank(load_model(ASSETS, model_id))


def test_tinkers_adapter_of_a_dense_model_is_unsloths_seven_and_the_unembedding():
    llama = load_model(ASSETS, "meta-llama/Llama-3.1-8B")

    seven = resolve(llama, LoraConfig(), "unsloth").parameters(1)

    assert seven + 128_256 + 4096 == shared_outer_per_rank(llama)


@pytest.mark.parametrize(
    ("model_id", "scheme", "r"),
    [
        ("Qwen/Qwen3-30B-A3B", "unsloth", 12.3),
        ("Qwen/Qwen3-30B-A3B", "peft-remap", 7.9),
        ("openai/gpt-oss-20b", "unsloth", 20.9),
        ("deepseek-ai/DeepSeek-V3", "unsloth", 10.1),
        ("deepseek-ai/DeepSeek-V3", "peft-remap", 6.6),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "unsloth", 14.2),
    ],
)
def test_tinkers_r_32_as_a_rank_of_equal_size(model_id, scheme, r):
    model = load_model(ASSETS, model_id)
    lora = LoraConfig(target_modules=UNSLOTH_SEVEN, moe_scheme=scheme)
    plan = resolve(model, lora, "peft" if scheme == "peft-remap" else "unsloth")

    assert r == round(rank_of_size(plan.parameters, 32 * shared_outer_per_rank(model)), 1)


def test_a_size_between_two_ranks_and_below_the_first():
    def steps(r):
        """Experts at r / 4, at least 1."""
        return 10 * r + 100 * max(1, r // 4)

    assert [0.5, 1.0, 4.0, 7.5, 8.0] == [rank_of_size(steps, size) for size in (55, 110, 140, 225, 280)]


def test_a_model_with_layers_that_tinker_does_not_have_has_no_count():
    assert shared_outer_per_rank(load_model(ASSETS, "microsoft/Phi-4-mini-instruct")) is None
