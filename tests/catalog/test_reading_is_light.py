"""Reading the tables, on the way to an estimate, imports nothing that checks them.

typer imports pydantic itself. So for the command line the tests look for our modules, and for the reading they look for
pydantic.
"""

import subprocess
import sys

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
