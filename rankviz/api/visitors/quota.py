"""What a visitor may have at once: sweeps in the queue, runs that are kept, room on the disk.

Asked in one place before anything is queued or kept, and together with it: `admitting` lets one in at a time, so that
two requests at once do not both take the last place.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from rankviz import units
from rankviz.api.visitors.adapters import Adapters
from rankviz.api.visitors.bases import Bases
from rankviz.core.probe.record import ProbeRecord
from rankviz.core.runs.request import check_base, check_count
from rankviz.errors import LimitError
from rankviz.paths import bytes_on_disk
from rankviz.store import going
from rankviz.store.removal import folders_of

if TYPE_CHECKING:
    from rankviz.api.models import Models
    from rankviz.api.workspace import Workspace
    from rankviz.core.runs.record import RunRecord
    from rankviz.core.runs.request import RunRequest
    from rankviz.store import RunStore
    from rankviz.store.going import Going

DISK_SECONDS = 20.0
"""So long is the size of the runs folder taken as known."""


class Quota:
    """Of whoever asks. In own mode nothing is limited unless the settings say so."""

    def __init__(self, workspace: Workspace, models: Models):
        self._workspace = workspace
        self._models = models
        self.bases = Bases(workspace, models)
        self._adapters = Adapters(workspace, models)
        self._disk: tuple[float, int] = (-DISK_SECONDS, 0)

    @contextlib.contextmanager
    def admitting(
        self, *, new: int, runs: Sequence[RunRequest] = (), sweep_id: str = "", adds: bool = False
    ) -> Iterator[None]:
        """Within it, `new` runs or probes may be queued; LimitError where the visitor or the server has no room. Runs
        that make room for them go once they are there: where they are refused within it, none goes.

        runs: what is to be trained, also where it is kept already.
        sweep_id: the sweep that they belong to, where it is there already.
        adds: whether they are no runs of it yet.
        """
        if self._limitless:
            if sweep_id:
                self._require_sweep(runs, sweep_id, adds)
            yield
            return
        with self._workspace.store.admission():
            self._workspace.store.wait_until_read()
            records = self._workspace.store.records()
            self._require_place(records, sweep_id)
            if sweep_id:
                self._require_sweep(runs, sweep_id, adds)
            self._adapters.require_room(runs)
            self._require_disk(runs, sweep_id)
            for_runs = self._require_runs(new, sweep_id)
            yield
            going.let_go(self._workspace.store, for_runs)
            self._free_disk(sweep_id=sweep_id)

    def require_room(self, new: int) -> None:
        """LimitError where so many more runs cannot be kept for this visitor, whatever makes room, or the disk is in
        use. Nothing goes."""
        self._require_disk()
        self._require_runs(new)

    def free_disk(self, besides: Collection[str]) -> None:
        """Where what is there is too much, what can be had again makes room for these runs, which have come."""
        if self._is_over_disk():
            with self._workspace.store.admission():
                self._free_disk(besides)

    def _require_runs(self, new: int, sweep_id: str = "") -> Sequence[Going]:
        limits, owners = self._workspace.limits, self._workspace.visitor.ids
        most = {"most": limits.runs_kept, "most_in_total": limits.runs_in_total}
        return require_runs(self._workspace.store, owners, new, **most, besides=sweep_id)

    def _require_disk(self, runs: Sequence[RunRequest] = (), sweep_id: str = "") -> None:
        """LimitError where what is there and what will be saved is too much, whatever makes room. Nothing goes: that is
        for when it is there."""
        coming = self._coming_bytes(runs)
        if not self._is_over_disk(coming):
            return
        store = self._workspace.store
        replaceable = going.replaceable(store, besides=sweep_id)
        folders = folders_of(store, [run_id for each in replaceable for run_id in each.run_ids])
        if self._is_over_disk(coming - self.bases.idle_bytes(runs) - sum(map(bytes_on_disk, folders)), anew=True):
            raise LimitError(
                f"The runs on this server, and bases from the Hub, use {units.file_size(self._disk_bytes() + coming)} "
                f"with what queued runs will save, more than the {self._workspace.limits.disk_mb:,} MB that it allows. "
                "Delete runs of yours, or try again later."
            )

    def _free_disk(self, besides: Collection[str] = (), sweep_id: str = "") -> None:
        """Bases from the Hub first, then runs but for these and for this sweep, until what is there is allowed."""
        if not self._is_over_disk():
            return
        self.bases.make_room(lambda: not self._is_over_disk(anew=True))
        for each in going.replaceable(self._workspace.store, besides=sweep_id):
            if not self._is_over_disk(anew=True):
                return
            if not set(besides).intersection(each.run_ids):
                going.let_go(self._workspace.store, [each])

    def _is_over_disk(self, coming: int = 0, *, anew: bool = False) -> bool:
        """coming: what will be saved, less what will make room."""
        most_mb = self._workspace.limits.disk_mb
        return most_mb is not None and self._disk_bytes(anew=anew) + coming > most_mb * 10**6

    def check_base(self, base: str) -> None:
        """LimitError where the base model is too large, by its config, or by its files where the Hub gives them."""
        limits = self._workspace.limits
        if limits.base_parameters is None:
            return
        model = self._models.get(base)
        check_base((model.whole or model).total_parameters, limits)

    @property
    def _limitless(self) -> bool:
        limits = self._workspace.limits
        counts = (limits.sweeps, limits.sweeps_per_visitor, limits.runs_kept, limits.runs_in_total)
        return all(limit is None for limit in (*counts, limits.adapters_mb_per_visitor, limits.disk_mb))

    def _require_place(self, records: Sequence[RunRecord | ProbeRecord], sweep_id: str) -> None:
        """In the queue, for one more sweep or probe; one that is in it has its place."""
        limits = self._workspace.limits
        unended = [record for record in records if not record.state.ended]
        queued = {record.request.sweep_id for record in unended}
        if sweep_id in queued:
            return
        mine = {record.request.sweep_id for record in self._workspace.rights.made_by_visitor(unended)}
        if limits.sweeps_per_visitor is not None and len(mine) >= limits.sweeps_per_visitor:
            raise LimitError(
                f"This server allows {_sweeps(limits.sweeps_per_visitor)} queued or running per visitor (you have "
                f"{len(mine):,}). Wait until one of yours has ended, or cancel one."
            )
        most = limits.sweeps
        if most and not mine:  # none for anybody stays none
            most = None if limits.first_sweeps is None else max(most, limits.first_sweeps)
        if most is not None and len(queued) >= most:
            raise LimitError(
                f"This server allows {_sweeps(most)} queued or running in total, and {len(queued):,} are. Try again "
                "later."
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

    def _disk_bytes(self, *, anew: bool = False) -> int:
        at, used = self._disk
        if anew or time.monotonic() - at > DISK_SECONDS:
            at, used = self._disk = time.monotonic(), bytes_on_disk(self._workspace.home)
        return used

    def _coming_bytes(self, runs: Sequence[RunRequest]) -> int:
        """What these runs and all that are queued will save; nothing where these save nothing. Whoever has none queued,
        and wants no more than a share of the place, is not kept out by what others have queued."""
        limits = self._workspace.limits
        if limits.disk_mb is None or not (new := self._adapters.coming_bytes(runs)):
            return 0
        share = limits.disk_mb * 10**6 / limits.first_sweeps if limits.first_sweeps else 0
        if new <= share and not self._workspace.rights.made_by_visitor(self._workspace.store.unended()):
            return new
        return new + self._adapters.queued_bytes()


def _sweeps(count: int) -> str:
    return units.counted(count, "sweep")


def require_runs(
    store: RunStore,
    owners: Collection[str],
    new: int,
    *,
    most: int | None,
    most_in_total: int | None,
    besides: str = "",
) -> Sequence[Going]:
    """LimitError where so many more runs cannot be kept for their owner, or for all. Returns what is to make room once
    they are there, while nobody else is admitted: ended probes of their owner where it is theirs that are too many, and
    for all the oldest that can be had again.

    owners: the ids of whoever they will belong to.
    besides: the sweep to which they come.
    """
    if not new or (most is None and most_in_total is None):
        return ()
    leaving: Sequence[Going] = ()
    kept, in_total = store.counts(owners)
    if most is not None and (over := kept + new - most) > 0:
        probes = going.ended_probes(store, [owner for owner in owners if owner])  # the host's own stay
        if over > len(probes):
            raise LimitError(_too_many(store, owners, most, kept - len(probes), new))
        leaving = probes[:over]
    if most_in_total is None or (over := in_total + new - len(leaving) - most_in_total) <= 0:
        return leaving
    others = (each for each in going.replaceable(store, besides) if each not in leaving)
    if not (replaced := going.enough(others, over)):
        raise LimitError(
            f"This server keeps at most {most_in_total:,} runs of all visitors, and {in_total:,} are there. Delete "
            "runs of yours, or try again later."
        )
    return [*leaving, *replaced]


def _too_many(store: RunStore, owners: Collection[str], most: int, kept: int, new: int) -> str:
    """kept: of these owners, without ended probes."""
    unended = (each for each in store.unended() if isinstance(each, ProbeRecord))
    probes = any(store.ownership(each.run_id).owner in owners for each in unended)
    among, wait = (" with probes that have not ended", ", or wait for those probes") if probes else ("", "")
    return (
        f"This server keeps at most {most:,} runs per visitor (you have {kept:,}{among}, and this adds {new:,}). "
        f"Export and delete some of yours first{wait}."
    )
