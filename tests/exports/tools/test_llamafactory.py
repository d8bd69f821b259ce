"""The YAML for LLaMA-Factory: it carries the chosen values, and says in comments what it has no word for."""

import pytest

from rankviz.exports import chat
from rankviz.exports.configs import LLAMAFACTORY_VERSION as VERSION
from rankviz.exports.configs import llamafactory
from tests.exports.tools.llamafactory_files import config
from tests.support.models.recipes import made
from tests.support.models.tool_wheels import LLAMAFACTORY


@pytest.mark.parametrize(
    ("model_id", "template"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3"),
        ("unsloth/Qwen3-4B-Instruct-2507-unsloth-bnb-4bit", "qwen3_nothink"),
        ("google/gemma-3-4b-it", "gemma3"),
        ("/models/Phi-4-mini-instruct", "phi4_mini"),
        ("meta-llama/Llama-3.1-8B", "fewshot"),
        ("Qwen/Qwen3-4B-Base", "fewshot"),
        ("tiiuae/Falcon-H1-7B-Instruct", "falcon_h1"),
        ("deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct", "deepseek"),
        ("NousResearch/Hermes-3-Llama-3.1-8B", "chatml"),
        ("baidu/ERNIE-4.5-21B-A3B-Base-PT", "fewshot"),
    ],
)
def test_the_template_is_the_familys_for_chat_models_and_plain_text_for_base_models(model_id, template):
    assert template == config(model_id=model_id, model_type="")["template"]


@pytest.mark.parametrize(
    ("model_id", "model_type", "template"),
    [
        ("me/medgemma-tuned-it", "gemma3", "gemma3"),
        ("/models/my-chat", "falcon_h1", "falcon_h1"),
        ("unsloth/Falcon-H1-7B-Instruct-bnb-4bit", "", "falcon_h1"),
    ],
)
def test_a_model_that_is_not_listed_goes_by_its_type_or_by_what_it_is_a_copy_of(model_id, model_type, template):
    assert template == chat.llamafactory_template(model_id, model_type)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"precision": "fp32"}, "no fp32 base"),
        ({"loss_path": "triton"}, "no setting for the loss path 'triton'"),
        ({"framework": "unsloth", "gradient_checkpointing": "none"}, "checkpointing is always Unsloth's"),
        ({"framework": "unsloth", "precision": "nf4"}, "as nf4-dq does"),
    ],
)
def test_what_it_has_no_word_for_is_said_in_a_comment(changes, sentence):
    text = llamafactory(made(**{"framework": "trl", **changes}))

    comments = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    assert sentence in comments
    assert "not of LLaMA-Factory" in comments


@pytest.mark.torch
def test_the_version_is_the_one_that_is_checked():
    assert f"llamafactory=={VERSION}" == LLAMAFACTORY[0]
