"""Files that the page writes for a visitor to download, each in a folder of its own whose name nobody can guess.

Each can be made again, so the older ones make room.
"""

import secrets
from collections.abc import Iterable
from pathlib import Path

from rankviz.store.temp.making_room import oldest_first, size_of

FOLDER = "download-"
KEPT = 4
"""Of one visitor."""


def new_folder(page: Path) -> Path:
    """A folder for one download, which is not there yet."""
    return page / f"{FOLDER}{secrets.token_hex(16)}"


def all_in(page: Path) -> Iterable[Path]:
    """Those of all visitors."""
    return page.glob(f"{FOLDER}*/*")


def is_download(path: Path) -> bool:
    """Whether a file was made to be downloaded, not uploaded."""
    return path.parent.name.startswith(FOLDER)


def too_many(downloads: Iterable[Path], left_bytes: float) -> list[Path]:
    """Those of one visitor that go once another comes: the newest few stay, no more than `left_bytes` together."""
    gone = []
    for place, path in enumerate(reversed(oldest_first(downloads)), start=1):
        left_bytes -= size_of(path)
        if place >= KEPT or left_bytes < 0:
            gone.append(path)
    return gone
