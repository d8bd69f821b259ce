"""What a visitor may have at once: sweeps in the queue, runs, bases and adapters that are kept, room on the disk."""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from threading import Thread
from typing import TYPE_CHECKING, Any

from rankviz import units
from rankviz.api.runs.measured import Known
from rankviz.api.workspace import in_turn, writes
from rankviz.catalog import models as catalog_models
from rankviz.core.cost.question import plan_on
from rankviz.core.cost.setup import card
from rankviz.core.probe import ProbeRecord
from rankviz.core.runs.estimate import adapter_bytes, saved_bytes
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import check_base, check_count
from rankviz.errors import InvalidSettingError, LimitError, RankVizError
from rankviz.machine import disk
from rankviz.paths import bytes_in, bytes_on_disk
from rankviz.references import EMBEDDED
from rankviz.store import removal
from rankviz.store.removal import folders_of
from rankviz.store.temp import Usage
from rankviz.visitor import Visitor, data_folder, home_of

if TYPE_CHECKING:
    from rankviz.api.models import Models
    from rankviz.api.workspace import Workspace
    from rankviz.core.runs.request import RunRequest
    from rankviz.store import RunStore
    from rankviz.store.removal import Deletion


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


class Room:
    """Of all visitors of one runs folder."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace
        self._changing = threading.RLock()
        self._coming_bytes: Counter[str] = Counter()
        self._coming_uploads: Counter[str] = Counter()
        self._coming_temp = 0.0

    @contextlib.contextmanager
    def holding(self, size: float, *, up_to: float = 0) -> Iterator[float]:
        """Within it, so many bytes may be written for whoever asks as it gives, as of `hold`. LimitError where their
        files leave no room."""
        visitor = self._workspace.visitor
        held = self.hold(visitor, size, up_to=up_to)
        try:
            yield held
        finally:
            self.release(visitor, held)

    def given(self, size: float, write: Callable[[float | None], Mapping[str, Any]]) -> Mapping[str, Any]:
        """The reply of what writes at most as many bytes as it is given, and replies how many it "takes": that many are
        held meanwhile.

        size: that it is given first. Where it takes more, it writes nothing and is asked again; None is no limit.
        """
        if self._workspace.limits.files_mb_per_visitor is None:
            return write(None)
        while True:
            with self.holding(0, up_to=size) as held:
                reply = write(held)
            if reply["takes"] <= held or held < size:
                return reply
            size = reply["takes"]

    def hold(self, visitor: Visitor, size: float, *, up_to: float = 0) -> float:
        """Hold room for so many more bytes until `release`; returns how many, which are more where `up_to` is and that
        much is left. LimitError where the visitor's files leave no room."""
        with self._changing:
            held = min(max(size, up_to), self._required_bytes(visitor, size))
            self._coming_bytes[visitor.id] += held
        return held

    def _required_bytes(self, visitor: Visitor, size: float) -> float:
        """How much more may be kept for a visitor. LimitError where it is less than so much."""
        left, most_mb = self.left_bytes(visitor), self._workspace.limits.files_mb_per_visitor
        if size > left:
            raise LimitError(
                f"This server keeps at most {most_mb:,} MB of a visitor's files: uploads, the data and journals of "
                f"their runs, and result files. {self._expiry}{self._expiry_of_runs}"
            )
        return left

    def left_bytes(self, visitor: Visitor) -> float:
        """How much more may be kept for a visitor."""
        most_mb = self._workspace.limits.files_mb_per_visitor
        if most_mb is None:
            return math.inf
        return most_mb * 10**6 - self.used_bytes(visitor) - sum(self._coming_bytes[name] for name in visitor.ids)

    def hold_upload(self, visitor: Visitor, size: int, *, up_to: float = 0, files: int = 0) -> float:
        """The same of uploads, whose number is bounded too, and the bytes of all visitors' together. Those of others
        make room last, for what is not refused."""
        limits, temp = self._workspace.limits, self._workspace.temp
        most = limits.uploads_per_visitor
        with self._changing:
            if most is not None and files:
                kept = temp.usage(visitor).files + sum(self._coming_uploads[name] for name in visitor.ids)
                if kept + files > most:
                    raise LimitError(f"This server keeps at most {most:,} uploads of a visitor. {self._expiry}")
            self._required_bytes(visitor, size)
            left = temp.require_room(limits.temp_mb, self._coming_temp + size)
            held = self.hold(visitor, size, up_to=min(up_to, size + left))
            self._coming_uploads[visitor.id] += files
            self._coming_temp += held
        return held

    def release(self, visitor: Visitor, size: float) -> None:
        """What was held has been written or given up."""
        with self._changing:
            self._coming_bytes[visitor.id] -= size
            self._coming_bytes = +self._coming_bytes

    def release_upload(self, visitor: Visitor, size: float, files: int = 0) -> None:
        """The same of uploads."""
        with self._changing:
            self.release(visitor, size)
            self._coming_uploads[visitor.id] -= files
            self._coming_uploads = +self._coming_uploads
            self._coming_temp -= size

    def used_bytes(self, visitor: Visitor) -> int:
        """Of all files of a visitor that are here."""
        from rankviz.catalog import own_studies

        home, temp, store = self._workspace.home, self._workspace.temp, self._workspace.store
        folders = [(data_folder(home, owner), home_of(home, owner) / own_studies.FOLDER) for owner in visitor.ids]
        kept = sum(bytes_in(folder) for each in folders for folder in each)
        return temp.usage(visitor).size_bytes + kept + store.journal_bytes(visitor.ids)

    @property
    def _expiry(self) -> str:
        hours = units.counted(self._workspace.settings.temp_hours, "hour")
        return f"Delete your uploads on Runs; those that are left are removed after {hours}."

    @property
    def _expiry_of_runs(self) -> str:
        days = self._workspace.limits.days_kept
        after = "" if days is None else f", or until {units.counted(days, 'day')} after their end"
        return f" Runs stay until you delete them{after}."


