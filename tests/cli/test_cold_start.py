"""What `rankviz estimate --json` imports from cold: each module here costs a program that calls it time, at every call.

A module that an estimate newly needs is added below. One that only other commands, a shared page or the type of an
annotation need is imported there. `make bench cli` measures the whole.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {
    "rankviz": "api catalog cli core errors paths references units visitor",
    "rankviz.api": "accuracy estimates models runs workspace",
    "rankviz.api.runs": "measured",
    "rankviz.catalog": "hardware measurements models",
    "rankviz.cli": "asking estimates options plot shared",
    "rankviz.core": "accuracy bounds cost from_json lora model quantity",
    "rankviz.core.accuracy": "evidence",
    "rankviz.core.cost": "assumptions card_notes data device duration estimate memory memory_parts "
    "notes predict question setup shapes stack weights",
    "rankviz.core.lora": "config experts notes plan resolve saved targets",
    "rankviz.core.model": "spec towers",
}
LIBRARY = ("bisect", "contextlib", "contextvars", "csv", "dataclasses", "json", "math", "pathlib", "typing")
"""Of the standard library: these, with what they import themselves."""
ESTIMATE = ["rankviz", "estimate", "Qwen/Qwen3-4B", "-r", "16", "--gpu", "L4", "--json"]


def loaded_after(code: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stderr.split())


@pytest.fixture(scope="module")
def loaded():
    return loaded_after(f"sys.argv = {ESTIMATE!r}; from rankviz.cli import main; main()")


def test_an_estimate_loads_the_modules_of_ours_that_it_needs(loaded):
    needed = {f"{room}.{name}" for room, names in OURS.items() for name in names.split()}

    assert "rankviz.core.cost.estimate" in loaded
    assert set() == {name for name in loaded if name.startswith("rankviz.")} - needed


def test_an_estimate_loads_little_else(loaded):
    others = {
        name for name in loaded - loaded_after(f"import __future__, {', '.join(LIBRARY)}") if "rankviz" not in name
    }

    assert set() == others
