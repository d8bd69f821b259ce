"""Warnings on the command line: of the attention kernel, of text_only, of checkpointing."""

import json

import pytest

from rankviz.api import Api
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig
from tests.cli.command import rankviz

API = Api()
ON_T4 = ("meta-llama/Llama-3.1-8B", "--gpu", "T4", "--max-length", "4096", "--batch", "2")


def notes(model_id, text_only=True, **training):
    question = Question(model_id=model_id, lora=LoraConfig(text_only=text_only), training=TrainingSetup(**training))
    return API.estimates.estimate(question).estimate.notes


def test_fit_warns_of_the_math_kernel_and_offers_unsloth():
    answer = json.loads(rankviz("fit", *ON_T4, "--framework", "trl", "--json").stdout)

    assert any("math kernel" in note for note in answer["notes"])
    (knob,) = [each for each in answer["knobs"] if each["change"].get("framework") == "unsloth"]
    assert knob["device_bytes"] < -(2**30)
    plain = json.loads(rankviz("fit", *ON_T4, "--json").stdout)
    assert not [each for each in plain["knobs"] if "framework" in each["change"]]


@pytest.mark.parametrize(
    ("model_id", "framework", "why"),
    [
        ("google/gemma-4-E4B", "trl", "a setting of Unsloth"),
        ("google/gemma-3-4b-it", "peft", "a setting of Unsloth"),
        ("Qwen/Qwen3-4B", "unsloth", "this model has no other towers"),
        ("google/gemma-4-E4B", "unsloth", ""),
        ("google/gemma-4-E4B:whole", "unsloth", ""),
    ],
)
def test_text_only_says_where_it_has_no_effect(model_id, framework, why):
    said = [note for note in notes(model_id, framework=framework) if "text_only has no effect" in note]

    assert bool(why) == bool(said) and why in "".join(said)
    assert not [note for note in notes(model_id, framework=framework) if ":whole:whole" in note]