class Uploads:
    """Of whoever asks."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace

    def usage(self) -> Usage:
        """None on a page of one's own, where an upload is a file like any other, nor of whom nobody can tell."""
        visitor = self._workspace.visitor
        is_known = self._workspace.shared and not visitor.is_nobody
        return self._workspace.temp.usage(visitor) if is_known else Usage(0, 0)

    @in_turn("changes")
    @writes
    def delete(self) -> Usage:
        """Delete them all; returns what is gone. Runs have copies of their data, and stay."""
        if not self._workspace.shared:
            hours = units.counted(self._workspace.settings.temp_hours, "hour")
            raise InvalidSettingError(
                f"This page is your own: uploads lie in {self._workspace.temp.page}, from where they are removed after "
                f"{hours}. Delete there what is to go sooner."
            )
        visitor, temp = self._workspace.rights.somebody(), self._workspace.temp
        before = temp.usage(visitor)
        for path in temp.uploads_of(visitor):
            temp.remove_upload(path, visitor)
        after = temp.usage(visitor)
        return Usage(before.files - after.files, before.size_bytes - after.size_bytes)


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
            removal.let_go(self._workspace.store, for_runs)
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

    def _require_runs(self, new: int, sweep_id: str = "") -> Sequence[Deletion]:
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
        replaceable = removal.replaceable(store, besides=sweep_id)
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
        for each in removal.replaceable(self._workspace.store, besides=sweep_id):
            if not self._is_over_disk(anew=True):
                return
            if not set(besides).intersection(each.run_ids):
                removal.let_go(self._workspace.store, [each])

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
) -> Sequence[Deletion]:
    """LimitError where so many more runs cannot be kept for their owner, or for all. Returns what is to make room once
    they are there, while nobody else is admitted: ended probes of their owner where it is theirs that are too many, and
    for all the oldest that can be had again.

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
            raise LimitError(_too_many(store, owners, most, kept - len(probes), new))
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


def _too_many(store: RunStore, owners: Collection[str], most: int, kept: int, new: int) -> str:
    """kept: of these owners, without ended probes."""
    unended = (each for each in store.unended() if isinstance(each, ProbeRecord))
    probes = any(store.ownership(each.run_id).owner in owners for each in unended)
    among, wait = (" with probes that have not ended", ", or wait for those probes") if probes else ("", "")
    return (
        f"This server keeps at most {most:,} runs per visitor (you have {kept:,}{among}, and this adds {new:,}). "
        f"Export and delete some of yours first{wait}."
    )
