"""How large folders are, while others write into them: a file that goes meanwhile counts nothing."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_BLOCK_BYTES = 512
"""Of st_blocks, whatever the file system's own blocks are."""


def bytes_in(folder: Path) -> int:
    """Of the files below a folder."""
    return sum(state.st_size for state in _files(folder))


def bytes_on_disk(folder: Path) -> int:
    """What they take there: a file that was given its length before its content counts what has been written."""
    return sum(written_by_file(folder))


def written_by_file(folder: Path) -> Iterator[int]:
    """The same of each."""
    return (state.st_blocks * _BLOCK_BYTES for state in _files(folder))


def _files(folder: Path) -> Iterator[os.stat_result]:
    for place, _, names in os.walk(folder):  # which passes over folders that vanish meanwhile
        for name in names:
            with suppress(OSError):
                state = os.lstat(os.path.join(place, name))
                if stat.S_ISREG(state.st_mode):
                    yield state
