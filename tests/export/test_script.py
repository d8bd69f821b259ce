"""The scripts to take away: they parse, carry the chosen values, and every call binds to the real signature."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from rankviz.export import script
from tests.support.recipes import made

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
ON_CPU_TOO = ("r", "lora_alpha", "target_modules", "lora_dropout", "bias", "use_rslora", "modules_to_save")
GPU_SOURCES = {
    "FastLanguageModel.from_pretrained": ("models/loader.py", "FastLanguageModel"),
    "FastLanguageModel.get_peft_model": ("models/llama.py", "FastLlamaModel"),
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
