"""Quotas: what a visitor may have at once. Sweeps in the queue, runs, adapters, bases, and room on the disk."""

from __future__ import annotations

import contextlib
import math
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rankviz import units
from rankviz.api.workspace import Operations, writes
from rankviz.catalog import models as catalog_models
from rankviz.catalog import own_studies
from rankviz.core.probe import ProbeRecord
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import check_base, check_count
from rankviz.errors import InvalidSettingError, LimitError, RankVizError
from rankviz.hub import reach
from rankviz.paths import bytes_in, bytes_on_disk
from rankviz.references import EMBEDDED
from rankviz.settings import TEMP_HOURS
from rankviz.store import removal
from rankviz.store.temp import Usage
from rankviz.visitor import Visitor, data_folder, home_of

if TYPE_CHECKING:
    from rankviz.api import Api
    from rankviz.api.workspace import Workspace
    from rankviz.core.runs.request import RunRequest
    from rankviz.store import RunStore
    from rankviz.store.removal import Deletion

KEEPING = f"Delete your uploads on Runs; those that are left are removed after {TEMP_HOURS} hours."


@dataclass(eq=False)
class Held:
    """Room for what is on its way to a visitor's files."""

    visitor: Visitor
    is_upload: bool = False
    """True for uploads, which are counted one by one and for all visitors together."""
    size_bytes: float = 0.0
    files: int = 0


