"""Durable file writes, renames of several folders that succeed all or none, and copies of data files."""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from rankviz.errors import PATH_ERRNOS

ASIDE, NEW, GONE = ".aside-", ".new-", ".gone-"
"""Prefixes of temporary names: of files being replaced, published or deleted. Killed processes may leave some."""
Opener = Callable[[str, int], int]
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""errno values of file systems, such as some network disks, that cannot sync a folder."""


def aside_of(path: Path) -> Path:
    """Return a new temporary name in the same folder, for a file or folder that will be renamed to `path`."""
    return path.with_name(f"{ASIDE}{secrets.token_hex(4)}")


def remove_left(folder: Path, seconds: float) -> None:
    """Remove temporary files that killed processes left in a folder more than `seconds` ago."""
    for prefix in (ASIDE, NEW, GONE):
        for left in folder.glob(f"{prefix}*"):
            with contextlib.suppress(OSError):
                if time.time() - left.lstat().st_mtime <= seconds:
                    continue
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink()


def write_durably(path: Path, content: str | bytes, opener: Opener | None = None) -> None:
    """Write and sync a new file in an unpublished folder, where nobody reads it. opener: As for open."""
    with open(path, "wb", opener=opener) as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, content: str | bytes, opener: Opener | None = None) -> None:
    """Replace a file and sync it; the earlier file stays if writing fails. opener: As for open."""
    aside = aside_of(path)
    try:
        write_durably(aside, content, opener)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(fd)


RENAMES_FILE = ".publishing"
"""File in the runs folder that exists during renames, and after a crash: the temporary folder, then the names of the
folders in it, one per line."""


def rename_all(folder: Path, aside: Path, names: Sequence[str]) -> None:
    """Rename folders from `aside` in `folder` into `folder`: all or none. Needs RunStore.publishing."""
    try:
        replace_durably(folder / RENAMES_FILE, "\n".join((aside.name, *names)))
        for name in names:
            os.rename(aside / name, folder / name)
        _sync_folder(folder)
    except BaseException:
        for name in names:
            if not (aside / name).exists():
                os.rename(folder / name, aside / name)
        raise
    finally:
        (folder / RENAMES_FILE).unlink(missing_ok=True)


def finish_renames(folder: Path) -> None:
    """Finish renames that a killed process left incomplete. The caller holds RunStore.publishing."""
    try:
        place, *names = (folder / RENAMES_FILE).read_text(errors="replace").split("\n")
    except FileNotFoundError:
        return
    for name in filter(None, names):
        if (folder / place / name).is_dir() and not (folder / name).exists():
            try:
                os.rename(folder / place / name, folder / name)
            except OSError as error:  # one that may never be renamed stays
                if error.errno not in PATH_ERRNOS:
                    raise
    _sync_folder(folder)
    with contextlib.suppress(OSError, ValueError):
        (folder / place).rmdir()
    (folder / RENAMES_FILE).unlink()


def digest_of(path: Path) -> str:
    """Return the digest of a file's content, as in data_fingerprint; raise OSError where the file cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@lru_cache(1000)
def cached_digest(path: Path, *_state: int) -> str:
    """Return digest_of(path), cached because a page asks at each redraw. _state: Values that change with the file."""
    return digest_of(path)


def is_intact_copy(file: Path) -> bool:
    """Return True where a copy exists and its content still has the digest in its path."""
    try:
        return file.is_file() and digest_of(file) == file.parent.name
    except OSError:
        return False


def copy(source: Path, target: Path) -> None:
    """Copy a data file to its RunStore.copy_path, all or nothing: an upload may be deleted before its runs."""
    if is_intact_copy(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_of(target)
    try:
        shutil.copyfile(source, aside)
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # only an empty folder goes: nothing was copied
            target.parent.rmdir()
