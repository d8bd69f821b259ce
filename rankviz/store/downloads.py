"""Files that the page writes for a visitor to download, each in a folder of its own whose name nobody can guess.

Each can be made again, so the older ones make room.
"""

import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

FOLDER = "download-"
KEPT = 4
"""Of one visitor."""


def new_folder(page: Path) -> Path:
    """A folder for one download, which is not there yet."""
    return page / f"{FOLDER}{secrets.token_hex(16)}"


def is_download(path: Path) -> bool:
    """Whether a file was made to be downloaded, not uploaded."""
    return path.parent.name.startswith(FOLDER)


def too_many(downloads: Iterable[Path], left_bytes: float) -> list[Path]:
    """Those of one visitor that go once another comes: the newest few stay, no more than `left_bytes` together."""
    gone = []
    for place, path in enumerate(_newest_first(downloads), start=1):
        left_bytes -= _size(path)
        if place >= KEPT or left_bytes < 0:
            gone.append(path)
    return gone


def make_room(page: Path, needed_bytes: float) -> int:
    """Remove downloads of all visitors, the oldest first, until so many bytes are free; returns how many that are. None
    is removed where all of them have fewer."""
    downloads = _newest_first(page.glob(f"{FOLDER}*/*"))
    if needed_bytes > sum(map(_size, downloads)):
        return 0
    freed = 0
    while freed < needed_bytes:
        oldest = downloads.pop()
        freed += _size(oldest)
        shutil.rmtree(oldest.parent, ignore_errors=True)
    return freed


def _newest_first(downloads: Iterable[Path]) -> list[Path]:
    return sorted(downloads, key=_written_at, reverse=True)


def _written_at(path: Path) -> float:
    """0 of one that has gone meanwhile."""
    with suppress(OSError):
        return path.parent.stat().st_mtime
    return 0.0


def _size(path: Path) -> int:
    """In bytes; 0 of one that has gone meanwhile."""
    with suppress(OSError):
        return path.stat().st_size
    return 0
