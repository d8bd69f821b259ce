"""What Unsloth holds of a base in 4 bit, beside what its real quantizer made of these models at full size: the real
Bnb4BitHfQuantizer.preprocess_model under the patches of unsloth 2026.10.9, on the meta device. `make test-counts` has
the real loader of every family."""

from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.core.cost.setup import TrainingSetup, card
from rankviz.core.cost.stack import Stack, extra_bytes, fp32_tensors, settled
from rankviz.core.cost.weights import loading_bytes, nf4_bytes, unsloth_bytes
from rankviz.core.model.towers import as_loaded
from tests.support.runs.toy import ASSUMPTIONS

API = Api()
GIB = 2**30


def parts_of(model_id, *, text_only=False, **setup):
    own_files = replace(API.models.get(model_id), unsloth_checkpoint=None)
    model = as_loaded(own_files, text_only=text_only, unsloth_on_gpu=True)
    stack = Stack(setup=TrainingSetup(**setup), use_dora=False, assume=ASSUMPTIONS)
    return unsloth_bytes(model, settled(stack, model, card(None)))


@pytest.mark.parametrize(
    ("model_id", "gib"),
    [
        ("Qwen/Qwen3-30B-A3B", 15.55),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", 39.21),
        ("Qwen/Qwen3-VL-30B-A3B-Instruct", 16.55),
        ("Qwen/Qwen3.5-35B-A3B", 18.92),
        ("Qwen/Qwen3.5-122B-A10B", 61.67),
        ("google/gemma-4-26B-A4B", 14.23),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 55.09),
        ("mistralai/Mixtral-8x7B-v0.1", 22.80),
        ("deepseek-ai/DeepSeek-V2-Lite", 8.13),
        ("openai/gpt-oss-20b", 11.66),
        ("openai/gpt-oss-120b", 57.80),
        ("google/gemma-4-E2B", 6.91),
        ("google/gemma-4-E4B", 9.30),
        ("google/gemma-4-31B", 17.77),
        ("google/gemma-3-4b-it", 3.57),
        ("Qwen/Qwen3.5-9B", 7.96),
        ("mistralai/Ministral-3-3B-Instruct-2512", 2.99),
        ("Qwen/Qwen3-VL-2B-Instruct", 2.01),
    ],
)
def test_the_bytes_of_a_base_are_those_of_unsloths_quantizer(model_id, gib):
    """Before norms and biases are raised to fp32, which is after the quantizer."""
    model = as_loaded(API.models.get(model_id), text_only=False, unsloth_on_gpu=True)
    modules = [(len(each.blocks) or 1, fp32_tensors(model, each, four_bit=True)) for each in model.plain_modules]
    raised = 2 * sum(copies * tensors for copies, tensors in modules)

    assert gib == round((sum(parts_of(model_id).values()) - raised) / GIB, 2)


@pytest.mark.parametrize(
    ("model_id", "gib"),
    [
        ("google/gemma-4-E2B", 0.89),
        ("google/gemma-4-E4B", 0.89),
        ("google/gemma-4-26B-A4B", 1.07),
        ("google/gemma-4-31B", 1.07),
        ("google/gemma-3-4b-it", 0.78),
        ("Qwen/Qwen3.5-35B-A3B", 0.83),
        ("Qwen/Qwen3.5-9B", 0.85),
        ("mistralai/Ministral-3-3B-Instruct-2512", 0.78),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 0.45),
    ],
)
def test_towers_stay_in_16_bit_but_llama_4s(model_id, gib):
    assert gib == round(parts_of(model_id)["towers"] / GIB, 2)


def test_without_its_towers_a_model_has_no_bytes_of_them():
    whole, text = (parts_of("google/gemma-4-E2B", text_only=only) for only in (False, True))

    assert 0 == text["towers"]
    assert whole | {"towers": 0} == text


def test_stacks_of_2_to_the_31_weights_lose_double_quantization():
    """DeepSeek-V3's gate and up projections in one stack: 256 × 7,168 × 4,096 in each of 58 blocks, 30.5 GB more."""
    gate_up, down = 58 * 256 * 7168 * 4096, 58 * 256 * 7168 * 2048
    held = parts_of("deepseek-ai/DeepSeek-V3")["experts"]

    assert 0.5625 * (gate_up + down) == held
    assert 30.5 == round((held - (0.5 + 1 / 64 + 4 / 64 / 256) * (gate_up + down)) / 1e9, 1)


def test_maxima_are_counted_in_whole_blocks():
    # 100 weights: 50 bytes, 2 maxima; nested, 2 bytes and one fp32 maximum.
    assert (58, 56) == (nf4_bytes(100, nested=False), nf4_bytes(100, nested=True))


def test_nf4_under_unsloth_is_what_load_in_4bit_gives():
    assert parts_of("Qwen/Qwen3-30B-A3B", precision="nf4") == parts_of("Qwen/Qwen3-30B-A3B", precision="nf4-dq")


def test_experts_of_a_checkpoint_that_is_in_4_bit_already_are_rebuilt_with_fp32_maxima():
    mixtral = API.models.get("mistralai/Mixtral-8x7B-v0.1")
    stack = Stack(setup=TrainingSetup(), use_dora=False, assume=ASSUMPTIONS)
    experts = sum(layer.parameters for layer in mixtral.layers if layer.kind == "experts")

    assert "unsloth/Mixtral-8x7B-v0.1-unsloth-bnb-4bit" == mixtral.unsloth_checkpoint.repository
    assert 0.5625 * experts == unsloth_bytes(mixtral, settled(stack, mixtral, card(None)))["experts"]


def test_while_experts_load_two_stacks_in_16_bit_stand_beside_the_base_or_one_that_the_file_has_fused():
    def loading(model_id):
        model = as_loaded(API.models.get(model_id), text_only=False, unsloth_on_gpu=True)
        stack = Stack(setup=TrainingSetup(), use_dora=False, assume=ASSUMPTIONS)
        return loading_bytes(model, settled(stack, model, card(None)))

    assert 2 * 2 * 128 * 1536 * 2048 == loading("Qwen/Qwen3-30B-A3B")
    assert 1.25 * 2 * 128 * 1408 * 2816 == loading("google/gemma-4-26B-A4B")
    assert 0 == loading("Qwen/Qwen3-8B") == loading("openai/gpt-oss-20b")


def test_a_dynamic_gpt_oss_120b_weighs_2_percent_more_and_not_8():
    model = API.models.get("openai/gpt-oss-120b")
    stack = settled(Stack(setup=TrainingSetup(), use_dora=False, assume=ASSUMPTIONS), model, card(None))
    parts = unsloth_bytes(model, stack)
    plain = sum(parts.values())
    more = extra_bytes(model, stack, plain, parts["linears"])

    assert [0.0, 2.3, 3.1] == [round(100 * end / plain, 1) for end in (more.low, more.expected, more.high)]
