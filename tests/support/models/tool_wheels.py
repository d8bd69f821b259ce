"""Other people's tools, as far as their own checks are needed: pinned wheels, unpacked beside what is installed.

Their dependencies would conflict with RankViz's own, so nothing is installed: pip fetches the wheels alone into a
folder of the test, and a process of its own imports the modules that check a configuration.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes.answers import said_by

AXOLOTL = ("axolotl==0.21.0", "addict==2.4.0", "colorama==0.4.6")
"""addict is what Axolotl's configuration is held in, colorama what its prompters import."""
LLAMAFACTORY = ("llamafactory==0.9.5", "omegaconf==2.4.0")
"""omegaconf is what LLaMA-Factory reads YAML with."""


def unpacked(requirements: Sequence[str], folder: Path) -> Path:
    """The wheels, unpacked into one folder; skips the test where the package index can't be reached.

    --ignore-requires-python: Axolotl 0.21 asks for Python 3.12, and its schema does as well with 3.11.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    options = ["--only-binary", ":all:", "--ignore-requires-python", "--target", str(folder)]
    done = subprocess.run([*command, *options, *requirements], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"{' and '.join(requirements)} could not be fetched from the package index: {reason}")
    return folder


def checked(folder: Path, program: str, cases: Mapping[str, Any], cwd: Path) -> dict[str, Any]:
    """What `program` makes of all cases: it reads them as JSON from stdin and prints a line "CHECKED {…}"."""
    environment = {"PYTHONPATH": str(folder), "DISABLE_VERSION_CHECK": "1", "HF_HUB_OFFLINE": "1"}
    said = said_by("-c", program, asked=cases, cwd=cwd, **environment)
    (line,) = (line for line in said.splitlines() if line.startswith("CHECKED "))
    return json.loads(line.removeprefix("CHECKED "))
