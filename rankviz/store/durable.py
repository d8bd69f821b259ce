"""Files that are on the disk when the call returns, whole or not at all."""

import errno
import os
import secrets
from pathlib import Path

NOT_OF_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""As some shared and network file systems answer: there is nothing to do then."""


def write_durably(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """A new file, which nobody reads before its folder is published. mode: as of os.open."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, mode), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """In place of an earlier one, which stays where this fails. mode: as of os.open."""
    aside = path.with_name(f".{secrets.token_hex(4)}")
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
