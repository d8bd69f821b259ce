"""A runs folder that is being read for the first time: another thread has read some runs and goes on when it may."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rankviz.store import RunStore

READ = 60
"""Runs that it reads first."""


class SlowStore(RunStore):
    def __init__(self, home: Path):
        super().__init__(home)
        self.goes_on = threading.Event()
        self._reader = threading.Thread(target=self.records)
        self._opened = 0

    @contextmanager
    def being_read(self) -> Iterator[None]:
        """Within it, READ runs have been read, and no more are until `goes_on` is set."""
        self._reader.start()
        while self.reading is None or self.reading[0] < READ:
            time.sleep(0.001)
        try:
            yield
        finally:
            self.goes_on.set()
            self._reader.join()

    def _look(self, run_id: str) -> None:
        if threading.current_thread() is self._reader:
            while self._opened >= READ and not self.goes_on.is_set():
                time.sleep(0.001)
            self._opened += 1
        super()._look(run_id)
