"""Writes to a journal what the worker is doing: each stage as it begins, and how far it is, about once a second."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rankviz.core.runs.events import MODULES, RunEvent, StageProgressed, StageReached

EVERY_SECONDS = 1.0
TRANSFORMERS_MODULES = 3_700
UNSLOTH_MODULES = 5_400
"""What this worker has loaded after the import, with transformers 5.17 and Unsloth 2026.10.9; other versions load a
few hundred more or fewer."""

Progress = Callable[[int, int | None, str], None]
"""Takes what is done, of how much (None: not known), and what is counted."""


def silent(done: int, total: int | None, unit: str) -> None:
    """For what may be long where nobody follows it."""


class Stages:
    """The current stage. Threads may share it: one watches what another one waits for."""

    def __init__(self, log: Callable[[RunEvent], None], every_seconds: float = EVERY_SECONDS):
        self._log = log
        self._every_seconds = every_seconds
        self._lock = threading.Lock()
        self._written_at = 0.0

    def begin(self, stage: str) -> None:
        with self._lock:
            self._log(StageReached(time=time.time(), stage=stage))
            self._written_at = time.monotonic()

    def progress(self, done: int, total: int | None, unit: str) -> None:
        """Written where a second has passed since the last event, so a stage that is over by then has none."""
        with self._lock:
            if time.monotonic() - self._written_at >= self._every_seconds:
                self._log(StageProgressed(time=time.time(), done=done, total=total, unit=unit))
                self._written_at = time.monotonic()

    @contextmanager
    def imports(self, usual: int) -> Iterator[None]:
        """While the block imports, the modules that have come are told. usual: how many this process usually has after
        it; nobody knows how many there will be."""
        before = len(sys.modules)

        def look() -> None:
            come = len(sys.modules) - before
            self.progress(come, max(come, usual - before), MODULES)

        with self.watched(look):
            yield

    @contextmanager
    def watched(self, look: Callable[[], None]) -> Iterator[None]:
        """While the block runs, `look` is called again and again in a thread; it calls `begin` and `progress`. It has
        returned for the last time when the block is left."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(self._every_seconds):
                look()

        thread = threading.Thread(target=watch, name="stages", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


UNWATCHED = Stages(lambda event: None)
"""For what nobody follows."""
