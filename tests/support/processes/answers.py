"""What Python programs of their own process answer."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rankviz.paths import IMPORT_ROOT

UNSLOTH = {"UNSLOTH_ALLOW_CPU": "1", "HF_HUB_OFFLINE": "1"}
"""Where the code that Unsloth runs on a GPU is imported."""


def said_by(*arguments: str, asked: Any = None, cwd: Path = IMPORT_ROOT, **environment: str) -> str:
    """What a program writes, which has to end well. asked: what it reads, as JSON."""
    run = subprocess.run(
        [sys.executable, *arguments],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(IMPORT_ROOT), **environment},
    )
    assert 0 == run.returncode, run.stderr[-3000:]
    return run.stdout
