"""What a card is too old for is said, with the cards of the table that are too old too."""

from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.catalog.hardware import find_gpu, load_gpus
from rankviz.catalog.models import load_model
from rankviz.core.cost.notes import Published, by_method, by_name, card_notes, question_notes
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.quantity import by_level, level
from tests.support.runs.questions import question
from tests.support.runs.toy import ASSETS, ASSUMPTIONS, TOY, gpu

GPUS = load_gpus(ASSETS)
QWEN, GEMMA = (load_model(ASSETS, model_id) for model_id in ("Qwen/Qwen3-4B", "google/gemma-3-4b-it"))


def notes(model=QWEN, name="L4", stored="", **training):
    card = find_gpu(GPUS, name) if name else None
    question = Question(model_id=model.id, training=TrainingSetup(**training))
    return card_notes(model, question, card, GPUS, stored)


def test_a_card_that_can_do_it_all_gets_no_note():
    assert () == notes(attn_implementation="flash")
    assert () == card_notes(QWEN, Question(model_id=QWEN.id), gpu(compute_capability=None), GPUS, "")


def test_a_v100_is_too_old_for_the_default_torch():
    (note,) = notes(name="V100-16GB")

    assert note == (
        "torch for CUDA 13, the default, needs compute capability 7.5 or newer, and V100-16GB SXM has 7.0. Install a "
        "torch for CUDA 12.6, at most 2.14."
    )
    assert "warning" == level(note)


def test_flash_attention_names_the_cards_that_lack_it():
    wanted = "FlashAttention 2 needs compute capability 8.0 or newer; too old: T4 and V100-16GB SXM."

    assert (f"{wanted} Choose sdpa attention.",) == notes(name="T4", attn_implementation="flash")
    assert (wanted,) == notes(name="", attn_implementation="flash")


def test_fp16_overflows_where_no_program_prevents_it():
    plain = {"framework": "trl", "gradient_checkpointing": "hf"}

    (note,) = notes(GEMMA, "T4", **plain)

    assert note.startswith("fp16 overflows in this model and T4 has no bf16, so RankViz's TRL script computes in fp32")
    (asked,) = notes(GEMMA, "T4", precision="fp16", **plain)
    assert asked.startswith("fp16 overflows in this model, and TRL does not prevent it. Train in bf16 (compute")
    assert "too old: T4 and V100-16GB SXM" in note
    assert () == notes(GEMMA, "L4", **plain)
    assert () == notes(QWEN, "T4", **plain)


@pytest.mark.parametrize("framework", ["trl", "peft"])
def test_an_estimate_computes_in_fp32_where_the_script_does(tmp_path, framework):
    """In the script a T4 gets torch.float32: weights that are not quantized double, and products run at fp32's rate."""
    api = Api(home=tmp_path)

    def row(model_id, card, precision="nf4-dq"):
        training = TrainingSetup(framework=framework, gradient_checkpointing="hf", precision=precision)
        return api.estimates.estimate(Question(model_id=model_id, gpu=card, training=training)).estimate.ranks[0]

    here, half = row("google/gemma-3-4b-it", "T4"), row("google/gemma-3-4b-it", "T4", "fp16")
    embedding = GEMMA.vocab_size * GEMMA.hidden_size

    assert here.duration.step.expected > 3.5 * half.duration.step.expected
    if framework == "trl":
        elsewhere = row("google/gemma-3-4b-it", "L4")
        assert 2 * embedding <= here.memory.base_weights - elsewhere.memory.base_weights < 3 * embedding
        assert here.memory.activations > 1.5 * elsewhere.memory.activations
    plain = [row("Qwen/Qwen3-4B", card).memory.base_weights for card in ("T4", "L4")]
    assert plain[0] == plain[1]


def test_fp8_says_which_cards_must_dequantize_it():
    (note,) = notes(stored="FP8")

    assert note.startswith(
        "Without dequantizing it, FP8 needs compute capability 8.9 or newer; too old: A10, A100-40GB"
    )
    assert "L4" not in note and "RTX 4090" not in note


def test_forced_fp32_says_what_it_costs_and_that_it_is_in_the_numbers(tmp_path):
    """The same card with bf16 needs less memory by as much as the note says."""
    api, question = Api(home=tmp_path), Question(model_id="google/gemma-3-4b-it", gpu="T4")
    estimate = api.estimates.estimate(question).estimate
    (note,) = [text for text in by_level(estimate.notes)[0] if "fp32" in text]

    from rankviz.core.cost.estimate import estimate as ask

    able = replace(find_gpu(GPUS, "T4"), supports_bf16=True)
    plain = ask(GEMMA, question, able, api.workspace.assumptions)

    more = (estimate.ranks[0].memory.device - plain.ranks[0].memory.device) / 2**30
    assert note == (
        "On T4, which has no bf16, this model trains slower and takes more memory: its numbers overflow in fp16, so "
        f"Unsloth computes it in fp32. It takes {more:.2f} GiB more than in bf16, which the estimate includes. How "
        "much slower it is, no measured run says."
    )
    assert more > 0


@pytest.mark.parametrize(
    ("framework", "settings", "start", "is_said"),
    [
        ("trl", {"text_only": True}, "text_only has no effect here: it is a setting of Unsloth.", True),
        ("unsloth", {"text_only": True}, "text_only has no effect here: this model has no other towers.", True),
        ("trl", {}, "text_only has no effect", False),
        ("peft", {"precision": "nf4"}, "The estimate assumes prepare_model_for_kbit_training", True),
        ("peft", {"precision": "bf16"}, "The estimate assumes prepare_model_for_kbit_training", False),
        ("peft", {"loss_path": "fused"}, "A fused loss in plain PEFT needs a package", True),
        ("trl", {"loss_path": "fused"}, "A fused loss in plain PEFT needs a package", False),
        ("trl", {"gradient_checkpointing": "unsloth"}, "Unsloth's checkpointing exists only in Unsloth.", True),
        ("unsloth", {"gradient_checkpointing": "unsloth"}, "Unsloth's checkpointing exists only in Unsloth.", False),
        ("trl", {"max_steps": 5}, "No length of training is given", False),
        ("trl", {"max_steps": None}, "No length of training is given", True),
    ],
)
def test_a_note_is_written_where_its_setting_is_given_and_nowhere_else(framework, settings, start, is_said):
    asked = question(framework=framework, **settings)

    assert is_said is any(note.startswith(start) for note in question_notes(TOY, asked, gpu(), None, ASSUMPTIONS))


def test_a_checkpoint_is_published_quantized_unless_by_bitsandbytes():
    assert (None, None) == (by_method(""), by_method("bitsandbytes"))
    assert Published("FP8", "FineGrainedFP8Config") == by_method("fp8")
    assert Published("AWQ", "") == by_method("awq") == by_name("someone/Llama-3.1-8B-AWQ")
