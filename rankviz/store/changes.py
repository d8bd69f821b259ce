"""Which runs of a folder were written since, and how a folder is read for the first time."""

import contextlib
import os
import stat
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Set
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from rankviz.errors import OF_NAMES
from rankviz.store.journal import MAX_REQUEST_BYTES

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


HELD_SECONDS = 0.02
"""So long does it read while others wait, a long journal excepted."""
PAUSE_SECONDS = 0.001
"""Enough for one of them to go on."""

_view: ContextVar[bool] = ContextVar("view", default=False)


@contextmanager
def viewing() -> Iterator[None]:
    """Within it, somebody looks and changes nothing: runs that have not been read yet are left out."""
    token = _view.set(True)
    try:
        yield
    finally:
        _view.reset(token)


def is_view() -> bool:
    return _view.get()


class Reading(NamedTuple):
    """How far it is."""

    done: int
    total: int
    """Folders that may be of runs."""


class FirstRead:
    """Of one folder, by whichever thread is the first to ask; and of what comes later by the first to ask for that."""

    def __init__(self):
        self.lock = threading.Condition(threading.RLock())
        """Held by whoever looks at or changes what is known of the folder."""
        self.reading: Reading | None = None
        """Of what comes later, set from the first pause on: before, nobody else has to wait or to make do."""
        self.is_done = False
        """Whether the folder has been read once."""
        self._thread = 0

    @property
    def is_ahead(self) -> bool:
        """Whether nobody has asked for all runs yet."""
        return not self.is_done and self.reading is None

    @property
    def is_mine(self) -> bool:
        """Whether this thread is at it."""
        return self._thread == threading.get_ident()

    def read(self, run_ids: Collection[str], look_at: Callable[[str], None]) -> None:
        """Look at each, with the lock held, except for pauses in which others have it."""
        self._thread = threading.get_ident()
        if not self.is_done:
            self.reading = Reading(0, len(run_ids))
        try:
            self._read(run_ids, look_at)
            self.is_done = True
        finally:
            self.reading, self._thread = None, 0
            self.lock.notify_all()

    def wait(self) -> None:
        """Return once no other thread is at it. The lock is held, and free meanwhile."""
        self.lock.wait_for(lambda: self.reading is None or self.is_mine)

    def pause(self, reading: Reading) -> None:
        """Let others have the lock, who see how far it is."""
        self.reading = reading
        self.lock.wait(PAUSE_SECONDS)

    def _read(self, run_ids: Collection[str], look_at: Callable[[str], None]) -> None:
        since = time.monotonic()
        for number, run_id in enumerate(sorted(run_ids, reverse=True)):
            if time.monotonic() - since > HELD_SECONDS and threading.active_count() > 1:
                self.pause(Reading(number, len(run_ids)))
                since = time.monotonic()
            look_at(run_id)


def naming(folder: str, run_ids: Iterable[str], sweep_id: str) -> Iterator[str]:
    """Those whose request names this sweep, and maybe a few more, such as those whose request cannot be read now: they
    are searched, and not parsed, which is twenty times as fast."""
    text = f'"{sweep_id}"'.encode()
    for run_id in run_ids:
        try:
            with open(f"{folder}/{run_id}/request.json", "rb", buffering=0) as file:
                may_be = text in file.read(MAX_REQUEST_BYTES)
        except OSError as error:
            may_be = error.errno not in OF_NAMES
        if may_be:
            yield run_id
