"""Of which runs something was written, so that nobody has to look at all of them: HOME/runs/.changed.

A line a run, appended after the writing. It only says where to look, and what there is to see stands in the run's
folder: where this file is missing, broken or begun anew, a reader looks at every run.
"""

import contextlib
import os
import stat
import weakref
from collections.abc import Iterable, Set
from pathlib import Path

FILE = ".changed"
MOST_BYTES = 1_000_000
"""A longer one is begun anew."""


def tell(folder: Path, run_ids: Iterable[str], most_bytes: int = MOST_BYTES) -> None:
    """Something was written of these runs. Where there is no room for that, the file goes: it may go at any time.

    Nothing is lost where it goes while this writes: whoever sees that it has gone looks at all runs, and what was
    written of these is there by then.
    """
    data = "".join(f"{run_id}\n" for run_id in run_ids).encode()
    try:
        fd = os.open(os.path.join(folder, FILE), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            is_whole, size = os.write(fd, data) == len(data), os.fstat(fd).st_size
        finally:
            os.close(fd)
    except OSError:
        is_whole, size = False, 0
    if not is_whole:
        _drop(folder)
    elif size > most_bytes:
        tell_of_all(folder)


def tell_of_all(folder: Path) -> None:
    """Something may have been written of any run; no name is left. Another file takes the place of this one at once: of
    one that came and went between two looks nobody would know."""
    path = os.path.join(folder, FILE)
    try:
        os.close(os.open(f"{path}-new", os.O_WRONLY | os.O_CREAT, 0o644))
        os.replace(f"{path}-new", path)
    except FileNotFoundError:
        pass  # another writer was faster, or there is no such folder
    except OSError:
        _drop(folder)


def _drop(folder: Path) -> None:
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(folder, FILE))


class Changes:
    """What is told, from when this began to read."""

    def __init__(self, folder: Path):
        self._path = os.path.join(folder, FILE)
        self._fd: int | None = None
        self._offset = 0
        self._close: weakref.finalize | None = None
        self._is_new = True

    def news(self) -> Set[str] | None:
        """The runs that were named since the last call; None: it may be any, also as this file cannot be read."""
        try:
            return self._begin() if self._fd is None else self._read(self._fd)
        except OSError:  # on a network disk another file may have taken its place
            self._fd, self._is_new = None, True
            return None

    def _read(self, fd: int) -> Set[str] | None:
        # The file stays open, so that no other one can have its number while this reads it.
        state = os.fstat(fd)
        if state.st_nlink == 0 or state.st_size < self._offset:
            return self._begin()
        if state.st_size == self._offset:
            return frozenset()
        data = os.pread(fd, state.st_size - self._offset, self._offset)
        whole = data.rfind(b"\n") + 1
        self._offset += whole
        return {os.fsdecode(name) for name in data[:whole].split(b"\n") if name}

    def _begin(self) -> Set[str] | None:
        was_there, self._is_new = self._is_new or self._fd is not None, False
        if self._close is not None:
            self._close()
        self._fd = self._close = None
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
            self._close = weakref.finalize(self, os.close, fd)
            state = os.fstat(fd)
            if stat.S_ISREG(state.st_mode):
                self._fd, self._offset = fd, state.st_size
        return None if was_there or self._fd is not None else frozenset()
