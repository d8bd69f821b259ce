"""Reads a folder for the first time, or runs that came together, which may take a while, the newest runs first.

Meanwhile views are made of what has been read; whoever counts, starts or removes runs waits.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from rankviz.errors import OF_NAMES
from rankviz.store.journal import MAX_REQUEST_BYTES

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
