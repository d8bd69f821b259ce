"""Runs and sweeps: started, extended, cancelled and resumed."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from rankviz import dataset
from rankviz.api.models import Models
from rankviz.api.probes import Preflight
from rankviz.api.runs.followed import FollowedRuns
from rankviz.api.runs.measured import Measured
from rankviz.api.workspace import Workspace, in_turn, writes
from rankviz.core.runs.estimate import refuse_base
from rankviz.core.runs.events import RAY, fingerprints
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import (
    QUICK_RANKS,
    SweepRequest,
    added_run,
    check_count,
    check_download,
    check_sweep,
    quick_look,
)
from rankviz.errors import BadDataError, InvalidSettingError, quoted
from rankviz.settings import paid_limits
from rankviz.shared.quota import Quota
from rankviz.store import durable
from rankviz.store.durable import is_kept
from rankviz.store.ownership import ANYWHERE, Destination
from rankviz.visitor import data_folder

if TYPE_CHECKING:
    from rankviz.core.cost.setup import Device
    from rankviz.core.runs.estimate import RunEstimate
    from rankviz.core.runs.record import Sweep
    from rankviz.core.runs.request import RunRequest
    from rankviz.jobs import Engine


GIVE_AGAIN = (
    "RankViz does not find the file {} that this sweep was trained on, so its data must be given again. Start a new "
    "sweep with that file."
)
_DIGEST = re.compile("[0-9a-f]{16}")


def one_more(workspace: Workspace, sweep: Sweep, data: str) -> str:
    """What one more run of a sweep names as its data: a copy that is kept here, or the file that a run names, by its
    whole path. As it stands there where it is a sample or not here."""
    if dataset.is_sample(data, workspace.assets):
        return data
    digests, name = _digests(sweep, data), PurePath(data).name
    kept = chain.from_iterable(_kept(workspace, sweep, digest, name) for digest in digests)
    same = next((file for file in chain(kept, _named(workspace, data)) if _is_one_of(file, digests)), None)
    return data if same is None else str(same.absolute())


def data_again(workspace: Workspace, sweep: Sweep, data: str) -> str:
    """Where the data of a run that goes on can be read: what the run names, or, where that is a copy of its owner's
    that has gone or was changed, the same content under another name. `bring_back` makes the copy again."""
    copy = Path(data)
    folder = data_folder(workspace.store.home, _owner(workspace, sweep))
    if copy.parent.parent != folder or not _DIGEST.fullmatch(copy.parent.name):
        return data
    files = _kept(workspace, sweep, copy.parent.name, copy.name)
    return str(next((file for file in files if _is_one_of(file, [copy.parent.name])), copy))


def bring_back(workspace: Workspace, runs: Sequence[RunRequest]) -> None:
    """Make the copies again that these runs name, from the data that `again` found. OSError where one cannot be
    written."""
    there = {workspace.store.record(run.run_id).request.data: run.data for run in runs}
    for named, data in there.items():
        if named != data:
            durable.copy(Path(data), Path(named))


def require(workspace: Workspace, sweep: Sweep, data: str) -> None:
    """BadDataError where what a run of a sweep names is no sample, and no file that the sweep was trained on."""
    if dataset.is_sample(data, workspace.assets):
        return
    is_whole = PurePath(data).is_absolute()  # a worker stands in another folder
    if not is_whole or not any(_is_one_of(file, _digests(sweep, data)) for file in _named(workspace, data)):
        raise BadDataError(GIVE_AGAIN.format(quoted(PurePath(data).name)))


def _owner(workspace: Workspace, sweep: Sweep) -> str:
    return workspace.store.ownership(sweep.runs[0].run_id).owner


def _kept(workspace: Workspace, sweep: Sweep, digest: str, name: str) -> Iterator[Path]:
    """What is filed by a content for the owner of a sweep or for whoever asks: under this name first, then under any
    other, as when it was given again."""
    owners = dict.fromkeys((_owner(workspace, sweep), *workspace.visitor.ids))
    folders = [data_folder(workspace.store.home, owner) / digest for owner in owners]
    yield from (folder / name for folder in folders)
    for folder in folders:
        yield from sorted(folder.glob("[!.]*"))  # what begins with a dot is being copied


def _digests(sweep: Sweep, data: str) -> Sequence[str]:
    """Of the content that its runs have read; where none has, of that by which the file is filed here."""
    known = fingerprints(run.environment for run in sweep.runs) or {PurePath(data).parent.name}
    return sorted(filter(_DIGEST.fullmatch, known))


def _named(workspace: Workspace, data: str) -> Iterator[Path]:
    """The file that whoever asks may read by this name, if there is one."""
    with contextlib.suppress(BadDataError, InvalidSettingError):
        if path := workspace.references.data(data).path:
            yield path


def _is_one_of(file: Path, digests: Sequence[str]) -> bool:
    try:
        if not file.is_file() or file.stat().st_size > dataset.MAX_FILE_BYTES:
            return False
        return durable.digest_of(file) in digests
    except OSError:
        return False


FOLDER_IS_NOT_SENT = "The base is a folder of this machine, and weights are not sent."
NOTHING_TO_RESUME = "Nothing to resume: no run of this sweep has failed or was cancelled."
CANCEL_FIRST = "To move runs that wait, cancel them first."


class Runs(FollowedRuns):
    """What a rank buys, trained here."""

    def __init__(self, workspace: Workspace, models: Models, measured: Measured, preflight: Preflight, quota: Quota):
        super().__init__(workspace, models, measured, quota)
        self._preflight = preflight

    def check(self, request: SweepRequest, destination: Destination = ANYWHERE, device: Device | None = None) -> None:
        """Check that a sweep could start there; else a RankVizError says what to change. Nothing is written.

        destination: the engine. On another than that of this machine, this one needs no trainer and no GPU.
        device: what the sweep will find there, where whoever asks has chosen it; without it what is known of it.
        """
        if self._machines.is_here(destination):
            self._workspace.require_trainer()
            self.check_limits(request)
            here = self._workspace.here()
            request.training.settle(here)
            self._check_data(request)
            refuse_base(self._models.get(request.base), request.lora, request.training, here)
            self._preflight.require(request.training, request.base)
            self._require_download(request)
            self._require_time(request, destination)
            return
        engine = self._machines.engine(destination.engine)
        if why_not := self._machines.why_not(engine.name):
            raise InvalidSettingError(why_not)
        self.check_limits(request, paid=not engine.is_limited)
        device = device or self._machines.device(engine.name)
        request.training.settle(device)
        self._check_data(request)
        self._require_there(request, engine, device)
        self._require_time(request, destination)

    def check_limits(self, request: SweepRequest, *, paid: bool = False) -> None:
        """LimitError where a sweep is more than this server allows of one, whatever is queued and kept here. A base
        without weights is refused as `References.base` has it.

        paid: whether whoever asks pays for its machine.
        """
        limits = paid_limits(self._workspace.limits) if paid else self._workspace.limits
        check_count(request.run_count, limits)  # before the larger number that any sweep may have
        request.validate()
        self._workspace.references.base(request.base)
        if not paid:
            self._quota.check_base(request.base)  # first: no other setting would help
        check_sweep(request.runs(sweep_id="asked", created_at=0.0), limits)

    def _require_time(self, request: SweepRequest, destination: Destination) -> None:
        runs = self._with_kept_data(request).runs(sweep_id="asked", created_at=0.0)
        self.require_minutes(runs, destination.engine)

    def _check_data(self, request: SweepRequest) -> None:
        preview = self.preview(request.data)
        if request.exact_match_examples:
            preview.require_prompts()

    def check_runs(
        self, runs: Sequence[RunRequest], destination: Destination = ANYWHERE, device: Device | None = None
    ) -> None:
        """Whether runs that are here, or are made of such, could start there: what `check` asks, since they may come
        from elsewhere."""
        engine, is_here = self._machines.engine(destination.engine), self._machines.is_here(destination)
        if is_here:
            self._workspace.require_trainer()
        elif why_not := self._machines.why_not(engine.name):
            raise InvalidSettingError(why_not)
        check_sweep(runs, self._workspace.limits if engine.is_limited else paid_limits(self._workspace.limits))
        for alike in _alike(runs):
            run = alike[0]
            self._workspace.references.base(run.base)
            if engine.is_limited:
                self._quota.check_base(run.base)
            require(self._workspace, self.sweep(run.sweep_id), run.data)
            self.preview(run.data)
            if is_here:
                refuse_base(self._models.get(run.base), run.lora, run.training, self._workspace.here())
                self._preflight.require(run.training, run.base)
                self._require_download(run)
            else:
                self._require_there(run, engine, device or self._machines.device(engine.name))
            self.require_minutes(alike, engine.name)

    def _require_there(self, request: RunRequest | SweepRequest, engine: Engine, device: Device) -> None:
        """Refuse a base that cannot be trained on an engine other than this machine's."""
        if not engine.sees_folders and self._workspace.references.model(request.base).path:
            raise InvalidSettingError(self.folder_is_not_sent(request, engine.name))
        refuse_base(self._models.get(request.base), request.lora, request.training, device)
        if engine.is_limited:
            self._require_download(request, device)

    def folder_is_not_sent(self, request: RunRequest | SweepRequest, engine: str) -> str:
        """With what to do instead. A sweep that is here keeps its base."""
        new = isinstance(request, SweepRequest)
        instead = "Give it as a Hub id." if new else "Choose a place that sees this folder."
        same = "If the nodes have the same disk, set RANKVIZ_RAY_SAME_FOLDERS."
        return " ".join(
            [FOLDER_IS_NOT_SENT, instead, *([same] if engine == RAY and self._workspace.visitor.admin else [])]
        )

    def _require_download(self, request: RunRequest | SweepRequest, device: Device | None = None) -> None:
        """device: where it is not fetched to this machine."""
        if self._workspace.limits.base_parameters is not None:
            fetched = self._preflight.weight_bytes(request.training, request.base, device)
            check_download(fetched, self._workspace.limits)

    @writes
    def start(self, request: SweepRequest, destination: Destination = ANYWHERE, device: Device | None = None) -> str:
        """Queue a sweep and see that someone works the queue; returns its id.

        destination, device: as in `check`.

        It is checked before anything is queued. A file is copied into the runs folder, since an upload may not outlive
        the page.
        """
        owner, references = self._workspace.rights.somebody(), self._workspace.references
        self.check(request, destination, device)
        store, base, file = self._workspace.store, references.model(request.base), references.data(request.data).path
        request = replace(request, base=base.text)
        runs = request.runs(sweep_id="asked", created_at=0.0)
        copied = file.stat().st_size if file and not is_kept(store.kept_path(file, owner.id)) else 0
        with (
            self._workspace.starts.turn(),
            self._quota.admitting(new=len(runs), runs=runs),
            self._workspace.room.holding(copied),
        ):
            file = references.data(request.data).path  # an upload may have gone meanwhile
            sweep_id = store.create(request, owner.id, destination, data=file)
        self._workspace.work_queue()
        return sweep_id

    def quick(self, request: SweepRequest, ranks: Sequence[int] = QUICK_RANKS, *, repeat: bool = True) -> str:
        """Queue a quick look: two ranks, the higher one truncated to every lower rank; returns the sweep's id.

        Args:
            request: Base, data and settings. Its ranks are replaced, and only its first seed is used.
            ranks: The two ranks that are trained.
            repeat: Whether the lower one is trained once more, with another seed, to measure the noise of a run.
        """
        return self.start(quick_look(request, ranks, repeat=repeat))

    @writes
    def add(self, sweep_id: str, r: int, destination: Destination | None = None, device: Device | None = None) -> str:
        """Queue one more run of a sweep, with the same settings; returns the run's id.

        destination: where it runs; None is where the sweep's runs are to be. device: as in `check`.

        It takes learning rate and seed from the best run at the highest rank; at a rank that has such a run, the next
        seed. The sweep's other runs stay as they are.
        """
        request, references = self.added_request(sweep_id, r), self._workspace.references
        self._required_run_ids(sweep_id)
        destination = destination or self._machines.destination(self.sweep(sweep_id))
        self.check_runs([request], destination, device)
        with self._workspace.starts.turn(), self._quota.admitting(new=1, runs=[request], sweep_id=sweep_id, adds=True):
            first, file = self.sweep(sweep_id).runs[0], references.data(request.data).path
            ownership = self._workspace.store.ownership(first.run_id)
            self._workspace.store.add(request, ownership, destination, data=file)
        self._workspace.work_queue()
        return request.run_id

    def expected_added(self, sweep_id: str, r: int) -> RunEstimate | None:
        """Memory and training time of the run that `add` would queue; None where its base model is not available."""
        sweep = self.sweep(sweep_id)
        environment = next((run.environment for run in sweep.runs if run.environment), {})
        return self.expected_run(RunRecord(request=self.added_request(sweep_id, r), environment=environment))

    def added_request(self, sweep_id: str, r: int) -> RunRequest:
        """The run that `add` would queue. A recorded sweep cannot be extended."""
        sweep = self.sweep(sweep_id)
        if sweep.recorded:
            raise InvalidSettingError("A sweep that RankViz ships cannot be extended. Train one of your own.")
        like = min(sweep.runs, key=_best_at_the_highest_rank).request
        like = replace(like, data=one_more(self._workspace, sweep, like.data))
        return added_run([run.request for run in sweep.runs], like, r, created_at=time.time())

    @in_turn("changes")
    @writes
    def cancel(self, run_or_sweep_id: str) -> Sequence[str]:
        """Cancel a run or a whole sweep; when its process has ended, returns the cancelled runs."""
        from rankviz.core.runs.events import RunCancelled

        run_ids, supervisor = self._required_run_ids(run_or_sweep_id), self._workspace.supervisor
        supervisor.cancel_runs(run_ids, by_admin=bool(self.owner_of(run_or_sweep_id)))
        unwritten = {run_id for run_id, end in supervisor.unwritten.items() if isinstance(end, RunCancelled)}
        store = self._workspace.store
        here = [each for each in run_ids if store.run_dir(each).is_dir()]  # some may have been deleted meanwhile
        return [each for each in here if each in unwritten or store.record(each).state == "cancelled"]

    @writes
    def resume(
        self, sweep_id: str, destination: Destination | None = None, device: Device | None = None
    ) -> Sequence[str]:
        """Queue the failed and cancelled runs of a sweep again; completed runs stay. Returns their ids.

        destination: where they run from now on; None is where they were to run. device: as in `check`.
        """
        self._required_run_ids(sweep_id)
        destination = destination or self._machines.destination(self.sweep(sweep_id))
        again = self.resumed_requests(sweep_id)
        self.check_runs(again, destination, device)
        with self._workspace.starts.turn(), self._quota.admitting(new=0, runs=again, sweep_id=sweep_id):
            bring_back(self._workspace, again)
            queued = self._workspace.store.requeue_all([each.run_id for each in again], destination)
            if not queued:
                raise InvalidSettingError(NOTHING_TO_RESUME)  # somebody else resumed or deleted them meanwhile
        self._workspace.work_queue()
        return queued

    def resumed_requests(self, sweep_id: str) -> Sequence[RunRequest]:
        """The runs that `resume` would queue, with their data where it is now. InvalidSettingError where there is
        none."""
        sweep = self.sweep(sweep_id)
        again = [run.request for run in sweep.resumable]
        if not again:
            raise InvalidSettingError(NOTHING_TO_RESUME + ("" if sweep.ended else f" {CANCEL_FIRST}"))
        there = {data: data_again(self._workspace, sweep, data) for data in {each.data for each in again}}
        return [replace(each, data=there[each.data]) for each in again]


def _alike(runs: Sequence[RunRequest]) -> Collection[Sequence[RunRequest]]:
    """Those of each base, data and setting apart from rank, learning rate and seed; all of a sweep's are alike unless
    they come from elsewhere."""
    found: dict[tuple, list[RunRequest]] = {}
    for run in runs:
        key = run.base, run.data, replace(run.lora, r=1, lora_alpha=1.0), run.training
        found.setdefault(key, []).append(run)
    return found.values()


def _best_at_the_highest_rank(run: RunRecord) -> tuple[int, float]:
    """Orders runs; one without a finite loss comes last of its rank."""
    loss = run.loss_after.loss if run.loss_after else math.inf
    return -run.request.r, loss if math.isfinite(loss) else math.inf
