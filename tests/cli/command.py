"""The command line in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def rankviz(*args: str, home: Path | None = None, seconds: float = 60) -> subprocess.CompletedProcess:
    env = os.environ | ({"RANKVIZ_HOME": str(home)} if home else {})
    return subprocess.run(
        [sys.executable, "-m", "rankviz", *args], cwd=ROOT, env=env, capture_output=True, text=True, timeout=seconds
    )