class Room:
    """Room for the files of all visitors of one runs folder."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace
        self._changing = threading.RLock()
        self._held: set[Held] = set()

    @contextlib.contextmanager
    def holding(self, size: float, *, up_to: float = 0) -> Iterator[float]:
        """Context within which so many bytes may be written for the current visitor as it yields. LimitError where
        their files leave no room."""
        held = Held(self._workspace.visitor)
        try:
            self.hold(held, size, up_to=up_to)
            yield held.size_bytes
        finally:
            self.release(held)

    def hold(self, held: Held, size: float, *, up_to: float = 0, files: int = 0) -> None:
        """Hold room for so many more bytes and files until `release`: for up to `up_to` bytes where that much is left.
        LimitError where the visitor or the server has none. Uploads of others make room last, for what is not
        refused."""
        limits, temp = self._workspace.limits, self._workspace.temp
        with self._changing:
            if files and (most := limits.uploads_per_visitor) is not None:
                coming = sum(each.files for each in self._held if each.visitor.id in held.visitor.ids)
                if temp.usage(held.visitor).files + coming + files > most:
                    raise LimitError(f"This server keeps at most {most:,} uploads of a visitor. {KEEPING}")
            left = self.left_bytes(held.visitor)
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
        """Give back room for what has been written or given up."""
        with self._changing:
            self._held.discard(held)
            held.size_bytes, held.files = 0.0, 0

    def left_bytes(self, visitor: Visitor) -> float:
        """Return how many more bytes may be kept for a visitor."""
        most_mb = self._workspace.limits.files_mb_per_visitor
        if most_mb is None:
            return math.inf
        coming = sum(each.size_bytes for each in self._held if each.visitor.id in visitor.ids)
        return most_mb * 10**6 - self.used_bytes(visitor) - coming

    def used_bytes(self, visitor: Visitor) -> int:
        """Return the size of all files of a visitor that are here."""
        home, temp, store = self._workspace.home, self._workspace.temp, self._workspace.store
        folders = [(data_folder(home, owner), home_of(home, owner) / own_studies.FOLDER) for owner in visitor.ids]
        kept = sum(bytes_in(folder) for each in folders for folder in each)
        return temp.usage(visitor).size_bytes + kept + store.journal_bytes(visitor.ids)


class Uploads(Operations):
    """Uploads of the current visitor."""

    def usage(self) -> Usage:
        """Return how many there are and their size; none on a page of one's own, where an upload is a file like any
        other, and none for a visitor who cannot be told from others."""
        visitor = self._workspace.visitor
        is_known = self._workspace.shared and not visitor.is_nobody
        return self._workspace.temp.usage(visitor) if is_known else Usage(0, 0)

    @writes("changes")
    def delete(self) -> Usage:
        """Delete them all; returns their number and size. Runs have copies of their data, and stay."""
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


LEAST_FREE_BYTES = 6 * units.GB
"""As much as the next base may take, by the limits of a shared page."""


class Bases:
    """Bases from the Hub that a shared page keeps below its runs folder."""

    def __init__(self, api: Api):
        self._api, self._workspace = api, api.workspace

    @property
    def _are_ours(self) -> bool:
        return self._workspace.shared and reach.is_own(self._workspace.home)

    def make_room(self, is_enough: Callable[[], bool]) -> None:
        """Remove bases that no run waits for, the least recently used first, until it is enough. Within
        RunStore.admission."""
        if self._are_ours:
            reach.make_room(self._workspace.home, set(self._named()), is_enough)

    def idle_bytes(self, runs: Sequence[RunRequest]) -> int:
        """Return the size of bases that no run waits for, these runs included."""
        idle = reach.idle(self._workspace.home, set(self._named(runs))) if self._are_ours else ()
        return sum(repo.size_on_disk for repo in idle)

    def make_room_on_disk(self) -> None:
        """Make room where the disk has little left, since nothing could be trained any more."""

        def is_enough() -> bool:
            return shutil.disk_usage(self._workspace.home).free >= LEAST_FREE_BYTES

        with contextlib.suppress(FileNotFoundError):  # nothing was written yet
            if not is_enough():
                with self._workspace.store.admission():
                    self.make_room(is_enough)

    def _named(self, runs: Sequence[RunRequest] = ()) -> Iterator[str]:
        """The repositories of these runs and of those that wait or train, with the copies in 4 and 16 bits that Unsloth
        may take instead."""
        store = self._workspace.store
        store.wait_until_read()
        unended = [record.request for record in store.unended() if isinstance(record, RunRecord)]
        for base in {request.base for request in (*unended, *runs)} - {EMBEDDED}:
            with contextlib.suppress(RankVizError):
                reference = self._workspace.references.model(base)
                is_name = reference.kind == "name"
                names = [catalog_models.full_name(self._api.models.all(), base) if is_name else reference.text]
                model = self._api.models.at_hand(base)
                if model and model.unsloth_checkpoint:
                    names.append(model.unsloth_checkpoint.repository)
                yield from names
                for name in names:
                    yield f"unsloth/{name.split('/')[-1].removesuffix('-bnb-4bit').removesuffix('-unsloth')}"


DISK_SECONDS = 20.0
"""Time for which the size of the runs folder is taken as known."""


class Quota(Operations):
    """Quota of the current visitor. On a page of one's own nothing is limited unless the settings say so."""

    def __init__(self, api: Api):
        super().__init__(api)
        self.bases = Bases(api)
        self._disk: tuple[float, int] = (-DISK_SECONDS, 0)

    @contextlib.contextmanager
    def admitting(
        self, *, new: int, runs: Sequence[RunRequest] = (), sweep_id: str = "", adds: bool = False
    ) -> Iterator[None]:
        """Context within which `new` runs or probes may be queued; LimitError where the visitor or the server has no
        room. Runs that make room go once the new ones are there: where those are refused within it, none goes.

        runs: what is to be trained, also where it is kept already.
        sweep_id: the sweep that they belong to, where it is there already.
        adds: whether they are new runs of it.
        """
        store = self._workspace.store
        with store.admission():
            store.wait_until_read()
            self._require_place(sweep_id)
            if sweep_id:
                self._require_sweep(runs, sweep_id, adds)
            self._require_disk(runs, sweep_id)
            leaving = self._require_runs(new, sweep_id)
            yield
            removal.let_go(store, leaving)
            self._free_disk(sweep_id=sweep_id)

    def require_room(self, new: int) -> None:
        """LimitError where so many more runs cannot be kept for this visitor, whatever makes room, or the disk is in
        use. Nothing goes."""
        self._require_disk()
        self._require_runs(new)

    def free_disk(self, besides: Collection[str]) -> None:
        """Make room for these runs, which have come, by what can be had again, where there is too much."""
        if self._is_over_disk():
            with self._workspace.store.admission():
                self._free_disk(besides)

    def check_base(self, base: str) -> None:
        """LimitError where the base model is too large, by its config, or by its files where the Hub gives them."""
        limits = self._workspace.limits
        if limits.base_parameters is not None:
            model = self._api.models.get(base)
            check_base((model.whole or model).total_parameters, limits)

    def _require_place(self, sweep_id: str) -> None:
        """LimitError where the queue has no place for one more sweep or probe; one that is in it has its place."""
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
        """LimitError where a sweep would have too many runs, or, where it goes on, too many in the queue: they may come
        in portions."""
        here, coming = self._workspace.store.sweep(sweep_id).runs, {run.run_id for run in runs}
        limits = self._workspace.limits
        if adds:
            return check_count(len(here) + len(coming), limits)
        queued = {run.run_id for run in here if not run.state.ended} - coming
        if len(queued) + len(coming) > limits.runs_per_sweep:
            raise LimitError(
                f"This server allows at most {limits.runs_per_sweep:,} runs of a sweep queued or running "
                f"({len(queued):,} are, and this adds {len(coming):,}). Wait until those have ended, or delete some "
                "that failed or were cancelled.",
                "runs_per_sweep",
            )

    def _require_runs(self, new: int, sweep_id: str = "") -> Sequence[Deletion]:
        limits, owners = self._workspace.limits, self._workspace.visitor.ids
        most = {"most": limits.runs_kept, "most_in_total": limits.runs_in_total}
        return require_runs(self._workspace.store, owners, new, **most, besides=sweep_id)

    def _require_disk(self, runs: Sequence[RunRequest] = (), sweep_id: str = "") -> None:
        """LimitError where what is there is too much, whatever makes room. Nothing goes yet."""
        store = self._workspace.store
        if not self._is_over_disk():
            return
        replaceable = removal.replaceable(store, besides=sweep_id)
        folders = removal.folders_of(store, [run_id for each in replaceable for run_id in each.run_ids])
        if self._is_over_disk(self.bases.idle_bytes(runs) + sum(map(bytes_on_disk, folders)), measure=True):
            raise LimitError(
                f"The runs on this server, and bases from the Hub, use {units.file_size(self._disk[1])}, more than the "
                f"{self._workspace.limits.disk_mb:,} MB that it allows. Delete runs of yours, or try again later."
            )

    def _free_disk(self, besides: Collection[str] = (), sweep_id: str = "") -> None:
        """Remove bases from the Hub, then runs but for these and for this sweep, until what is there is allowed."""
        if not self._is_over_disk():
            return
        self.bases.make_room(lambda: not self._is_over_disk(measure=True))
        for each in removal.replaceable(self._workspace.store, besides=sweep_id):
            if not self._is_over_disk(measure=True):
                return
            if not set(besides).intersection(each.run_ids):
                removal.let_go(self._workspace.store, [each])

    def _is_over_disk(self, leaving: int = 0, *, measure: bool = False) -> bool:
        """leaving: bytes that can make room. measure: whether the disk is measured now."""
        if (most_mb := self._workspace.limits.disk_mb) is None:
            return False
        if measure or time.monotonic() - self._disk[0] > DISK_SECONDS:
            self._disk = time.monotonic(), bytes_on_disk(self._workspace.home)
        return self._disk[1] - leaving > most_mb * 10**6


