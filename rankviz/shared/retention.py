"""Retention: a background thread that deletes old files, and base models where the disk is nearly full.

Runs, probes, result files and cached layouts of models outside the catalogue are deleted some days after their last
change (Limits.days_kept); uploads and downloads after a day.
"""

from __future__ import annotations

import contextlib
import itertools
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


def remove_old(workspace: Workspace, now: float) -> None:
    """Delete runs, probes and files of visitors that are older than Limits.days_kept. now: unix seconds."""
    days, store = workspace.limits.days_kept, workspace.store
    if days is None:
        return
    before = now - days * DAY
    for pattern in (f"visitors/*/{own_studies.FOLDER}/*", f"{paths.INTROSPECTED}/*"):
        for file in workspace.home.glob(pattern):
            with contextlib.suppress(OSError):  # gone meanwhile, or a read-only folder
                if file.stat().st_mtime < before:
                    file.unlink()
    if removal.expired(store, before):
        with store.admission():  # looked at again: meanwhile one may have been resumed
            removal.delete_all(store, removal.expired(store, before))


def steady_clock() -> Callable[[], float]:
    """Return a clock, a function that returns unix seconds. It does not jump when the machine's clock is set ahead."""
    at, since = time.time(), time.monotonic()
    return lambda: min(time.time(), at + time.monotonic() - since)


def keep_clean(workspace: Workspace, make_room: Callable[[], None]) -> None:
    """Start a thread that deletes old temporary files now, and all old files from time to time. Several apps may do so
    in one runs folder. make_room: Called at each check of a shared page's free disk space."""
    temp, now = workspace.temp, steady_clock()
    with temp.work():  # takes this app's folder before those of ended apps are removed
        pass

    def clean() -> None:
        for look in itertools.count():
            if look % 60 == 0:
                temp.clean(TEMP_HOURS * 3600, now())
            try:
                if workspace.shared:
                    make_room()
                if look and look % 10 == 0:  # not at once: a clock may be set soon after a machine has started
                    remove_old(workspace, now())
            except OSError as error:  # a read-only folder, say
                logging.getLogger(__name__).warning("Old runs and bases stay. %s", disk.explain(error))
            time.sleep(LOOK_SECONDS)

    Thread(target=clean, name="retention", daemon=True).start()
