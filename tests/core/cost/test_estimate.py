"""The whole estimate: the toy by hand, real models beside simulated steps, laws on the catalogue, and notes."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from rankviz.api import Api
from rankviz.catalog.hardware import find_gpu, load_gpus
from rankviz.catalog.models import load_index, load_model
from rankviz.core.cost.estimate import estimate, estimate_as_json, fit, spare
from rankviz.core.cost.notes import Published, by_method, by_name, card_notes
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingData, TrainingSetup
from rankviz.core.cost.shapes import SINKS, WITHOUT_SDPA
from rankviz.core.lora.config import LoraConfig
from rankviz.core.quantity import Range, by_level
from rankviz.paths import ASSETS
from tests.support.runs import questions
from tests.support.runs.toy import ASSUMPTIONS, TOY, TOY_MOE, gpu

ROOT = Path(__file__).parents[3]
API = Api()
CARD = gpu()


def question(**more):
    training = more.pop("training", {"max_steps": 10})
    return questions.question(**{"target_modules": ("q_proj", "v_proj"), **training, **more})


def ranks(spec=TOY, card=CARD, **more):
    return estimate_as_json(estimate(spec, question(**more), card, ASSUMPTIONS))["ranks"]


def test_unknown_speed_or_price_is_null_with_a_note_never_zero():
    slow = estimate_as_json(estimate(TOY, question(), gpu(bf16_flops_per_second=None), ASSUMPTIONS))
    unpriced = estimate_as_json(estimate(TOY, question(), gpu(prices=()), ASSUMPTIONS))

    assert (None, None) == (slow["ranks"][0]["seconds"], slow["ranks"][0]["usd"])
    assert any("dense FLOP/s are not in the table" in note for note in slow["notes"])
    assert unpriced["ranks"][0]["seconds"] and unpriced["ranks"][0]["usd"] is None
    assert any("no price in the table" in note for note in unpriced["notes"])


@pytest.mark.parametrize(("high", "verdict"), [(90, "fits"), (97, "tight"), (101, "uncertain"), (250, "does_not_fit")])
def test_fit_compares_the_band_with_usable_memory(high, verdict):
    usable = Range(100, 100, 100)
    left = spare(Range(high / 2, high * 0.8, high), usable)

    assert verdict == fit(left, usable, ASSUMPTIONS)


def test_every_assumption_is_used_by_some_formula():
    """Each id is a text of the code, or fits a formatted one."""
    patterns = set()
    for file in (ROOT / "rankviz").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                patterns.add(re.escape(node.value))
            elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
                parts = (re.escape(v.value) if isinstance(v, ast.Constant) else "[a-z0-9-]*" for v in node.values)
                patterns.add("".join(parts))
    known = re.compile("|".join(pattern for pattern in patterns if re.match(r"[a-z0-9]+\\-", pattern)))

    assert [] == [row.id for row in ASSUMPTIONS if not known.fullmatch(row.id)]


def test_experts_of_another_rank_take_the_memory_and_the_time_of_that_rank():
    def at(r, expert_rank):
        setup = {"framework": "peft", "moe_scheme": "unsloth", "target_modules": "unsloth"}
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


MIXED = TrainingData(examples=1000, mean_tokens=1000, longest_tokens=4096)
TRUNCATED = TrainingData(examples=1000, mean_tokens=1000, longest_tokens=9000)
DORA = {"precision": "bf16", "use_dora": True, "gradient_accumulation_steps": 1}
LLAMA, GPT_OSS = "meta-llama/Llama-3.1-8B", "openai/gpt-oss-20b"


def on_card(model_id, gpu, framework="trl", data=None, r=16, targets="all-linear", use_dora=False, **setup):
    fields = {"precision": "nf4-dq", "loss_path": "full" if framework == "peft" else "fused", "max_length": 4096}
    fields["gradient_checkpointing"] = "unsloth" if framework == "unsloth" else "hf"
    training = TrainingSetup(framework=framework, data=data, **fields | setup)
    lora = LoraConfig(target_modules=targets, use_dora=use_dora)
    asked = Question(model_id=model_id, lora=lora, training=training, ranks=(r,), gpu=gpu)
    return API.estimates.estimate(asked).estimate


AVOIDS = {
    "math": "Unsloth, torch 2.14 or newer, or padded batches avoid it.",
    "eager": "A shorter length or a smaller batch needs less.",
    "capped": "flash-attn 2.6.3 or newer avoids it.",
    "padded": "Padded batches are assumed. A batch of one length runs torch's math kernel,",
}


@pytest.mark.parametrize(
    ("model_id", "gpu", "setup", "kernel"),
    [
        (LLAMA, "A100-80GB (SXM)", {}, "flash"),
        (LLAMA, "H100-80GB SXM", {}, "cudnn"),
        (LLAMA, "T4", {}, "math"),  # grouped keys
        (GPT_OSS, "A100-80GB (SXM)", {}, "eager"),  # attention sinks
        ("tiiuae/falcon-7b", "A100-80GB (SXM)", {}, "math"),  # one key head, given without copies
        ("meta-llama/Llama-2-7b-hf", "T4", {}, "efficient"),  # as many key heads as query heads
        (LLAMA, "T4", {"framework": "unsloth"}, "efficient"),
        (LLAMA, "A100-80GB (SXM)", {"data": MIXED}, "efficient"),
        (LLAMA, "T4", {"data": MIXED}, "efficient"),  # a mask: transformers copies keys to all heads
        (LLAMA, "T4", {"data": TRUNCATED}, "math"),  # all of one length, so no mask is made
        ("mistralai/Mistral-7B-v0.1", "A100-80GB (SXM)", {}, "efficient"),  # from its window of 4,096 on
        ("google/gemma-4-E2B", "A100-80GB (SXM)", {"max_length": 256}, "efficient"),  # heads of 512
        (GPT_OSS, "A100-80GB (SXM)", {"framework": "unsloth"}, "flex"),
        ("google/gemma-2-9b", "L4", {"framework": "unsloth"}, "eager"),  # a soft cap, and no flash-attn
        ("deepseek-ai/DeepSeek-V2-Lite", "A100-80GB (SXM)", {}, "efficient"),  # keys wider than values
    ],
)
def test_a_model_on_a_card_runs_one_kernel_and_a_matrix_is_said_with_what_avoids_it(model_id, gpu, setup, kernel):
    estimate = on_card(model_id, gpu, **setup)
    cases = {"google/gemma-2-9b": "capped", "tiiuae/falcon-7b": "eager"}
    case = "padded" if (gpu, kernel, setup.get("data")) == ("T4", "efficient", MIXED) else cases.get(model_id, kernel)

    assert kernel == estimate.attention_kernel
    said = [note for note in estimate.notes if "matrix" in note]
    assert [True] * (case in AVOIDS) == [AVOIDS[case] in note for note in said]
    assert ("is eager" in "".join(said)) == (kernel == "eager")


@pytest.mark.parametrize(
    ("model_id", "gpu", "setup", "simulated_gib"),
    [
        (LLAMA, "T4", {}, 24.35),
        (GPT_OSS, "A100-80GB (SXM)", {"precision": "bf16", "per_device_train_batch_size": 1, "max_length": 8192}, 72.8),
        (
            "swiss-ai/Apertus-8B-Instruct-2509",  # hidden states become fp32
            "A100-80GB (SXM)",
            {"r": 64, "per_device_train_batch_size": 4, "max_length": 1024, "gradient_accumulation_steps": 1},
            11.02,
        ),
        ("google/gemma-2-9b", "A100-80GB (SXM)", {"framework": "peft", "precision": "bf16", "max_length": 2048}, 32.61),
        # DoRA: fullest where the norm of the projection down is made, and in the backward pass
        ("meta-llama/Llama-3.2-1B", "A100-80GB (SXM)", {**DORA, "max_length": 2048}, 4.0837),
    ],
)
def test_the_estimate_is_what_a_simulated_step_allocates(model_id, gpu, setup, simulated_gib):
    """Steps of the real classes on a simulated card: rankviz.worker.simulate, 2026-11-30."""
    memory = on_card(model_id, gpu, optim="adamw_8bit", **setup).ranks[0].memory

    assert simulated_gib * 2**30 == pytest.approx(memory.allocated, rel=0.02)


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


GPUS = load_gpus(ASSETS)
QWEN, GEMMA = (load_model(ASSETS, model_id) for model_id in ("Qwen/Qwen3-4B", "google/gemma-3-4b-it"))


@pytest.mark.parametrize(
    ("model", "card", "setup", "start"),
    [
        (QWEN, "T4", {"attn_implementation": "flash"}, "FlashAttention 2 needs compute capability 8.0 or newer"),
        (QWEN, "V100-16GB", {}, "torch for CUDA 13, the default, needs compute capability 7.5 or newer, and V100"),
        (GEMMA, "T4", {"framework": "trl"}, "fp16 overflows in this model and T4 has no bf16, so RankViz's TRL script"),
        (GEMMA, "L4", {"framework": "trl"}, None),
    ],
)
def test_what_a_card_is_too_old_for_is_said(model, card, setup, start):
    notes = card_notes(model, Question(model_id=model.id, training=TrainingSetup(**setup)), find_gpu(GPUS, card))

    assert [bool(start)] * len(notes) == [note.startswith(start or " ") for note in notes]
    assert bool(start) == bool(notes)
    assert notes == by_level(notes)[0]


def test_an_estimate_computes_in_fp32_where_the_script_does(tmp_path):
    """In the script a T4 gets torch.float32: weights that are not quantized double, and products run at fp32's rate."""
    api = Api(home=tmp_path)

    def row(model_id, card, precision="nf4-dq"):
        training = TrainingSetup(framework="trl", gradient_checkpointing="hf", precision=precision)
        return api.estimates.estimate(Question(model_id=model_id, gpu=card, training=training)).estimate.ranks[0]

    here, half = row("google/gemma-3-4b-it", "T4"), row("google/gemma-3-4b-it", "T4", "fp16")
    embedding = GEMMA.vocab_size * GEMMA.hidden_size

    assert here.duration.step.expected > 3.5 * half.duration.step.expected
    elsewhere = row("google/gemma-3-4b-it", "L4")
    assert 2 * embedding <= here.memory.base_weights - elsewhere.memory.base_weights < 3 * embedding
    assert here.memory.activations > 1.5 * elsewhere.memory.activations
    plain = [row("Qwen/Qwen3-4B", card).memory.base_weights for card in ("T4", "L4")]
    assert plain[0] == plain[1]


def test_a_checkpoint_is_published_quantized_unless_by_bitsandbytes():
    assert (None, None) == (by_method(""), by_method("bitsandbytes"))
    assert Published("FP8", "FineGrainedFP8Config") == by_method("fp8") == by_name("deepseek-ai/DeepSeek-R1")
    assert Published("AWQ", "") == by_method("awq") == by_name("someone/Llama-3.1-8B-AWQ")
    assert by_name("Qwen/Qwen3-4B") is None
