"""The command line in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def rankviz(
    *args: object, home: Path | None = None, cwd: Path = ROOT, seconds: float = 600, **environment: str
) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "rankviz", *map(str, args)]
    env = os.environ | ({"RANKVIZ_HOME": str(home)} if home else {}) | environment
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=seconds)
