"""How to install what an export needs: the pinned versions, for pip, for uv and in Colab."""

import ast
import json
import re
import tomllib
from importlib.metadata import version

import pytest

from rankviz.exports.script import colab, requirements, script
from tests.support.models.recipes import SETTINGS, made

FRAMEWORKS = ("unsloth", "trl", "peft")
HEADER = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
"""As PEP 723 has it."""


def text(framework, changes):
    return script(made(**{**changes, "framework": framework}))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_installed_versions_are_the_ones_that_an_export_pins(framework):
    for requirement in requirements(framework):
        name, _, pinned = requirement.partition("==")
        assert version(name) == pinned


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_export_installs_what_its_code_imports_and_what_counts_the_layers(framework):
    packages = {requirement.partition("==")[0] for requirement in requirements(framework)}
    nodes = [node for changes in SETTINGS.values() for node in ast.walk(ast.parse(text(framework, changes)))]
    names = [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    names += [each.name for node in nodes if isinstance(node, ast.Import) for each in node.names]
    imported = {name.split(".")[0] for name in names}

    assert imported - {"json", "math", "pathlib", "torch"} <= packages
    assert {"peft", "transformers", "bitsandbytes"} <= packages
    assert ("unsloth_zoo" in packages) == (framework == "unsloth")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_script_starts_with_the_pip_command_and_a_header_that_uv_reads(framework):
    written = text(framework, {})
    (header,) = HEADER.finditer(written)
    read = tomllib.loads(
        "".join(line.removeprefix("#").removeprefix(" ") for line in header["content"].splitlines(True))
    )

    assert f"# pip install {' '.join(requirements(framework))}" == written.splitlines()[1]
    assert "script" == header["type"]
    assert list(requirements(framework)) == read["dependencies"]
    assert ">=3.11" == read["requires-python"]


@pytest.mark.parametrize(
    ("torch", "torchao"), [("2.9.1", "0.16.0"), ("2.10.0+cu128", "0.16.0"), ("2.11.0+cu128", "0.18.0")]
)
def test_colab_keeps_its_torch_and_gets_the_torchao_that_goes_with_it(torch, torchao):
    cell = json.loads(colab(made()))["cells"][1]["source"]
    *python, command = cell
    names = {}
    exec("".join(python).replace("from importlib.metadata import version", ""), {"version": lambda name: torch}, names)

    assert f"%pip install --quiet torch=={torch.split('+')[0]} torchao={'=' + torchao} unsloth==" in command.format(
        **names
    )
