"""Files that are on the disk when the call returns, and folders that come or go together."""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from rankviz.errors import OF_NAMES, OF_THE_DISK
from rankviz.visitor import data_folder

NOT_OF_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""As some shared and network file systems answer: there is nothing to do then."""
ASIDE = ".aside-"
OLDER_ASIDES = f".{'[0-9a-f]' * 8}"
"""Names of asides as versions before 28 November 2026 made them; where only RankViz writes, all such are."""


def aside_of(path: Path) -> Path:
    """A new name beside it, for what is to take its place once it is whole."""
    return path.with_name(f"{ASIDE}{secrets.token_hex(4)}")


def remove_left(folder: Path, seconds: float, *others: str) -> None:
    """Asides in this folder of who was killed, which are older than that. others: patterns of their names too."""
    for aside in [path for pattern in (f"{ASIDE}*", *others) for path in folder.glob(pattern)]:
        with contextlib.suppress(OSError):  # gone meanwhile
            if time.time() - aside.lstat().st_mtime <= seconds:
                continue
            if aside.is_dir() and not aside.is_symlink():
                shutil.rmtree(aside, ignore_errors=True)
            else:
                aside.unlink()


def write_durably(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """A new file, which nobody reads before its folder is published. mode: as of os.open."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, mode), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """In place of an earlier one, which stays where this fails. mode: as of os.open."""
    aside = aside_of(path)
    try:
        write_durably(aside, content, mode)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """What has come into it or left it, on a file system that can do so."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in NOT_OF_FOLDERS:
            raise
    finally:
        os.close(fd)


FILE = ".publishing"
GOING = ".gone-"
"""How the place begins to which folders go; all others are places from which they come."""


def bring(folder: Path, aside: Path, names: Sequence[str]) -> None:
    """Rename what is in `aside`, a folder in `folder`, into `folder`, while nobody else does. Of one that fails nothing
    has come."""
    _move(folder, aside.name, names)


def take(folder: Path, place: str, names: Sequence[str]) -> Sequence[Path]:
    """Rename these out of the way, while nobody else renames here; returns where they are. Of one that fails nothing
    has gone.

    place: begins with GOING, and is new.
    """
    _move(folder, place, names)
    return [aside for _, aside in _ways(folder, place, names)]


def move_the_rest(folder: Path) -> Sequence[str]:
    """Of what somebody who was killed has begun, while nobody else renames here; returns all names of it."""
    try:
        place, *lines = (folder / FILE).read_text(errors="replace").split("\n")
    except FileNotFoundError:
        return ()
    names = list(filter(None, lines))  # an empty one would be the folder itself
    for source, target in _ways(folder, place, names):
        if source.is_dir() and not target.exists():
            _rename_if_allowed(source, target)
    sync_folder(folder)
    with contextlib.suppress(OSError, ValueError):  # it has gone, or what is left in it is for tidy
        (folder / place).rmdir()
    (folder / FILE).unlink()
    return names


def _rename_if_allowed(source: Path, target: Path) -> None:
    """One that may never be renamed stays, and keeps nobody from what comes next."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno not in OF_NAMES:
            raise


def _ways(folder: Path, place: str, names: Sequence[str]) -> list[tuple[Path, Path]]:
    """From where each is renamed, and to where."""
    if place.startswith(GOING):  # beside the others: a new folder around them would need room on the disk
        return [(folder / name, folder / f"{place}-{name}") for name in names]
    return [(folder / place / name, folder / name) for name in names]


def _move(folder: Path, place: str, names: Sequence[str]) -> None:
    try:
        _note(folder, place, names)
        for source, target in _ways(folder, place, names):
            os.rename(source, target)
        sync_folder(folder)
    except BaseException:
        for source, target in _ways(folder, place, names):
            if not source.exists():
                os.rename(target, source)
        (folder / FILE).unlink(missing_ok=True)
        raise
    (folder / FILE).unlink(missing_ok=True)


def _note(folder: Path, place: str, names: Sequence[str]) -> None:
    try:
        replace_durably(folder / FILE, "\n".join((place, *names)))
    except OSError as error:  # what goes makes room on a full disk, so it goes without a list there
        if not place.startswith(GOING) or error.errno not in OF_THE_DISK:
            raise


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
