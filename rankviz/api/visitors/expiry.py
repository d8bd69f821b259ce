"""Runs and probes of visitors go some days after their end, so that what nobody can delete any more fills no server;
their result files as many days after they came, and with them what was remembered of the models that they asked for."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from rankviz import paths
from rankviz.catalog import own_studies
from rankviz.machine import disk
from rankviz.store import removal
from rankviz.store.temp import Clock

if TYPE_CHECKING:
    from rankviz.api.workspace import Workspace

DAY = 86_400.0
LOOK_SECONDS = 600.0


class Expiry:
    """Of one runs folder, which several apps may clean at once."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace
        self.clock = Clock()

    def remove(self, now: float) -> None:
        """Remove what has been kept for long enough; nothing where days are no limit."""
        days, store = self._workspace.limits.days_kept, self._workspace.store
        if days is None:
            return
        before = now - days * DAY
        for pattern in (f"visitors/*/{own_studies.FOLDER}/*", f"{paths.INTROSPECTED}/*"):
            _remove_older(self._workspace.home.glob(pattern), before)
        if removal.expired(store, before):
            with store.admission():  # looked at again: meanwhile one may have been resumed
                removal.let_go(store, removal.expired(store, before))

    def keep_clean(self, every_seconds: float = LOOK_SECONDS) -> None:
        """Remove it again and again while this process lives."""

        def clean() -> None:
            while True:
                time.sleep(every_seconds)  # first: a clock may be set soon after a machine has started
                try:
                    self.remove(self.clock.now())
                except OSError as error:  # a read-only folder, say
                    logging.getLogger(__name__).warning("Old runs stay. %s", disk.explain(error))

        if self._workspace.limits.days_kept is not None:
            Thread(target=clean, name="old runs", daemon=True).start()


def _remove_older(files: Iterable[Path], before: float) -> None:
    for file in files:
        with contextlib.suppress(OSError):  # gone meanwhile, or a read-only folder
            if file.stat().st_mtime < before:
                file.unlink()
