"""Starts tests/support/processes/run_scripts.py on folders with exported scripts or notebooks."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from rankviz.exports import Recipe
from rankviz.exports.recipe import plan_on_cpu
from rankviz.paths import IMPORT_ROOT


def counted_here(made: Recipe) -> tuple[int, int]:
    """(trainable parameters, bytes of the adapter's file) as RankViz has them for a machine without a GPU."""
    framework, precision, plan = made.training.framework, made.training.precision, made.plan
    if framework == "unsloth":
        plan = plan_on_cpu(plan.model, made.lora, plan, precision)
    r = made.lora.r
    return plan.parameters(r), plan.trained_bytes(r, framework, precision, cuda=False)


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
