"""Jobs that were asked for and were nowhere for minutes, whose runs have gone to another job.

Where one shows up late after all, it is ended, and what it has cost is on the bill of its sweep.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rankviz.engines.hf_jobs.hub import Hub
from rankviz.engines.hf_jobs.papers import Papers, Rented
from rankviz.engines.hf_jobs.prices import longest_seconds
from rankviz.engines.hf_jobs.spending import Spending, span_of
from rankviz.errors import EngineError, EngineUnavailableError


class Missing:
    """Looks for them in a thread, as long as they could run.

    Args:
        hub_of: Of an owner who is logged in.
        seconds: Between two looks.
    """

    def __init__(self, papers: Papers, hub_of: Callable[[str], Hub | None], spending: Spending, seconds: float):
        self._papers, self._hub_of, self._spending = papers, hub_of, spending
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """See to it that somebody looks where some are missing."""
        if (self._thread is None or not self._thread.is_alive()) and self._papers.missing():
            self._stopped = threading.Event()
            self._thread = threading.Thread(target=self._loop, args=(self._stopped,), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _loop(self, stopped: threading.Event) -> None:
        while not stopped.is_set() and (files := self._papers.missing()):
            for file, rented in files.items():
                hub = self._hub_of(rented.owner)
                with contextlib.suppress(EngineError, EngineUnavailableError, OSError):
                    if hub is not None and rented.account in (hub.name, ""):
                        self._look_for(hub, file, rented)
            stopped.wait(self._seconds)

    def _look_for(self, hub: Hub, file: Path, rented: Rented) -> None:
        jobs = hub.find(self._papers.labels(file.with_suffix("")))
        for job in jobs:
            if job.ended and rented.usd_per_minute:
                span = span_of(job.seconds, rented.timeout_seconds)
                self._spending.add(rented.sweep_id, file.stem, span.cost(rented.usd_per_minute))
            if not job.ended:
                hub.cancel(job.id)
        could_run = file.stat().st_mtime + longest_seconds(rented.timeout_seconds) > time.time()
        if all(job.ended for job in jobs) and (jobs or not could_run):
            file.unlink()
