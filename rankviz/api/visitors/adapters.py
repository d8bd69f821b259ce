"""What adapters take on the disk: those that runs have saved, and those that runs will which wait or train."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rankviz import units
from rankviz.api.runs.known import Known
from rankviz.core.cost.device import card
from rankviz.core.cost.question import plan_on
from rankviz.core.runs.estimate import adapter_bytes, saved_bytes
from rankviz.core.runs.record import RunRecord
from rankviz.errors import LimitError, RankVizError

if TYPE_CHECKING:
    from rankviz.api.models import Models
    from rankviz.api.workspace import Workspace
    from rankviz.core.runs.request import RunRequest

MOST_KNOWN = 1000
"""Sizes of adapters that are unlike."""


class Adapters:
    """Of all runs of one runs folder."""

    def __init__(self, workspace: Workspace, models: Models):
        self._workspace = workspace
        self._models = models
        self._sizes = Known(MOST_KNOWN)

    def require_room(self, runs: Iterable[RunRequest]) -> None:
        """LimitError where the adapters of whoever asks leave no room for those of these runs as well."""
        most_mb = self._workspace.limits.adapters_mb_per_visitor
        if most_mb is None or not (new := self.coming_bytes(runs)):
            return
        records = self._workspace.rights.made_by_visitor(self._workspace.store.all())
        kept = sum(self._workspace.store.adapter_bytes(record.run_id) for record in records)
        kept += self.coming_bytes(record.request for record in records if not record.state.ended)
        if kept + new > most_mb * 10**6:
            raise LimitError(
                f"This server keeps at most {most_mb:,} MB of the adapters of a visitor's runs, those that queued runs "
                f"will save included (yours take {units.file_size(kept)}, and this adds {units.file_size(new)}). "
                "Delete some of your runs first, or choose fewer or lower ranks."
            )

    def queued_bytes(self) -> int:
        """What is still to come of all runs that wait or train."""
        unended = self._workspace.store.unended()
        return self.coming_bytes(record.request for record in unended if isinstance(record, RunRecord))

    def coming_bytes(self, runs: Iterable[RunRequest]) -> int:
        """What these runs will save beside what they have saved already. Of a base that only the Hub knows, and nobody
        here has asked for since the start, nothing is known, and none is counted."""
        saved = self._workspace.store.adapter_bytes
        return sum(max(0, saved_bytes(run, self._size(run)) - saved(run.run_id)) for run in runs)

    def _size(self, run: RunRequest) -> int:
        return self._sizes.of((run.base, run.lora, run.training), lambda: self._found(run)) or 0

    def _found(self, run: RunRequest) -> int | None:
        """The larger of what this machine and a GPU elsewhere would save, since runs may train there."""
        sizes: list[int] = []
        for device in (self._workspace.here(), card(None)):
            with contextlib.suppress(RankVizError):
                if model := self._models.at_hand(run.base):
                    sizes.append(adapter_bytes(plan_on(model, run.lora, run.training, device), run, device))
        return max(sizes, default=None)
