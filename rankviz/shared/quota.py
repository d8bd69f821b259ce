"""Checks the limits of a visitor (sweeps, runs, adapters, disk space); core/runs/request.py checks those of one run."""

from __future__ import annotations

import contextlib
import math
import shutil
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rankviz import units
from rankviz.api.workspace import Operations, Workspace, writes
from rankviz.catalog import models as catalog_models
from rankviz.catalog import own_studies
from rankviz.core.cost.question import plan_on
from rankviz.core.runs.estimate import all_adapters_bytes, run_adapter_bytes
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import RunRequest, check_setting_limits
from rankviz.errors import InvalidSettingError, LimitError, RankVizError
from rankviz.hub import reach
from rankviz.paths import bytes_in
from rankviz.references import EMBEDDED
from rankviz.settings import TEMP_HOURS
from rankviz.store import RunStore, removal
from rankviz.store.removal import Deletion
from rankviz.store.temp import Usage
from rankviz.visitor import Visitor, data_folder, home_of

if TYPE_CHECKING:
    from rankviz.api import Api

KEEPING = f"Delete your uploads on Runs; those that are left are removed after {TEMP_HOURS} hours."


@dataclass(eq=False)
class Held:
    """A reservation of disk space for files that are about to be written for a visitor."""

    visitor: Visitor
    is_upload: bool = False
    """True for uploads, which are counted per file and limited for all visitors together."""
    size_bytes: float = 0.0
    files: int = 0


class Room:
    """Disk space for the files of all visitors of one runs folder."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace
        self._changing = threading.RLock()
        self._held: set[Held] = set()

    @contextlib.contextmanager
    def holding(self, size: float, *, up_to: float = 0) -> Iterator[float]:
        """Context in which the current visitor has `size` to `up_to` bytes reserved; yields the reserved bytes. Raise
        LimitError where the visitor's files leave too little space."""
        held = Held(self._workspace.visitor)
        try:
            self.hold(held, size, up_to=up_to)
            yield held.size_bytes
        finally:
            self.release(held)

    def hold(self, held: Held, size: float, *, up_to: float = 0, files: int = 0) -> None:
        """Add a reservation of `size` bytes, or up to `up_to` where that much is left, and of `files` files; `release`
        ends it. Raise LimitError where the visitor or the server has too little space. Old downloads and uploads are
        removed for it only after the visitor's own limits are checked."""
        limits, temp, visitor = self._workspace.limits, self._workspace.temp, held.visitor
        with self._changing:
            if files and (most := limits.uploads_per_visitor) is not None:
                coming = sum(each.files for each in self._held if each.visitor.id in visitor.ids)
                if temp.usage(visitor).files + coming + files > most:
                    raise LimitError(f"This server keeps at most {most:,} uploads of a visitor. {KEEPING}")
            left = math.inf
            if limits.files_mb_per_visitor is not None:
                coming = sum(each.size_bytes for each in self._held if each.visitor.id in visitor.ids)
                left = limits.files_mb_per_visitor * 10**6 - self.used_bytes(visitor) - coming
            if size > left:
                days = limits.days_kept
                after = "" if days is None else f", or until {units.counted(days, 'day')} after their end"
                raise LimitError(
                    f"This server keeps at most {limits.files_mb_per_visitor:,} MB of a visitor's files: uploads, the "
                    f"data and journals of their runs, and result files. {KEEPING} Runs stay until you delete "
                    f"them{after}."
                )
            if held.is_upload:
                coming = sum(each.size_bytes for each in self._held if each.is_upload)
                left = min(left, size + temp.require_room(limits.temp_mb, coming + size))
            held.size_bytes += min(max(size, up_to), left)
            held.files += files
            self._held.add(held)

    def release(self, held: Held) -> None:
        """End a reservation: the files were written, or given up."""
        with self._changing:
            self._held.discard(held)
            held.size_bytes, held.files = 0.0, 0

    def used_bytes(self, visitor: Visitor) -> int:
        """Return the total size of a visitor's files on this server: uploads, run data, result files and journals."""
        home, temp, store = self._workspace.home, self._workspace.temp, self._workspace.store
        folders = [(data_folder(home, owner), home_of(home, owner) / own_studies.FOLDER) for owner in visitor.ids]
        kept = sum(bytes_in(folder) for each in folders for folder in each)
        return temp.usage(visitor).size_bytes + kept + store.journal_bytes(visitor.ids)


