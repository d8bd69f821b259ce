"""What Unsloth refuses and another tool trains: that tool's file is counted by its rules, and says so."""

import pytest

from rankviz.catalog.models import load_model
from rankviz.core.lora.resolve import resolve
from rankviz.exports import FORMATS, write
from tests.support.runs import questions
from tests.support.runs.toy import ASSETS

UNSLOTHS = ("colab", "script", "notebook", "unsloth")
OTHERS = [name for name in FORMATS if name not in UNSLOTHS]
REFUSED = {
    "Conv1D": ("openai-community/gpt2", {"target_modules": ("c_attn", "c_proj", "c_fc"), "precision": "bf16"}),
    "scheme": ("Qwen/Qwen3-30B-A3B", {"moe_scheme": "peft-remap"}),
    "experts": ("Qwen/Qwen3-30B-A3B", {"target_modules": "mlp"}),
    "flag": ("Qwen/Qwen3-4B", {"finetune_mlp_modules": False}),
    "head": ("Qwen/Qwen3-4B", {"target_modules": ("lm_head",)}),
    "dots": ("Qwen/Qwen3-30B-A3B", {"target_modules": ("self_attn.q_proj",)}),
}


def written(case, name):
    model_id, settings = REFUSED[case]
    return write(load_model(ASSETS, model_id), questions.question(model_id, **settings), 8, name)


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("name", OTHERS)
def test_another_tools_file_is_counted_as_that_tool_trains_it(case, name):
    made = written(case, name)

    assert made.notes[0].startswith("Unsloth refuses this adapter, so this file is counted as ")
    assert not any("the requested adapter, with" in note for note in made.notes) or name == "llamafactory"
    assert "use_unsloth: true" not in made.text


def test_what_peft_refuses_is_written_for_unsloth_where_unsloth_trains_it():
    """PEFT takes no gate_proj without up_proj in this family, and Unsloth does."""
    model = load_model(ASSETS, "Qwen/Qwen3-30B-A3B")
    question = questions.question(model.id, framework="trl", target_modules=("q_proj", "gate_proj"))

    made = write(model, question, 8, "unsloth")

    count = resolve(model, question.lora, "unsloth").parameters(8)
    assert made.notes[0].startswith("TRL refuses this adapter, so this file is counted as Unsloth trains it.")
    assert f"counts {count:,} trainable" in made.text
