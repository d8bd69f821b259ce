"""Files that are on the disk when the call returns, whole or not at all."""

import contextlib
import errno
import os
import secrets
import shutil
import time
from pathlib import Path

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
