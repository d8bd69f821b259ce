"""`rankviz estimate --json` starts cold at every call of a program, so it imports its own command and little else."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ESTIMATE = ["rankviz", "estimate", "Qwen/Qwen3-4B", "-r", "16", "--gpu", "L4", "--json"]
HEAVY = {"torch", "numpy", "pandas", "pydantic_settings", "plotly", "gradio", "huggingface_hub", "psutil"}


@pytest.fixture(scope="module")
def loaded():
    code = f"import sys; sys.argv = {ESTIMATE!r}; from rankviz.cli import main; main(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


def test_an_estimate_loads_the_module_of_its_own_command_alone(loaded):
    commands = {name for name in loaded if name.startswith("rankviz.cli.")}

    assert {f"rankviz.cli.{name}" for name in ("commands", "estimates", "shared")} == commands


def test_an_estimate_loads_no_heavy_library_and_no_table(loaded):
    assert not loaded & {*HEAVY, "rich.table"}


def test_an_estimate_loads_no_room_that_it_does_not_need(loaded):
    rooms = {".".join(name.split(".")[:2]) for name in loaded if name.startswith("rankviz.")}

    assert not rooms & {
        f"rankviz.{room}" for room in ("store", "hub", "verdict", "figures", "export", "ui", "settings")
    }
