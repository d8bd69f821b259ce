"""Starts tests/support/processes/run_scripts.py on folders with exported scripts or notebooks."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from rankviz.paths import IMPORT_ROOT


def run_exports(process: str, places: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By folder, what run_scripts prints. process: "unsloth", "cuda" or "plain": Unsloth patches the libraries."""
    environment = os.environ | {
        "PYTHONPATH": str(IMPORT_ROOT),
        "HF_HUB_OFFLINE": "1",
        "UNSLOTH_DISABLE_STATISTICS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.processes.run_scripts", process],
        input=json.dumps(places),
        capture_output=True,
        text=True,
        cwd=IMPORT_ROOT,
        env=environment,
        check=False,
    )
    assert 0 == done.returncode, done.stderr[-3000:]
    return json.loads(done.stdout)
