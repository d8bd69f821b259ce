"""The scripts and notebooks to take away: what they install and carry, and that every call binds to the real
signature."""

import ast
import importlib.util
import json
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest

from rankviz.exports.script import notebook, requirements, script
from tests.support.models.recipes import SETTINGS, made

FRAMEWORKS = ("unsloth", "trl", "peft")
HEADER = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
"""As PEP 723 has it."""
HANDED_ON = {"use_dora"}
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


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_notebook_is_valid_and_its_code_is_the_scripts(framework):
    recipe = made(framework=framework, notes=("Something is otherwise.",))

    book = nbformat.reads(notebook(recipe), as_version=4)
    nbformat.validate(book)
    first, *rest = [cell.source for cell in book.cells if cell.cell_type == "code"]
    assert f"%pip install --quiet {' '.join(requirements(framework))}" == first
    assert script(recipe).endswith("\n" + "\n\n".join(rest) + "\n")
    assert "Something is otherwise." in book.cells[0].source
    for code in rest:
        compile(code, "cell", "exec")


@pytest.mark.torch
@pytest.mark.parametrize("changes", [{"precision": "int8"}, {"use_dora": True}, {"target_modules": "all-linear"}])
@pytest.mark.parametrize("unsloth_class", ["FastLanguageModel", "FastVisionModel"])
def test_every_argument_is_one_of_unsloths_functions_for_a_gpu(unsloth_class, changes):
    """tests/exports/code/test_scripts_train.py runs the scripts on a CPU, where Unsloth has functions of its own."""
    text = written(framework="unsloth", target_parameters=("mlp.experts.down_proj",), **changes)
    found = calls(text.replace("FastLanguageModel", unsloth_class))

    for name, source in GPU_SOURCES.items():
        if name in found:
            assert set(found[name]) <= {*gpu_arguments(*source, name.rpartition(".")[2]), *HANDED_ON}
    assert 2 == len(found.keys() & GPU_SOURCES.keys())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_installed_versions_are_the_ones_that_an_export_pins(framework):
    for requirement in requirements(framework):
        name, _, pinned = requirement.partition("==")
        assert version(name) == pinned


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_export_installs_what_its_code_imports_and_what_counts_the_layers(framework):
    packages = {requirement.partition("==")[0] for requirement in requirements(framework)}
    nodes = [
        node for each in SETTINGS.values() for node in ast.walk(ast.parse(written(**{**each, "framework": framework})))
    ]
    names = [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    names += [each.name for node in nodes if isinstance(node, ast.Import) for each in node.names]
    imported = {name.split(".")[0] for name in names}

    assert imported - {"json", "math", "pathlib", "torch"} <= packages
    assert {"peft", "transformers", "bitsandbytes"} <= packages
    assert ("unsloth_zoo" in packages) == (framework == "unsloth")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_script_starts_with_the_pip_command_and_a_header_that_uv_reads(framework):
    text = written(framework=framework)
    (header,) = HEADER.finditer(text)
    read = tomllib.loads(
        "".join(line.removeprefix("#").removeprefix(" ") for line in header["content"].splitlines(True))
    )

    assert f"# pip install {' '.join(requirements(framework))}" == text.splitlines()[1]
    assert "script" == header["type"]
    assert list(requirements(framework)) == read["dependencies"]
    assert ">=3.11" == read["requires-python"]


@pytest.mark.parametrize(
    ("torch", "torchao"), [("2.9.1", "0.16.0"), ("2.10.0+cu128", "0.16.0"), ("2.11.0+cu128", "0.18.0")]
)
def test_colab_keeps_its_torch_and_gets_the_torchao_that_goes_with_it(torch, torchao):
    cell = json.loads(notebook(made(), colab=True))["cells"][1]["source"]
    *python, command = cell
    names = {}
    exec("".join(python).replace("from importlib.metadata import version", ""), {"version": lambda name: torch}, names)

    assert f"%pip install --quiet torch=={torch.split('+')[0]} torchao={'=' + torchao} unsloth==" in command.format(
        **names
    )
