"""The scripts to take away: they parse, carry the chosen values, and every call binds to the real signature."""

import ast
import importlib.util
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from rankviz.catalog.models import load_model
from rankviz.core.cost.setup import Form, TrainingData
from rankviz.dataset import rows
from rankviz.export import recipe, script
from rankviz.export.words import row_of
from tests.support.models.recipes import made
from tests.support.runs import questions
from tests.support.runs.toy import ASSETS

SIGNATURES = """
import inspect, json, sys
def names(f):
    return [p.name for p in inspect.signature(f).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
from peft import LoraConfig
from transformers import BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer
signatures = {f.__name__: names(f) for f in (LoraConfig, BitsAndBytesConfig, SFTConfig, SFTTrainer)}
from unsloth import FastLanguageModel
for name in ("from_pretrained", "get_peft_model"):
    signatures[f"CPU FastLanguageModel.{name}"] = names(getattr(FastLanguageModel, name))
print("SIGNATURES", json.dumps(signatures))
"""
HANDED_ON = {"FastLanguageModel.get_peft_model": {"use_dora"}}
"""Arguments that Unsloth takes as **kwargs and hands to PEFT's LoraConfig."""
LENGTHS = ("max_steps", "num_train_epochs", "max_length", "warmup_steps")
ON_CPU_TOO = ("r", "lora_alpha", "target_modules", "lora_dropout", "bias", "use_rslora", "modules_to_save")
GPU_SOURCES = {
    "FastLanguageModel.from_pretrained": ("models/loader.py", "FastLanguageModel"),
    "FastLanguageModel.get_peft_model": ("models/llama.py", "FastLlamaModel"),
    "FastVisionModel.from_pretrained": ("models/loader.py", "FastModel"),
    "FastVisionModel.get_peft_model": ("models/vision.py", "FastBaseModel"),
}
"""Where Unsloth defines its GPU path, which can't be imported without a GPU: read as text."""


def gpu_arguments(file: str, class_name: str, function: str) -> list[str]:
    source = Path(importlib.util.find_spec("unsloth").origin).parent / file
    classes = [n for n in ast.parse(source.read_text()).body if isinstance(n, ast.ClassDef) and n.name == class_name]
    arguments = next(
        node.args for node in classes[0].body if isinstance(node, ast.FunctionDef) and node.name == function
    )
    return [a.arg for a in (*arguments.args, *arguments.kwonlyargs)]


@pytest.fixture(scope="module")
def signatures(tmp_path_factory):
    # In a process of its own: importing Unsloth patches transformers and peft for every other test.
    run = subprocess.run(
        [sys.executable, "-c", SIGNATURES], capture_output=True, text=True, cwd=tmp_path_factory.mktemp("unsloth")
    )
    assert run.returncode == 0, run.stderr
    line = next(line for line in run.stdout.splitlines() if line.startswith("SIGNATURES"))
    gpu = {
        call: gpu_arguments(file, class_name, call.rpartition(".")[2])
        for call, (file, class_name) in GPU_SOURCES.items()
    }
    return json.loads(line.removeprefix("SIGNATURES")) | gpu


def calls(text: str) -> dict[str, dict[str, ast.expr]]:
    """Keyword arguments of every call in a script, by the call's name."""
    return {
        ast.unparse(node.func): {k.arg: k.value for k in node.keywords if k.arg}
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
    }


def written(**changes) -> str:
    return script(made(**changes))


def test_the_unsloth_script_carries_the_chosen_values():
    call = calls(written(max_length=512, optim="adamw_torch"))

    peft = {name: ast.literal_eval(value) for name, value in call["FastLanguageModel.get_peft_model"].items()}
    assert peft["r"] == 8
    assert peft["lora_alpha"] == 16
    assert peft["target_modules"] == ["q_proj", "v_proj"]
    assert peft["lora_dropout"] == 0
    assert peft["bias"] == "none"
    assert ast.literal_eval(call["SFTConfig"]["max_length"]) == 512
    assert ast.literal_eval(call["SFTConfig"]["optim"]) == "adamw_torch"


@pytest.mark.parametrize(
    ("precision", "four", "eight"), [("nf4-dq", True, False), ("int8", False, True), ("bf16", False, False)]
)
def test_the_precision_decides_how_the_base_is_loaded(precision, four, eight):
    call = calls(written(precision=precision))["FastLanguageModel.from_pretrained"]

    assert four is ast.literal_eval(call["load_in_4bit"])
    assert eight is ast.literal_eval(call["load_in_8bit"])


def test_the_peft_script_quantizes_as_asked():
    call = calls(written(framework="trl", precision="nf4"))

    assert ast.literal_eval(call["BitsAndBytesConfig"]["bnb_4bit_quant_type"]) == "nf4"
    assert False is ast.literal_eval(call["BitsAndBytesConfig"]["bnb_4bit_use_double_quant"])


def test_plain_peft_prepares_a_quantized_base_and_leaves_trl_out():
    quantized, plain = written(framework="peft", precision="nf4"), written(framework="peft", precision="bf16")

    assert "prepare_model_for_kbit_training" in calls(quantized)
    assert "prepare_model_for_kbit_training" not in calls(plain)
    assert "SFTTrainer" not in calls(quantized)


def of_a_whole_model() -> str:
    """Gemma 3 with its vision tower, of which attention alone trains."""
    question = questions.question("google/gemma-3-4b-it:whole", finetune_vision_layers=True, finetune_mlp_modules=False)
    return script(recipe(load_model(ASSETS, question.model_id), question, 8, framework="unsloth"))


