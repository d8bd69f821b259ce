"""The YAML for LLaMA-Factory: it carries the chosen values, and says in comments what it has no word for."""

import json
from typing import get_args

import pytest
import yaml

from rankviz.core.cost.setup import Form, TrainingData
from rankviz.errors import InvalidSettingError
from rankviz.export import chat
from rankviz.export.llamafactory import VERSION, dataset_info, entry, llamafactory, trains_with_unsloth
from tests.export.tools.llamafactory_files import config
from tests.support.models.recipes import made
from tests.support.models.tool_wheels import LLAMAFACTORY


def test_it_carries_the_chosen_values():
    values = config(use_dora=True, max_length=512, optim="sgd", max_steps=70, learning_rate=1e-4, precision="nf4")

    assert ("Qwen/Qwen3-4B", "lora", 8, 16) == (
        values["model_name_or_path"],
        values["finetuning_type"],
        values["lora_rank"],
        values["lora_alpha"],
    )
    assert (4, "nf4", False) == (values["quantization_bit"], values["quantization_type"], values["double_quantization"])
    assert "q_proj,v_proj" == values["lora_target"]
    assert (True, False) == (values["use_dora"], values["use_rslora"])
    assert ("sgd", 70, 1e-4, 512) == (
        values["optim"],
        values["max_steps"],
        values["learning_rate"],
        values["cutoff_len"],
    )


@pytest.mark.parametrize(
    ("model_id", "template"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3"),
        ("unsloth/Qwen3-4B-Instruct-2507-unsloth-bnb-4bit", "qwen3_nothink"),
        ("google/gemma-3-4b-it", "gemma3"),
        ("/models/Phi-4-mini-instruct", "phi4_mini"),
        ("meta-llama/Llama-3.1-8B", "fewshot"),
        ("Qwen/Qwen3-4B-Base", "fewshot"),
        ("google/medgemma-4b-it", "gemma3"),
        ("tiiuae/Falcon-H1-7B-Instruct", "falcon_h1"),
        ("meta-llama/Llama-3.2-11B-Vision-Instruct", "mllama"),
        ("microsoft/Phi-3-small-8k-instruct", "phi_small"),
        ("deepseek-ai/DeepSeek-V2-Chat-0628", "deepseek3"),
        ("deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct", "deepseek"),
        ("LiquidAI/LFM2.5-VL-1.6B", "lfm2_vl"),
        ("Qwen/Qwen3-Omni-30B-A3B-Instruct", "qwen3_omni_nothink"),
        ("zai-org/GLM-Z1-9B-0414", "glmz1"),
        ("zai-org/GLM-4.5-Air", "glm4_moe"),
        ("baidu/ERNIE-4.5-21B-A3B-PT", "ernie_nothink"),
        ("Qwen/QwQ-32B", "qwen"),
        ("HuggingFaceH4/zephyr-7b-beta", "zephyr"),
        ("NousResearch/Hermes-3-Llama-3.1-8B", "chatml"),
        ("mistralai/Devstral-Small-2505", "mistral_small"),
        ("ByteDance-Seed/Seed-OSS-36B-Instruct", "seed_oss"),
        ("tencent/Hunyuan-7B-Instruct", "hunyuan"),
        ("01-ai/Yi-1.5-9B-Chat", "yi"),
        ("internlm/internlm3-8b-instruct", "intern2"),
        ("upstage/SOLAR-10.7B-Instruct-v1.0", "solar"),
        ("google/gemma-3-4b-pt", "fewshot"),
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
        ("/models/my-chat", "mllama", "mllama"),
        ("unsloth/Falcon-H1-7B-Instruct-bnb-4bit", "", "falcon_h1"),
    ],
)
def test_a_model_that_is_not_listed_goes_by_its_type_or_by_what_it_is_a_copy_of(model_id, model_type, template):
    assert template == chat.llamafactory_template(model_id, model_type)


def test_a_model_whose_template_is_unknown_is_left_to_its_tokenizer():
    text = llamafactory(made(model_id="HuggingFaceTB/SmolLM3-3B", model_type="smollm3"))

    assert "template" not in yaml.safe_load(text)
    assert "knows no template of LLaMA-Factory" in text


def test_the_data_is_described_in_a_file_of_its_own_as_rows_and_as_chats():
    described = json.loads(dataset_info(made()))

    assert config()["dataset"] in described
    assert {"prompt": "prompt", "response": "completion"} == described["train"]["columns"]
    assert "messages" == described["chats"]["columns"]["messages"]


@pytest.mark.parametrize("form", get_args(Form))
def test_data_that_are_known_set_the_file_and_its_form(form):
    data = TrainingData(form=form, file_name="mine.csv")

    assert {"train": {"file_name": "mine.csv", **entry(form)}} == json.loads(dataset_info(made(data=data)))
    assert ("pt" if form == "text" else "sft") == config(data=data)["stage"]
    assert "mine.csv" in llamafactory(made(framework="trl", data=data))


def test_all_linear_is_its_own_word_and_modules_to_save_are_additional_targets():
    values = config(target_modules="all-linear", modules_to_save=("lm_head", "embed_tokens"))

    assert "all" == values["lora_target"]
    assert "lm_head,embed_tokens" == values["additional_target"]


def test_checkpointing_is_unsloths_where_unsloth_trains_and_otherwise_as_asked():
    assert config(framework="unsloth")["use_unsloth"] is True
    assert config(gradient_checkpointing="unsloth")["use_unsloth_gc"] is True
    assert config(gradient_checkpointing="none")["disable_gradient_checkpointing"] is True
    assert "use_unsloth" not in config()


@pytest.mark.parametrize(("precision", "does"), [("nf4-dq", True), ("bf16", True), ("int8", False), ("fp32", False)])
def test_unsloth_trains_there_only_what_it_can_load(precision, does):
    assert does is trains_with_unsloth("unsloth", precision)
    assert False is trains_with_unsloth("trl", precision)


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


def test_half_an_alpha_is_refused_since_llamafactory_has_whole_ones():
    with pytest.raises(InvalidSettingError, match=r"whole number as lora_alpha \(got 2\.5\)"):
        llamafactory(made(lora_alpha=2.5))


@pytest.mark.torch
def test_the_version_is_the_one_that_is_checked():
    assert f"llamafactory=={VERSION}" == LLAMAFACTORY[0]
