"""Durable file writes, folder renames that succeed all or none, and copies of data files."""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from rankviz.errors import OF_NAMES, OF_THE_DISK
from rankviz.visitor import data_folder

ASIDE = ".aside-"
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""Errors of file systems, such as some network disks, that cannot sync a folder."""


def aside_of(path: Path) -> Path:
    """Return a new temporary name in the same folder; the finished file or folder is then renamed to `path`."""
    return path.with_name(f"{ASIDE}{secrets.token_hex(4)}")


def remove_left(folder: Path, seconds: float) -> None:
    """Remove temporary files and folders of killed processes that are older than `seconds`."""
    for aside in folder.glob(f"{ASIDE}*"):
        with contextlib.suppress(OSError):
            if time.time() - aside.lstat().st_mtime <= seconds:
                continue
            if aside.is_dir() and not aside.is_symlink():
                shutil.rmtree(aside, ignore_errors=True)
            else:
                aside.unlink()


def write_durably(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Write and sync a new file that nobody reads before its folder is published. mode: as for os.open."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, mode), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Replace a file and sync it; the earlier file stays where writing fails. mode: as for os.open."""
    aside = aside_of(path)
    try:
        write_durably(aside, content, mode)
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


FILE = ".publishing"
"""File in the runs folder while folders are renamed, and after a crash: the other place, then the names."""
GONE = ".gone-"
"""Prefix of the names to which deleted folders are renamed; any other place in FILE holds new folders."""


def bring(folder: Path, aside: Path, names: Sequence[str]) -> None:
    """Rename folders from `aside`, in `folder`, into `folder`: all or none. The caller holds RunStore.publishing."""
    _move(folder, aside.name, names)


def take(folder: Path, names: Sequence[str]) -> Sequence[Path]:
    """Rename folders out of the way, all or none; return their paths. The caller holds RunStore.publishing."""
    place = f"{GONE}{secrets.token_hex(4)}"
    _move(folder, place, names)
    return [aside for _, aside in _renames(folder, place, names)]


def move_the_rest(folder: Path) -> None:
    """Finish renames that a killed process had begun. The caller holds RunStore.publishing."""
    try:
        place, *lines = (folder / FILE).read_text(errors="replace").split("\n")
    except FileNotFoundError:
        return
    names = list(filter(None, lines))  # an empty one would be the folder itself
    for source, target in _renames(folder, place, names):
        if source.is_dir() and not target.exists():
            try:
                os.rename(source, target)
            except OSError as error:  # one that may never be renamed stays
                if error.errno not in OF_NAMES:
                    raise
    _sync_folder(folder)
    with contextlib.suppress(OSError, ValueError):
        (folder / place).rmdir()
    (folder / FILE).unlink()


def _renames(folder: Path, place: str, names: Sequence[str]) -> list[tuple[Path, Path]]:
    if place.startswith(GONE):  # each by itself: a new folder around them would need room on the disk
        return [(folder / name, folder / f"{place}-{name}") for name in names]
    return [(folder / place / name, folder / name) for name in names]


def _move(folder: Path, place: str, names: Sequence[str]) -> None:
    try:
        try:
            replace_durably(folder / FILE, "\n".join((place, *names)))
        except OSError as error:  # what goes makes room on a full disk, so it goes without a list
            if not place.startswith(GONE) or error.errno not in OF_THE_DISK:
                raise
        for source, target in _renames(folder, place, names):
            os.rename(source, target)
        _sync_folder(folder)
    except BaseException:
        for source, target in _renames(folder, place, names):
            if not source.exists():
                os.rename(target, source)
        (folder / FILE).unlink(missing_ok=True)
        raise
    (folder / FILE).unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    """Return the digest of a file's content as in data_fingerprint; raise OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def kept_path(home: Path, data: Path, owner: str) -> Path:
    """Return the path for the copy of a data file, which depends on its owner and its content."""
    state = data.stat()
    return data_folder(home, owner) / _cached_digest(data, state.st_mtime_ns, state.st_size, state.st_ino) / data.name


@lru_cache(1000)
def _cached_digest(path: Path, *_state: int) -> str:
    """Return digest_of(path), cached while the file's state is the same: a page asks at each redraw."""
    return digest_of(path)


def is_kept(file: Path) -> bool:
    """Return True where a copy exists and its content still matches its path."""
    try:
        return file.is_file() and digest_of(file) == file.parent.name
    except OSError:
        return False


def copy(source: Path, target: Path) -> None:
    """Copy a data file to its kept_path, all or nothing, since an upload may be deleted before its runs."""
    if is_kept(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_of(target)
    try:
        shutil.copyfile(source, aside)
        os.replace(aside, target)
    except BaseException:
        aside.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: the same content by another name
            target.parent.rmdir()
        raise