def test_a_whole_multimodal_model_takes_the_vision_class_and_its_flags():
    call = calls(of_a_whole_model())["FastVisionModel.get_peft_model"]

    assert "google/gemma-3-4b-it" in of_a_whole_model()
    assert (True, True) == tuple(
        ast.literal_eval(call[flag]) for flag in ("finetune_vision_layers", "finetune_attention_modules")
    )
    assert False is ast.literal_eval(call["finetune_mlp_modules"])


def test_every_script_holds_rows_out_and_writes_its_schedule_and_seed_down():
    for framework in ("unsloth", "trl"):
        call = calls(written(framework=framework, max_steps=100))
        values = {name: call["SFTConfig"][name] for name in ("warmup_steps", "weight_decay", "seed", "eval_steps")}
        assert {"warmup_steps": 5, "weight_decay": 0.0, "seed": 3407, "eval_steps": 0.25} == {
            name: ast.literal_eval(value) for name, value in values.items()
        }
        assert "eval_dataset" in call["SFTTrainer"]
        assert 0.05 == ast.literal_eval(call["rows.train_test_split"]["test_size"])
        assert "num_train_epochs=1" in written(framework=framework)


@pytest.mark.parametrize("framework", ["unsloth", "trl"])
def test_trainers_take_the_tokens_of_the_script_with_its_mask(framework):
    """Their own ways need a training template or fixed words around the turns, which many models lack."""
    text = written(framework=framework)

    assert inspect.getsource(rows.with_ends) in text
    assert True is ast.literal_eval(calls(text)["SFTConfig"]["completion_only_loss"])
    assert {"data['train']", "data['test']"} == {
        ast.unparse(calls(text)["SFTTrainer"][name]) for name in ("train_dataset", "eval_dataset")
    }


@pytest.mark.parametrize("framework", ["unsloth", "trl", "peft"])
def test_a_script_shows_a_row_of_each_form_and_the_one_of_data_that_are_known(framework):
    unknown, known = written(framework=framework), written(framework=framework, data=TrainingData(form="instruction"))

    for form in get_args(Form):
        row = f"\n# {row_of(form)}\n"
        assert row in unknown
        assert (row in known) == (form == "instruction")
    assert "\nform = None  #" in unknown
    assert '\nform = "instruction"\n' in known


def test_data_that_are_known_are_named_and_set_the_epochs_but_not_the_length():
    """5,000 examples on 8 a step are 625 steps an epoch. A sample proves no longest example: the length stays."""
    data = TrainingData(examples=5000, mean_tokens=310, longest_tokens=1020, epochs=2)
    for framework in ("unsloth", "trl"):
        text = written(framework=framework, data=data)
        call = {name: ast.literal_eval(value) for name, value in calls(text)["SFTConfig"].items() if name in LENGTHS}

        assert "# Your data, 5,000 examples, 310 tokens on average, the longest 1,020 tokens." in text
        assert {"num_train_epochs": 2, "max_length": 2048, "warmup_steps": 0.05} == call
    assert "max_steps = math.ceil(2 * math.ceil(len(train) / 4))" in written(framework="peft", data=data)


@pytest.mark.parametrize("framework", ["trl", "peft"])
def test_a_card_without_bf16_gets_fp16_or_fp32_where_the_model_overflows_in_fp16(framework):
    plain = written(framework=framework, precision="nf4")
    gemma = written(framework=framework, precision="nf4", model_type="gemma3_text")

    assert "dtype = torch.float16  # a T4 or V100 has no bf16\n" in plain
    assert "dtype = torch.float32  # a T4 or V100 has no bf16, and this model overflows in fp16\n" in gemma
    assert "dtype = torch.float32\n" in written(framework=framework, precision="fp32")
    assert "get_device_capability" not in written(framework=framework, precision="fp16")


def test_what_may_train_in_16_bit_there_is_raised_to_fp32_which_fp16s_gradient_scaler_needs():
    def raised(framework, **changes):
        return "parameter.data = parameter.data.float()" in written(framework=framework, **changes)

    copies = {"modules_to_save": ("lm_head",)}
    assert raised("trl", precision="nf4")
    assert raised("trl", precision="fp16", **copies)
    assert raised("peft", precision="bf16", **copies)
    # PEFT has raised it by itself.
    assert not any(raised("peft", precision=precision) for precision in ("nf4", "bf16"))
    assert not raised("peft", precision="nf4", **copies)
    assert not raised("trl", precision="fp32", **copies)


@pytest.mark.torch
def test_the_vision_class_knows_every_argument(signatures):
    for name, arguments in calls(of_a_whole_model()).items():
        if name in signatures:
            assert set(arguments) <= {*signatures[name], *HANDED_ON.get(name, ())}, name


@pytest.mark.torch
@pytest.mark.parametrize("framework", ["unsloth", "trl", "peft"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "int8"},
        {"use_dora": True, "use_rslora": True},
        {"target_parameters": ("mlp.experts.down_proj",), "precision": "bf16"},
        {"target_modules": "all-linear", "modules_to_save": ("lm_head",)},
    ],
)
def test_every_call_binds_to_the_installed_signature(signatures, framework, changes):
    for name, arguments in calls(written(framework=framework, **changes)).items():
        if name in signatures:
            assert set(arguments) <= {*signatures[name], *HANDED_ON.get(name, ())}, name


@pytest.mark.torch
def test_the_check_would_see_a_misspelt_argument(signatures):
    assert "lora_alfa" not in signatures["FastLanguageModel.get_peft_model"]
    assert {"r", "lora_alpha", "target_modules"} <= set(signatures["FastLanguageModel.get_peft_model"])
    assert {"use_dora"} <= set(signatures["LoraConfig"])


@pytest.mark.torch
def test_the_cpu_backend_knows_the_same_adapter_arguments(signatures):
    assert set(ON_CPU_TOO) <= set(signatures["CPU FastLanguageModel.get_peft_model"])
