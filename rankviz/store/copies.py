"""Copies of data files for the runs that are trained on them: an upload may not outlive the page."""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

from rankviz.store.durable import aside_of
from rankviz.visitor import data_folder


def digest_of(path: Path) -> str:
    """Of a file's content, as a run's data_fingerprint has it. OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def kept_path(home: Path, data: Path, owner: str) -> Path:
    """Where the copy of a file is, or is to be: by its owner and its content, under its own name."""
    return data_folder(home, owner) / digest_of(data) / data.name


def is_kept(file: Path) -> bool:
    """Whether a copy is there with the content by which it is filed: it may have been changed on the disk."""
    try:
        return file.is_file() and digest_of(file) == file.parent.name
    except OSError:
        return False


def copy(source: Path, target: Path) -> None:
    """Whole or not at all, unless it is kept there already. A copy that was changed is replaced."""
    if is_kept(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_of(target)
    try:
        shutil.copyfile(source, aside)
        os.replace(aside, target)
    except BaseException:
        aside.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # there is the same content by another name
            target.parent.rmdir()
        raise
