"""Bases from the Hub that others have trained: they make room for what is new, unless a run that waits or trains names
them."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from threading import Thread
from typing import TYPE_CHECKING

from rankviz import units
from rankviz.catalog import models as catalog_models
from rankviz.core.runs.record import RunRecord
from rankviz.errors import RankVizError
from rankviz.machine import disk
from rankviz.references import EMBEDDED

if TYPE_CHECKING:
    from rankviz.api.models import Models
    from rankviz.api.workspace import Workspace
    from rankviz.core.runs.request import RunRequest

LOOK_SECONDS = 60.0
LEAST_FREE_BYTES = 6 * units.GB
"""As much as the next base may take, by the limits of a shared page."""


class Bases:
    """Of a shared page that keeps them below its runs folder."""

    def __init__(self, workspace: Workspace, models: Models):
        self._workspace = workspace
        self._models = models

    def make_room(self, is_enough: Callable[[], bool]) -> None:
        """Remove those that nobody waits for, those first that were used longest ago, until it is enough. While nobody
        else is admitted."""
        from rankviz.hub import reach

        if self._is_shared_cache():
            reach.make_room(self._workspace.home, set(self._named()), is_enough)

    def idle_bytes(self, runs: Sequence[RunRequest]) -> int:
        """What those take that nobody waits for, and these runs would not either."""
        from rankviz.hub import reach

        if not self._is_shared_cache():
            return 0
        return sum(repo.size_on_disk for repo in reach.idle(self._workspace.home, set(self._named(runs))))

    def make_room_on_disk(self) -> None:
        """Where the disk has little room left, since then nothing could be trained any more."""

        def is_enough() -> bool:
            return shutil.disk_usage(self._workspace.home).free >= LEAST_FREE_BYTES

        with contextlib.suppress(FileNotFoundError):  # nothing was written yet
            if not is_enough():
                with self._workspace.store.admission():
                    self.make_room(is_enough)

    def keep_room(self, every_seconds: float = LOOK_SECONDS) -> None:
        """Look for it again and again while this process lives."""

        def look() -> None:
            while True:
                try:
                    self.make_room_on_disk()
                except OSError as error:
                    logging.getLogger(__name__).warning("Old bases stay. %s", disk.explain(error))
                time.sleep(every_seconds)

        if self._workspace.shared:
            Thread(target=look, name="old bases", daemon=True).start()

    def _is_shared_cache(self) -> bool:
        from rankviz.hub import reach

        return self._workspace.shared and reach.is_own(self._workspace.home)

    def _named(self, runs: Sequence[RunRequest] = ()) -> Iterator[str]:
        """The repositories of these and of runs that wait or train: also the copies in 4 and 16 bits that Unsloth may
        take instead."""
        store = self._workspace.store
        store.wait_until_read()
        unended = [record.request for record in store.unended() if isinstance(record, RunRecord)]
        for base in {request.base for request in (*unended, *runs)} - {EMBEDDED}:
            with contextlib.suppress(RankVizError):
                reference = self._workspace.references.model(base)
                rows = catalog_models.load_index(self._workspace.assets)
                names = [catalog_models.full_name(rows, base) if reference.kind == "name" else reference.text]
                model = self._models.at_hand(base)
                if model and model.unsloth_checkpoint:
                    names.append(model.unsloth_checkpoint.repository)
                yield from names
                for name in names:
                    yield f"unsloth/{name.split('/')[-1].removesuffix('-bnb-4bit').removesuffix('-unsloth')}"
