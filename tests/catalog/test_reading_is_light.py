"""Reading the tables, on the way to an estimate, imports nothing that checks them.

typer imports pydantic itself. So for the command line the tests look for our modules, and for the reading they look for
pydantic.
"""

import subprocess
import sys

import pytest

READ_EVERYTHING = """
import sys
from pathlib import Path
from rankviz.catalog.hardware import load_assumptions, load_gpus
from rankviz.catalog.models import load_model
from rankviz.catalog.studies import load_evidence
assets = Path("assets").resolve()
load_gpus(assets), load_assumptions(assets), load_model(assets, "Qwen/Qwen3-4B"), load_evidence(assets)
print(*sys.modules)
"""


def test_reading_every_table_imports_no_pydantic():
    answer = subprocess.run([sys.executable, "-c", READ_EVERYTHING], capture_output=True, text=True, check=True)

    imported = set(answer.stdout.split())
    assert "rankviz.catalog.studies" in imported
    assert not {"pydantic", "pydantic_core", "numpy", "pandas", "torch"} & imported


@pytest.mark.parametrize("command", ["estimate Qwen/Qwen3-4B -r 16 --gpu T4 --json", "advise Qwen/Qwen3-4B --json"])
def test_a_command_imports_no_schema(command):
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "rankviz", *command.split()], capture_output=True, text=True
    )

    assert 0 == answer.returncode, answer.stderr[-2000:]
    imported = {line.rsplit("|", 1)[-1].strip() for line in answer.stderr.splitlines() if "import time:" in line}
    assert "rankviz.catalog.hardware" in imported
    assert not {name for name in imported if name.startswith("rankviz.catalog") and name.endswith("schema")}
    assert not {"numpy", "torch", "gradio"} & imported
