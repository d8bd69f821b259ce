"""Which attention kernel runs, and the memory that follows, against hand-read rules and simulated steps."""

import importlib.util
from pathlib import Path

import pytest

from rankviz.api import Api
from rankviz.catalog.models import load_index, load_model
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingData, TrainingSetup
from rankviz.core.cost.shapes import SINKS, UNSLOTH_EAGER, UNSLOTH_FLEX_SINKS, WITHOUT_FLASH, WITHOUT_SDPA, Attention
from rankviz.core.lora.config import LoraConfig
from rankviz.paths import ASSETS

API = Api()
LLAMA, GPT_OSS, FALCON = "meta-llama/Llama-3.1-8B", "openai/gpt-oss-20b", "tiiuae/falcon-7b"
MIXED = TrainingData(examples=1000, mean_tokens=1000, longest_tokens=4096)


def estimate(model_id, gpu, framework="trl", data=None, r=16, targets="all-linear", **setup):
    fields = {
        "precision": "nf4-dq",
        "gradient_checkpointing": "unsloth" if framework == "unsloth" else "hf",
        "loss_path": "full" if framework == "peft" else "fused",
        "per_device_train_batch_size": 2,
        "max_length": 4096,
        **setup,
    }
    training = TrainingSetup(framework=framework, data=data, **fields)
    lora = LoraConfig(target_modules=targets)
    asked = Question(model_id=model_id, lora=lora, training=training, ranks=(r,), gpu=gpu)
    return API.estimates.estimate(asked).estimate


@pytest.mark.parametrize(
    ("model_id", "gpu", "setup", "kernel"),
    [
        (LLAMA, "A100-80GB (SXM)", {}, "flash"),
        (LLAMA, "H100-80GB SXM", {}, "cudnn"),
        (LLAMA, "T4", {}, "math"),  # grouped keys
        ("meta-llama/Llama-2-7b-hf", "T4", {}, "efficient"),  # as many key heads as query heads
        (LLAMA, "T4", {"framework": "peft"}, "math"),
        (LLAMA, "T4", {"framework": "unsloth"}, "efficient"),
        (LLAMA, "T4", {"data": MIXED}, "efficient"),  # a mask: transformers copies keys to all heads
        (LLAMA, "T4", {"data": MIXED, "per_device_train_batch_size": 1}, "math"),
        (LLAMA, "A100-80GB (SXM)", {"data": MIXED}, "efficient"),
        (LLAMA, "A100-80GB (SXM)", {"precision": "fp32"}, "math"),
        (LLAMA, "T4", {"attn_implementation": "eager"}, "eager"),
        ("mistralai/Mistral-7B-v0.1", "A100-80GB (SXM)", {"max_length": 4095}, "flash"),
        ("mistralai/Mistral-7B-v0.1", "A100-80GB (SXM)", {}, "efficient"),  # from its window of 4,096 on
        ("google/gemma-4-E2B", "A100-80GB (SXM)", {"max_length": 256}, "efficient"),  # heads of 512
        (FALCON, "A100-80GB (SXM)", {}, "math"),
        (GPT_OSS, "A100-80GB (SXM)", {}, "eager"),
        (GPT_OSS, "A100-80GB (SXM)", {"framework": "unsloth"}, "flex"),
        ("google/gemma-2-9b", "L4", {"framework": "unsloth"}, "eager"),  # a soft cap, and no flash-attn
        ("google/gemma-2-9b", "L4", {"framework": "unsloth", "attn_implementation": "flash"}, "flash"),
        (LLAMA, "B200", {"framework": "unsloth"}, "flash"),
        (LLAMA, "B200", {}, "cudnn"),
        ("deepseek-ai/DeepSeek-V2-Lite", "A100-80GB (SXM)", {}, "efficient"),  # keys wider than values
    ],
)
def test_a_model_on_a_card_runs_one_kernel(model_id, gpu, setup, kernel):
    assert kernel == estimate(model_id, gpu, **setup).attention_kernel


@pytest.mark.parametrize(
    ("model_id", "gpu", "setup", "simulated_gib"),
    [
        (LLAMA, "T4", {}, 24.35),
        (LLAMA, "T4", {"framework": "peft"}, 28.37),
        (LLAMA, "T4", {"data": MIXED}, 9.82),
        (GPT_OSS, "A100-80GB (SXM)", {"precision": "bf16", "per_device_train_batch_size": 1, "max_length": 8192}, 72.8),
        (LLAMA, "A100-80GB (SXM)", {"framework": "peft"}, 24.53),
        (
            "swiss-ai/Apertus-8B-Instruct-2509",  # hidden states become fp32
            "A100-80GB (SXM)",
            {"r": 64, "per_device_train_batch_size": 4, "max_length": 1024, "gradient_accumulation_steps": 1},
            11.02,
        ),
        ("google/gemma-2-9b", "A100-80GB (SXM)", {"framework": "peft", "precision": "bf16", "max_length": 2048}, 32.61),
        ("openai-community/gpt2-large", "L4", {"per_device_train_batch_size": 4, "max_length": 1024}, 1.92),
    ],
)
def test_the_estimate_is_what_a_simulated_step_allocates(model_id, gpu, setup, simulated_gib):
    """Steps of the real classes on a simulated card: rankviz.worker.simulate, 2026-11-30."""
    memory = estimate(model_id, gpu, optim="adamw_8bit", **setup).ranks[0].memory

    assert simulated_gib * 2**30 == pytest.approx(memory.allocated, rel=0.02)