LEAST_FREE_BYTES = 6 * units.GB
"""Free disk space that is kept for the next base model: the largest that the limits of a shared page allow."""

DISK_SECONDS = 20.0
"""Seconds for which the measured size of the runs folder is reused."""
HOUR_SECONDS = 3600


class Quota(Operations):
    """Checks the limits of the current visitor before runs are queued (`check_visitor_limits`), and counts and deletes
    the visitor's uploads. A page that is not shared has no limits unless the settings set some."""

    def __init__(self, api: Api):
        super().__init__(api)
        self._disk: tuple[float, int] = (-DISK_SECONDS, 0)
        self._prompts: list[tuple[str, float]] = []
        """Visitor and time of each prompt that was answered within HOUR_SECONDS."""

    @contextlib.contextmanager
    def check_visitor_limits(
        self, *, new: int, runs: Sequence[RunRequest] = (), sweep_id: str = "", adds: bool = False
    ) -> Iterator[None]:
        """Check all limits of the current visitor and of the server, then let the body queue `new` runs or probes.
        Raise LimitError where a limit would be exceeded. Old runs and bases are deleted after the body to make room,
        unless the body raises an error.

        runs: all runs that are queued, added or resumed. sweep_id: the sweep that the runs belong to, if it exists
        already. adds: True where the runs are new runs of that sweep.
        """
        store, owners, limits = self._workspace.store, self._workspace.visitor.ids, self._workspace.limits
        with store.admission():
            store.update(waits=True)
            self._require_place(sweep_id)
            if sweep_id:
                self._require_sweep(runs, sweep_id, adds)
            self._require_adapters(runs)
            self._require_disk(runs, sweep_id)
            leaving = require_runs(store, owners, new, limits.runs_kept, limits.runs_in_total, besides=sweep_id)
            yield
            with contextlib.suppress(OSError):  # the runs are queued, whatever can be deleted
                removal.delete_all(store, leaving)
                self.free_disk(sweep_id=sweep_id)

    def require_room(self, new: int) -> None:
        """Raise LimitError where `new` more runs of this visitor would exceed a limit, or the disk limit is exceeded,
        even if old runs made room. Nothing is deleted."""
        store, owners, limits = self._workspace.store, self._workspace.visitor.ids, self._workspace.limits
        with store.admission():
            self._require_disk()
            require_runs(store, owners, new, limits.runs_kept, limits.runs_in_total)

    def uploads(self) -> Usage:
        """Return number and size of the current visitor's uploads. Zero on a page that is not shared, where uploads
        are ordinary files, and for a visitor who cannot be told from others."""
        visitor = self._workspace.visitor
        is_known = self._workspace.shared and not visitor.is_nobody
        return self._workspace.temp.usage(visitor) if is_known else Usage(0, 0)

    @writes("change_line")
    def delete_uploads(self) -> Usage:
        """Delete all uploads of the current visitor; return their number and size. Runs keep copies of their data."""
        if not self._workspace.shared:
            raise InvalidSettingError(
                f"This page is your own: uploads lie in {self._workspace.temp.page}, from where they are removed after "
                f"{TEMP_HOURS} hours. Delete there what is to go sooner."
            )
        visitor, temp = self._workspace.rights.somebody(), self._workspace.temp
        before = temp.usage(visitor)
        for path in temp.uploads_of(visitor):
            temp.remove_upload(path, visitor)
        after = temp.usage(visitor)
        return Usage(before.files - after.files, before.size_bytes - after.size_bytes)

    def check_base_size(self, base: str, limit: str = "base_parameters") -> None:
        """Raise LimitError where the base model has more parameters than this server allows. limit: Field of Limits."""
        if getattr(self._workspace.limits, limit) is not None:
            model = self._api.models.get(base)
            check_setting_limits(self._workspace.limits, **{limit: (model.whole or model).total_parameters})

    def count_prompt(self, base: str) -> None:
        """Count one prompt of the current visitor for a base model. Raise LimitError where the base is too large to
        answer on this server, or the visitor has asked too often within an hour."""
        limits, visitor, now = self._workspace.limits, self._workspace.rights.somebody(), time.monotonic()
        self.check_base_size(base, "answering_parameters")
        self._prompts = [(who, at) for who, at in self._prompts if now - at < HOUR_SECONDS]
        most = limits.prompts_per_hour
        if most is not None and sum(who in visitor.ids for who, _ in self._prompts) >= most:
            raise LimitError(f"This server answers {most:,} prompts of a visitor within an hour. Ask again later.")
        self._prompts.append((visitor.id, now))

    def make_room_on_disk(self) -> None:
        """Remove base models of a shared page that no queued or running run needs, least recently used first, while
        less than LEAST_FREE_BYTES are free: a full disk stops all training."""
        if not self._workspace.shared:
            return

        def is_enough() -> bool:
            return shutil.disk_usage(self._workspace.home).free >= LEAST_FREE_BYTES

        with contextlib.suppress(FileNotFoundError):  # nothing was written yet
            if not is_enough():
                with self._workspace.store.admission():
                    reach.make_room(self._workspace.home, self._needed_bases(), is_enough)

    def _needed_bases(self, runs: Sequence[RunRequest] = ()) -> Collection[str]:
        """Return the repositories that these runs and all queued or running runs may read."""
        workspace = self._workspace
        workspace.store.update(waits=True)
        requests = [record.request for record in workspace.store.unended() if isinstance(record, RunRecord)]
        needed = []
        for base in {request.base for request in (*requests, *runs)} - {EMBEDDED}:
            with contextlib.suppress(RankVizError):
                reference = workspace.references.model(base)
                is_name = reference.kind == "name"
                names = [catalog_models.full_name(self._api.models.all(), base) if is_name else reference.text]
                model = self._api.models.at_hand(base)
                if model and model.unsloth_checkpoint:
                    names.append(model.unsloth_checkpoint.repository)
                needed += names
                for name in names:  # the 4-bit and 16-bit copies that Unsloth may load instead
                    needed.append(f"unsloth/{name.split('/')[-1].removesuffix('-bnb-4bit').removesuffix('-unsloth')}")
        return needed

    def _require_place(self, sweep_id: str) -> None:
        """Raise LimitError where the queue has no place for one more sweep or probe. A sweep with open runs passes."""
        limits = self._workspace.limits
        unended = self._workspace.store.unended()
        queued = {record.request.sweep_id for record in unended}
        if sweep_id in queued:
            return
        mine = {record.request.sweep_id for record in unended if self._workspace.rights.made(record.run_id)}
        if limits.sweeps_per_visitor is not None and len(mine) >= limits.sweeps_per_visitor:
            allowed = units.counted(limits.sweeps_per_visitor, "sweep")
            raise LimitError(
                f"This server allows {allowed} queued or running per visitor (you have {len(mine):,}). Wait until one "
                "of yours has ended, or cancel one."
            )
        most = limits.sweeps
        if most and not mine:  # no sweep for anybody stays none
            most = None if limits.first_sweeps is None else max(most, limits.first_sweeps)
        if most is not None and len(queued) >= most:
            raise LimitError(
                f"This server allows {units.counted(most, 'sweep')} queued or running in total, and {len(queued):,} "
                "are. Try again later."
            )

    def _require_sweep(self, runs: Sequence[RunRequest], sweep_id: str, adds: bool) -> None:
        """Raise LimitError where a sweep would have too many runs, or, if it is resumed, too many at once."""
        here, coming = self._workspace.store.sweep(sweep_id).runs, {run.run_id for run in runs}
        limits = self._workspace.limits
        if adds:
            return check_setting_limits(limits, runs_per_sweep=len(here) + len(coming))
        queued = {run.run_id for run in here if not run.state.ended} - coming
        if len(queued) + len(coming) > limits.runs_per_sweep:
            raise LimitError(
                f"This server allows at most {limits.runs_per_sweep:,} runs of a sweep queued or running "
                f"({len(queued):,} are, and this adds {len(coming):,}). Wait until those have ended, or delete some "
                "that failed or were cancelled.",
                "runs_per_sweep",
            )

    def _require_adapters(self, runs: Sequence[RunRequest]) -> None:
        """Raise LimitError where the visitor's adapters leave no room for those of these runs. Runs do not count whose
        base is only on the Hub and was not looked up since the start of this server."""
        most_mb, store = self._workspace.limits.adapters_mb_per_visitor, self._workspace.store
        if most_mb is None or not runs:
            return
        mine = [record for record in store.all() if self._workspace.rights.made(record.run_id)]
        queued = [record.request for record in mine if not record.state.ended]
        kept = sum(store.saved_adapter_bytes(record.run_id) for record in mine) + sum(map(self._coming_bytes, queued))
        new = sum(map(self._coming_bytes, runs))
        if kept + new > most_mb * 10**6:
            raise LimitError(
                f"This server keeps at most {most_mb:,} MB of the adapters of a visitor's runs, queued ones included "
                f"(yours take {units.file_size(kept)}, and this adds {units.file_size(new)}). Delete some, or choose "
                "fewer or lower ranks."
            )

    def _coming_bytes(self, run: RunRequest) -> int:
        """Return the bytes of adapters that a run will save beside what it has saved already."""
        device = self._workspace.here()
        with contextlib.suppress(RankVizError):
            if model := self._api.models.at_hand(run.base):
                size = run_adapter_bytes(plan_on(model, run.lora, run.training, device), run, device)
                return max(0, all_adapters_bytes(run, size) - self._workspace.store.saved_adapter_bytes(run.run_id))
        return 0

    def _require_disk(self, runs: Sequence[RunRequest] = (), sweep_id: str = "") -> None:
        """Raise LimitError where even deleting all that can be replaced would not meet the disk limit."""
        if not self._is_over_disk():
            return
        store, home = self._workspace.store, self._workspace.home
        replaceable = {run_id for each in removal.replaceable(store, besides=sweep_id) for run_id in each}
        idle = reach.idle(home, self._needed_bases(runs)) if self._workspace.shared else ()
        leaving = sum(bytes_in(folder, on_disk=True) for folder in removal.deleted_folders(store, replaceable))
        leaving += sum(each.size_on_disk for each in idle)
        if self._is_over_disk(leaving, measure=True):
            raise LimitError(
                f"The runs on this server, and bases from the Hub, use {units.file_size(self._disk[1])}, more than the "
                f"{self._workspace.limits.disk_mb:,} MB that it allows. Delete runs of yours, or try again later."
            )

    def free_disk(self, besides: Collection[str] = (), sweep_id: str = "") -> None:
        """Delete base models, then old runs, until the disk limit is met. Runs in `besides` and of this sweep are not
        deleted. The caller holds RunStore.admission."""
        if not self._is_over_disk():
            return
        if self._workspace.shared:
            reach.make_room(self._workspace.home, self._needed_bases(), lambda: not self._is_over_disk(measure=True))
        for each in removal.replaceable(self._workspace.store, besides=sweep_id):
            if not self._is_over_disk(measure=True):
                return
            if not set(besides).intersection(each):
                removal.delete_all(self._workspace.store, [each])

    def _is_over_disk(self, leaving: int = 0, *, measure: bool = False) -> bool:
        """Return whether the runs folder without `leaving` bytes exceeds its limit. measure: measure it now."""
        if (most_mb := self._workspace.limits.disk_mb) is None:
            return False
        if measure or time.monotonic() - self._disk[0] > DISK_SECONDS:
            self._disk = time.monotonic(), bytes_in(self._workspace.home, on_disk=True)
        return self._disk[1] - leaving > most_mb * 10**6


