"""Which GPUs a build of torch runs on: by hand, and against the table in the installed torch."""

import ast
import importlib.util
from pathlib import Path

import pytest

from rankviz.core.preflight.checks import fitting, holds_kernels, why_not
from rankviz.core.preflight.facts import Card, Software


def card(capability):
    return Card(index=0, name="", uuid="", memory_bytes=1, used_bytes=0, capability=capability)


def build(cuda, torch="2.13.0"):
    return Software(torch=f"{torch}+cu{cuda[0]}{cuda[1]}", torch_cuda=cuda)


@pytest.mark.parametrize(
    ("architecture", "capability", "runs"),
    [
        ("sm_80", (8, 0), True),
        ("sm_80", (8, 6), True),
        ("sm_86", (8, 0), False),
        ("sm_90", (12, 0), False),
        ("sm_90a", (9, 0), True),
        ("sm_120", (12, 1), True),
        ("sm_100", (12, 0), False),
        ("compute_90", (12, 0), True),
        ("compute_120", (9, 0), False),
    ],
)
def test_kernels_run_on_their_generation_and_what_the_driver_compiles_on_later_ones_too(architecture, capability, runs):
    assert runs == holds_kernels([architecture], capability)


def test_before_torch_2_11_builds_for_cuda_12_8_have_volta():
    assert "" == why_not(card((7, 0)), build((12, 8), "2.10.0"))
    assert "" != why_not(card((7, 0)), build((12, 8), "2.11.0"))


@pytest.mark.parametrize(
    ("capability", "driver", "cuda"),
    [((9, 0), (13, 0), "12.6"), ((7, 0), (13, 0), "12.6"), ((12, 0), (13, 0), "12.9"), ((11, 0), (13, 0), "13.0")],
)
def test_the_build_to_install_has_kernels_for_the_card(capability, driver, cuda):
    assert f"the torch for CUDA {cuda}," in fitting(card(capability), driver)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize(
    "capability", [(7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1)]
)
def test_the_table_is_that_of_the_installed_torch(capability):
    """torch/cuda/__init__.py says what each release is built for. It is read, since importing torch takes seconds."""
    (folder,) = importlib.util.find_spec("torch").submodule_search_locations
    source = ast.parse((Path(folder) / "cuda" / "__init__.py").read_text("utf-8"))
    name = "PYTORCH_RELEASES_CODE_CC"
    (table,) = [
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == name
    ]
    for cuda, by_machine in table.items():
        release = build(tuple(int(part) for part in cuda.split(".")))
        architectures = [f"sm_{each}" for each in by_machine["x86_64"]]
        assert holds_kernels(architectures, capability) == (why_not(card(capability), release) == ""), cuda
