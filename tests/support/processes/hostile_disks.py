"""Folders that cannot be written: on a full disk, or read-only. Root may write anywhere, so it gives that right up."""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rankviz.paths import IMPORT_ROOT

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system of this size; skips where none can be mounted."""
    with tempfile.TemporaryDirectory(prefix="rankviz-test-") as folder:
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder]
        if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True).returncode != 0:
            pytest.skip("no file system can be mounted here")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, free_bytes: int = 0) -> Path:
    """Leave about as many bytes free; returns the file that takes the room."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        while shutil.disk_usage(folder).free > free_bytes:
            try:
                file.write(b"x" * 65_536)
            except OSError:
                break
    return filler


@contextmanager
def read_only_folder() -> Iterator[Path]:
    """One that `without_rights` cannot write into."""
    with tempfile.TemporaryDirectory(prefix="rankviz-test-") as name:
        folder = Path(name) / "home"
        folder.mkdir(mode=0o555)
        yield folder
        folder.chmod(0o755)


def without_rights(program: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
    """A Python program to which the modes of files apply, whoever runs it."""
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(IMPORT_ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=obey_modes,
    )


def obey_modes() -> None:
    """Root may pass by them (CAP_DAC_OVERRIDE); what this process starts may not."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)
