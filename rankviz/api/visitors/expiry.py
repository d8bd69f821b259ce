"""Runs and probes of visitors go some days after their end, so that what nobody can delete any more fills no server."""

from __future__ import annotations

import logging
import time
from threading import Thread
from typing import TYPE_CHECKING

from rankviz.machine import disk
from rankviz.store import going

if TYPE_CHECKING:
    from rankviz.api.workspace import Workspace

DAY = 86_400.0
LOOK_SECONDS = 600.0


class Expiry:
    """Of one runs folder, which several apps may clean at once."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace
        self._began = time.time(), time.monotonic()

    def now(self) -> float:
        """Unix seconds. A clock that jumps ahead while this process lives is not believed: what is removed is gone."""
        at, since = self._began
        return min(time.time(), at + time.monotonic() - since)

    def remove(self, now: float) -> None:
        """Remove what has been kept for long enough; nothing where days are no limit."""
        days, store = self._workspace.limits.days_kept, self._workspace.store
        if days is None or not going.expired(store, now - days * DAY):
            return
        with store.admission():  # looked at again: meanwhile one may have been resumed
            going.let_go(store, going.expired(store, now - days * DAY))

    def keep_clean(self, every_seconds: float = LOOK_SECONDS) -> None:
        """Remove it again and again while this process lives."""

        def clean() -> None:
            while True:
                time.sleep(every_seconds)  # first: a clock may be set soon after a machine has started
                try:
                    self.remove(self.now())
                except OSError as error:  # a read-only folder, say
                    logging.getLogger(__name__).warning("Old runs stay. %s", disk.explain(error))

        if self._workspace.limits.days_kept is not None:
            Thread(target=clean, name="old runs", daemon=True).start()
