"""The notes of an estimate stand where their setting is given, and nowhere else."""

import pytest

from rankviz.api import Api
from rankviz.catalog.hardware import find_gpu, load_gpus
from rankviz.catalog.models import load_model
from rankviz.core.cost.notes import Published, by_method, by_name, card_notes, question_notes
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.quantity import by_level
from tests.support.runs.questions import question
from tests.support.runs.toy import ASSETS, ASSUMPTIONS, TOY, gpu

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


@pytest.mark.parametrize(
    ("framework", "settings", "start", "is_said"),
    [
        ("peft", {"precision": "nf4"}, "The estimate assumes prepare_model_for_kbit_training", True),
        ("peft", {"precision": "bf16"}, "The estimate assumes prepare_model_for_kbit_training", False),
        ("trl", {"gradient_checkpointing": "unsloth"}, "Unsloth's checkpointing exists only in Unsloth.", True),
        ("unsloth", {"gradient_checkpointing": "unsloth"}, "Unsloth's checkpointing exists only in Unsloth.", False),
    ],
)
def test_a_note_is_written_where_its_setting_is_given_and_nowhere_else(framework, settings, start, is_said):
    asked = question(framework=framework, **settings)

    assert is_said is any(note.startswith(start) for note in question_notes(TOY, asked, gpu(), None, ASSUMPTIONS))


def test_a_checkpoint_is_published_quantized_unless_by_bitsandbytes():
    assert (None, None) == (by_method(""), by_method("bitsandbytes"))
    assert Published("FP8", "FineGrainedFP8Config") == by_method("fp8") == by_name("deepseek-ai/DeepSeek-R1")
    assert Published("AWQ", "") == by_method("awq") == by_name("someone/Llama-3.1-8B-AWQ")
    assert by_name("Qwen/Qwen3-4B") is None