def test_llama_does_not_fit_a_t4_where_sdpa_runs_its_math_kernel_and_a_note_says_why():
    alone, padded = estimate(LLAMA, "T4"), estimate(LLAMA, "T4", data=MIXED)

    assert ["does_not_fit", "fits"] == [each.ranks[0].fit for each in (alone, padded)]
    (note,) = [note for note in alone.notes if "math kernel" in note]
    assert "16.00 GiB in one block. T4 has no flash kernel, and torch before 2.14" in note
    (note,) = [note for note in padded.notes if "math kernel" in note]
    assert note.startswith("The estimate assumes padded batches")


def test_gemma_2_under_unsloth_holds_four_matrices_and_a_caution_names_flash_attn():
    asked = estimate("google/gemma-2-9b", "L4", "unsloth", max_length=8192)

    assert asked.ranks[0].fit != "fits"
    assert asked.ranks[0].memory.activations > 16 * 2**30
    (note,) = [note for note in asked.notes if "flash-attn 2.6.3" in note]
    assert "16.00 GiB in one block" in note  # 2 examples · 16 heads · 8,192² · 4 · 2 bytes


def test_flex_attention_with_sinks_is_promised_for_gpt_oss_alone():
    assert set(UNSLOTH_FLEX_SINKS) == {"gpt_oss"} < set(SINKS)
    assert "deepseek_v4".startswith(UNSLOTH_EAGER)


def test_truncated_examples_are_all_of_one_length_so_that_no_mask_is_made():
    cut = TrainingData(examples=1000, mean_tokens=1000, longest_tokens=9000)

    assert "math" == estimate(LLAMA, "T4", data=cut).attention_kernel


def test_only_the_math_kernel_and_eager_attention_hold_the_matrix():
    kernels = ("flash", "cudnn", "efficient", "flex", "math", "eager")

    assert ["math", "eager"] == [kernel for kernel in kernels if Attention(kernel).holds_matrix]


def test_the_models_without_sdpa_are_those_that_the_installed_transformers_declares():
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        pytest.skip("transformers is not installed")
    texts = {
        file.parent.name: file.read_text(encoding="utf-8")
        for file in Path(spec.origin).parent.glob("models/*/modeling_*.py")
    }
    without = {name for name, text in texts.items() if "_supports_sdpa = True" not in text}

    assert {name for name in without if "sinks" in texts[name] and "ForCausalLM(" in texts[name]} == set(SINKS)
    assert {name.removesuffix("-gpt") for name in WITHOUT_SDPA} <= without
    catalogue = {load_model(ASSETS, row.id).model_type for row in load_index(ASSETS)}
    assert catalogue & without <= set(WITHOUT_SDPA)
    refuse = {name for name, text in texts.items() if "_supports_flash_attn = True" not in text}
    assert set(WITHOUT_FLASH) <= refuse
    families = {name.removesuffix("_text") for name in catalogue}
    assert {name for name in families if name.startswith(WITHOUT_FLASH)} == families & refuse


@pytest.mark.parametrize(
    ("model_id", "setup", "why"),
    [
        ("google/gemma-4-E2B", {}, "at most 256 elements per head, and this model has heads of 512"),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", {}, "transformers does not offer it for llama4"),
        (LLAMA, {"precision": "fp32"}, "it needs fp16 or bf16, and attention is computed in fp32"),
        (LLAMA, {"precision": "fp32", "framework": "peft"}, "attention is computed in fp32"),
        (LLAMA, {}, ""),
        (LLAMA, {"framework": "peft"}, ""),
        ("Qwen/Qwen3.5-4B", {}, ""),
    ],
)
def test_flash_attention_that_is_refused_is_said(model_id, setup, why):
    notes = estimate(model_id, "A100-80GB (SXM)", attn_implementation="flash", **setup).notes

    cautions = [note for note in notes if note.startswith("FlashAttention 2 does not run here: ")]
    assert bool(why) == bool(cautions)
    assert all(why in note and note.endswith("Choose sdpa attention.") for note in cautions)


def test_trl_is_said_to_stop_with_a_whole_llama_4_and_mambas_kernels_to_be_assumed():
    scout = "meta-llama/Llama-4-Scout-17B-16E-Instruct:whole"
    stops, trains = (estimate(scout, "H100-80GB SXM", framework) for framework in ("trl", "peft"))
    mamba = estimate("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "H100-80GB SXM", targets="attention")

    cautions = [sum("TRL 1.15 stops in its first step" in note for note in each.notes) for each in (stops, trains)]
    assert [1, 0] == cautions
    assert 1 == sum("packages mamba-ssm and causal-conv1d" in note for note in mamba.notes)
