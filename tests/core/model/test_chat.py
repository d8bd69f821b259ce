"""Which names are of chat models, which of base models, and which say nothing."""

import pytest

from rankviz.core.model.towers import is_chat

CHAT = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "Qwen/Qwen3-4B",
    "openai/gpt-oss-20b",
    "microsoft/phi-4",
    "unsloth/phi-4",
    "HuggingFaceTB/SmolLM3-3B",
    "LiquidAI/LFM2-1.2B",
    "ibm-granite/granite-4.1-3b",
    "meta-models/Muse-Glimmer-30B",
    "HuggingFaceH4/zephyr-7b-beta",
    "Qwen/QwQ-32B",
    "NousResearch/Hermes-3-Llama-3.1-8B",
)
BASE = (
    "meta-llama/Llama-3.1-8B",
    "Qwen/Qwen3-8B-Base",
    "Qwen/Qwen2.5-0.5B",
    "google/gemma-4-26B-A4B:whole",
    "mistralai/Mixtral-8x7B-v0.1",
    "openai-community/gpt2-medium",
    "HuggingFaceTB/SmolLM3-3B-Base",
    "unsloth/llama-2-7b-bnb-4bit",
    "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T",
    "GPT-2 Medium",
)
UNKNOWN = ("someone/Llama-3.1-8B-poems", "models/my-model", "Dolphin-2.9-Llama-3-8B")


@pytest.mark.parametrize(
    ("name", "expected"),
    [*((name, True) for name in CHAT), *((name, False) for name in BASE), *((name, None) for name in UNKNOWN)],
)
def test_a_name_says_chat_or_base_or_nothing(name, expected):
    assert expected is is_chat(name)


def test_a_list_decides_where_the_name_does_not_and_the_model_type_where_neither_does():
    assert [True, False, None] == [is_chat("models/my-model", listed=listed) for listed in (True, False, None)]
    assert is_chat("models/my-model", "qwen3")


def test_a_list_of_chat_models_comes_before_a_word():
    assert is_chat("models/pt-model", listed=True)
