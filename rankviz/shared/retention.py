"""Retention: a background thread that deletes old files, and base models where the disk is nearly full.

Runs, probes, result files and cached layouts of models outside the catalogue are deleted some days after their last
change (Limits.days_kept); uploads and downloads after a day.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING

from rankviz import paths
from rankviz.catalog import own_studies
from rankviz.machine import disk
from rankviz.settings import TEMP_HOURS
from rankviz.store import removal

if TYPE_CHECKING:
    from rankviz.api.workspace import Workspace

DAY = 86_400.0
LOOK_SECONDS = 60.0
"""Seconds between two checks of the free disk space. Old files are searched for at every tenth check."""


class Retention:
    """Deletion of old files in one runs folder, which several apps may clean at once.

    make_room: Called at each check of a shared page's free disk space.
    """

    def __init__(self, workspace: Workspace, make_room: Callable[[], None] = lambda: None):
        self._workspace, self._make_room = workspace, make_room
        self._began = time.time(), time.monotonic()

    def now(self) -> float:
        """Return unix seconds, which no jump of the machine's clock moves ahead."""
        at, since = self._began
        return min(time.time(), at + time.monotonic() - since)

    def remove(self, now: float) -> None:
        """Delete runs, probes and files of visitors that are older than Limits.days_kept. now: unix seconds."""
        days, store = self._workspace.limits.days_kept, self._workspace.store
        if days is None:
            return
        before = now - days * DAY
        for pattern in (f"visitors/*/{own_studies.FOLDER}/*", f"{paths.INTROSPECTED}/*"):
            for file in self._workspace.home.glob(pattern):
                with contextlib.suppress(OSError):  # gone meanwhile, or a read-only folder
                    if file.stat().st_mtime < before:
                        file.unlink()
        if removal.expired(store, before):
            with store.admission():  # looked at again: meanwhile one may have been resumed
                removal.let_go(store, removal.expired(store, before))

    def keep_clean(self, every_seconds: float = LOOK_SECONDS) -> None:
        """Start a thread that deletes old temporary files now, and all old files from time to time."""
        temp = self._workspace.temp
        with temp.work():  # takes this app's folder before those of ended apps are removed
            pass

        def clean() -> None:
            look = 0
            while True:
                if look % 60 == 0:
                    temp.clean(TEMP_HOURS * 3600, self.now())
                try:
                    if self._workspace.shared:
                        self._make_room()
                    if look and look % 10 == 0:  # not at once: a clock may be set soon after a machine has started
                        self.remove(self.now())
                except OSError as error:  # a read-only folder, say
                    logging.getLogger(__name__).warning("Old runs and bases stay. %s", disk.explain(error))
                time.sleep(every_seconds)
                look += 1

        Thread(target=clean, name="retention", daemon=True).start()