def require_runs(
    store: RunStore, owners: Collection[str], new: int, most: int | None, most_in_total: int | None, besides: str = ""
) -> Sequence[Deletion]:
    """Return the runs and probes to delete once `new` runs are queued: the owner's ended probes, then the oldest runs
    of all visitors that can be made again. Raise LimitError where that is not enough. The caller holds
    RunStore.admission.

    owners: visitor ids of the owner of the new runs. besides: the sweep that gets the new runs; none of its runs is
    deleted.
    """
    if not new or (most is None and most_in_total is None):
        return ()
    leaving: Sequence[Deletion] = ()
    kept, in_total = len(store.ids(owners)), len(store.ids())
    if most is not None and (over := kept + new - most) > 0:
        store.update(waits=True)
        whose = {owner for owner in owners if owner}  # the host's own stay
        ended = (each.run_id for each in store.probes() if each.state.ended)
        probes = [(probe_id,) for probe_id in ended if store.ownership(probe_id).owner in whose]
        if over > len(probes):
            raise LimitError(
                f"This server keeps at most {most:,} runs per visitor, probes too (you have {kept - len(probes):,}, "
                f"and this adds {new:,}). Export and delete some of yours first."
            )
        leaving = probes[:over]
    if most_in_total is None or (over := in_total + new - len(leaving) - most_in_total) <= 0:
        return leaving
    leaving = list(leaving)
    for each in removal.replaceable(store, besides):
        if over > 0 and each not in leaving:
            leaving.append(each)
            over -= len(each)
    if over > 0:
        raise LimitError(
            f"This server keeps at most {most_in_total:,} runs of all visitors, and {in_total:,} are there. Delete "
            "runs of yours, or try again later."
        )
    return leaving