def require_runs(
    store: RunStore,
    owners: Collection[str],
    new: int,
    *,
    most: int | None,
    most_in_total: int | None,
    besides: str = "",
) -> Sequence[Deletion]:
    """LimitError where so many more runs cannot be kept for their owner, or for all. Returns what makes room once they
    are there, within RunStore.admission: ended probes of their owner for the owner's limit, and the oldest runs that
    can be had again for that of all.

    owners: the ids of whoever they will belong to.
    besides: the sweep to which they come.
    """
    if not new or (most is None and most_in_total is None):
        return ()
    leaving: Sequence[Deletion] = ()
    kept, in_total = store.counts(owners)
    if most is not None and (over := kept + new - most) > 0:
        probes = removal.ended_probes(store, [owner for owner in owners if owner])  # the host's own stay
        if over > len(probes):
            unended = (each for each in store.unended() if isinstance(each, ProbeRecord))
            waits = any(store.ownership(each.run_id).owner in owners for each in unended)
            among, wait = (" with probes that have not ended", ", or wait for those probes") if waits else ("", "")
            raise LimitError(
                f"This server keeps at most {most:,} runs per visitor (you have {kept - len(probes):,}{among}, and "
                f"this adds {new:,}). Export and delete some of yours first{wait}."
            )
        leaving = probes[:over]
    if most_in_total is None or (over := in_total + new - len(leaving) - most_in_total) <= 0:
        return leaving
    others = (each for each in removal.replaceable(store, besides) if each not in leaving)
    if not (replaced := removal.enough(others, over)):
        raise LimitError(
            f"This server keeps at most {most_in_total:,} runs of all visitors, and {in_total:,} are there. Delete "
            "runs of yours, or try again later."
        )
    return [*leaving, *replaced]
