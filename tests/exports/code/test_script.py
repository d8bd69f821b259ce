"""The scripts to take away: they parse, carry the chosen values, and every call binds to the real signature."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from rankviz.exports import script
from tests.support.models.recipes import made

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
