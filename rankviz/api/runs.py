"""Runs and sweeps: listed, estimated, started, extended, followed, cancelled, resumed, exported and imported."""

from __future__ import annotations

import contextlib
import functools
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from rankviz import dataset, installed, machine, store
from rankviz.api.locations import Queue, QueuePlace
from rankviz.api.measured import Estimator
from rankviz.api.workspace import Operations, writes
from rankviz.children import remade
from rankviz.core.bounds import name_alone, without_places
from rankviz.core.from_json import shape
from rankviz.core.runs.estimate import RunEstimate, refuse_base
from rankviz.core.runs.events import HF_JOBS, LOCAL, RAY, RunCancelled, RunFailed, fingerprints
from rankviz.core.runs.fast_curve import CurvePoint, fast_curves
from rankviz.core.runs.record import RunRecord, RunState
from rankviz.core.runs.request import added_run, check_download, check_limits, check_minutes, check_runs
from rankviz.core.runs.run_time import DeviceTime, device_time
from rankviz.core.runs.sweep_time import ExpectedSweep, progress_of, sweep_time
from rankviz.core.runs.words import AFTER_OTHERS, Place, cancel_in_words, why_it_waits
from rankviz.errors import (
    BadDataError,
    InvalidSettingError,
    NotInstalledError,
    RankVizError,
    RunNotFoundError,
    UserError,
    quoted,
)
from rankviz.settings import paid_limits
from rankviz.shared.rights import shown
from rankviz.store import RunStore, durable
from rankviz.store.ownership import ANYWHERE, WantedEngine
from rankviz.store.removal import remove
from rankviz.store.runs import group
from rankviz.store.transfer import SummaryRow, summary_row

if TYPE_CHECKING:
    from rankviz.api import Api
    from rankviz.core.cost.pace import Pace
    from rankviz.core.runs.events import RunFailed
    from rankviz.core.runs.fast_curve import FastCurve
    from rankviz.core.runs.record import Sweep
    from rankviz.core.runs.request import RunRequest, SweepRequest
    from rankviz.core.runs.sweep_time import ExpectedSweep, SweepProgress, SweepTime
    from rankviz.dataset import Sample
    from rankviz.jobs import Engine
    from rankviz.store import RunStore

Failed = TypeVar("Failed", "RunRecord", "RunFailed")
MOST_TIMES = 5000
"""Number of sweeps whose estimated time is cached."""
SHORT_OWNER = 8
"""Number of characters of a visitor's id that are shown in a list."""
GIVE_AGAIN = (
    "RankViz does not find the file {} that this sweep was trained on, so its data must be given again. Start a new "
    "sweep with that file."
)
FOLDER_IS_NOT_SENT = (
    "The base is a folder of this machine, and weights are not sent. Give it as a Hub id, or choose a place that sees "
    "this folder."
)
SAME_FOLDERS = " If the nodes have the same disk, set RANKVIZ_RAY_SAME_FOLDERS."
NOTHING_TO_RESUME = "Nothing to resume: no run of this sweep has failed or was cancelled."
CANCEL_FIRST = "To move runs that wait, cancel them first."


class Runs(Operations):
    """Runs in one runs folder that the current visitor may see, and the recorded runs that RankViz ships."""

    def __init__(self, api: Api):
        super().__init__(api)
        self._queue = Queue(api)
        self._times: dict[tuple[str, int, bool], SweepTime | None] = {}

    # What is here.

    def samples(self) -> Sequence[Sample]:
        """Return the sample data that RankViz ships."""
        return dataset.samples(self._workspace.assets)

    def sweeps(self) -> Sequence[Sweep]:
        """Return all sweeps of the current visitor, newest first."""
        own = self._workspace.rights.own(self._workspace.store.all())
        return group([shown(self._workspace, record) for record in own])[::-1]

    def reading(self) -> str:
        """Return a sentence on how many runs of the folder have been read; empty once all have."""
        if (reading := self._workspace.store.reading) is None:
            return ""
        return f"The runs folder is being read: {reading[0]:,} of {reading[1]:,} runs so far."

    def made(self) -> Sequence[Sweep]:
        """Return the sweeps that the current visitor made, newest first; an admin may change others' too."""
        return [sweep for sweep in self.sweeps() if not self.owner_of(sweep.runs[0].run_id)]

    def owner_of(self, run_or_sweep_id: str) -> str:
        """Return a short name of the owner of a run or sweep, for the admin of a shared page; empty for other
        visitors, and if the admin made it or RankViz ships it."""
        store, visitor = self._workspace.store, self._workspace.visitor
        if not (self._workspace.shared and visitor.admin) or self._ships(run_or_sweep_id):
            return ""
        is_run = store.run_dir(run_or_sweep_id).is_dir()  # at once, since a list asks for each
        run_ids = [run_or_sweep_id] if is_run else [run.run_id for run in self._workspace.rights.seen(run_or_sweep_id)]
        others = {store.ownership(run_id).owner for run_id in run_ids} - {*visitor.ids}
        return next((f"visitor {owner[:SHORT_OWNER]}" if owner else "the host" for owner in sorted(others)), "")

    def unreadable(self) -> Mapping[str, str]:
        """Return the reason why a run folder cannot be read, by folder name, for the current visitor's folders."""
        unreadable, mine = self._workspace.store.unreadable(), self._workspace.rights.mine
        return {name: reason for name, reason in unreadable.items() if mine(name)}

    def sweep(self, sweep_id: str) -> Sweep:
        """Return one sweep: of the current visitor, shared by another, or recorded."""
        if sweep_id in self._recorded_sweep_ids:
            return next(sweep for sweep in self.recorded() if sweep.sweep_id == sweep_id)
        sweep = self._workspace.store.sweep(sweep_id)
        if not (runs := self._workspace.rights.visible(sweep.runs)):
            raise RunNotFoundError(sweep_id)
        return replace(sweep, runs=tuple(map(self._shown, runs)))

    def is_sweep(self, run_or_sweep_id: str) -> bool:
        """Return whether an id is a sweep's and not a run's. RunNotFoundError if it is neither."""
        try:
            self.get(run_or_sweep_id)  # first: for a sweep, the requests of all runs may be searched
        except RunNotFoundError:
            self.sweep(run_or_sweep_id)
            return True
        return False

    def get(self, run_id: str) -> RunRecord:
        """Return one run: of the current visitor, shared by another, or recorded."""
        if run_id in self._recorded_ids:
            return self._recorded_store.get(run_id)
        record = self._workspace.store.get(run_id)
        self._workspace.rights.require_sight(run_id)
        return self._shown(record)

    def _shown(self, record: RunRecord) -> RunRecord:
        """Return the record as the current visitor may read it. Only the owner reads the error's paths, the log and
        the answers, which quote the data."""
        record = shown(self._workspace, record)
        if self._workspace.rights.mine(record.run_id):
            return record
        return replace(_without_places(record), answered_before=None, answered_after=None)

    def folder(self, run_id: str) -> Path | None:
        """Return the folder of a run; None on a shared page, and for a recorded run."""
        hidden = self._workspace.shared or run_id in self._recorded_ids
        return None if hidden else self._workspace.store.run_dir(run_id)

    def recorded(self) -> Sequence[Sweep]:
        """Return the sweeps that RankViz ships."""
        return self._recorded

    @cached_property
    def _recorded(self) -> Sequence[Sweep]:
        return store.recorded(self._workspace.assets)

    @cached_property
    def _recorded_store(self) -> RunStore:
        return RunStore(self._workspace.assets / "recorded")

    @cached_property
    def _recorded_ids(self) -> Set[str]:
        """Ids of the recorded runs, from their folder names: no journal is read."""
        return frozenset(folder.name for folder in self._recorded_store.runs_dir.glob("*"))

    @cached_property
    def _recorded_sweep_ids(self) -> Set[str]:
        return frozenset(run_id.rsplit("-", 2)[0] for run_id in self._recorded_ids)

    def fast_curves(self, sweep_id: str) -> Sequence[FastCurve]:
        """Return the fast curves of a sweep, best first; empty for an ordinary sweep."""
        return fast_curves(self.sweep(sweep_id).runs)

    def summary(self, run_id: str) -> RunSummary:
        """Return one run with its settings, measurements and estimate."""
        return next(self.summaries([self.get(run_id)]))

    def summaries(self, runs: Sequence[RunRecord]) -> Iterator[RunSummary]:
        """Yield the summary of each run, computed when it is asked for."""
        now = time.time()
        for run, estimate in zip(runs, self.expected_runs(runs), strict=True):
            place, spent = self._api.locations.of(run), device_time([run], now)
            yield RunSummary(
                record=run, estimate=estimate, device_time=spent, place=place, folder=self.folder(run.run_id)
            )

    # Whose it is, and what its owner may do.

    def is_mine(self, run_or_sweep_id: str) -> bool:
        """Return whether the current visitor may change a run or sweep; RunNotFoundError for a hidden one."""
        rights = self._workspace.rights
        return not self._ships(run_or_sweep_id) and all(
            rights.mine(record.run_id) for record in rights.seen(run_or_sweep_id)
        )

    def own_ids(self, name: str) -> list[str]:
        """Return the ids of the run, or of the sweep's runs, with this name. Raise NotYoursError or RunNotFoundError
        where the current visitor may not change or see them, InvalidSettingError where RankViz ships them."""
        if self._ships(name):
            raise InvalidSettingError(f"{name!r} ships with RankViz and cannot be changed. Train one of your own.")
        return [record.run_id for record in self._workspace.rights.required(name)]

    def _ships(self, name: str) -> bool:
        return name in self._recorded_ids or name in self._recorded_sweep_ids

    def is_open(self, run_or_sweep_id: str) -> bool:
        """Return whether a run, or any run of a sweep, is shared with others."""
        records = self._workspace.rights.seen(run_or_sweep_id)
        return any(self._workspace.store.ownership(record.run_id).is_open for record in records)

    @writes("changes")
    def open_to_all(self, run_or_sweep_id: str, is_open: bool) -> None:
        """Share a run or sweep of the current visitor with everybody who has its address, or stop sharing."""
        store = self._workspace.store
        with store.publishing():  # a run that comes meanwhile is as open as the others
            for run_id in self.own_ids(run_or_sweep_id):
                store.open_to_all(run_id, is_open)

    @writes("changes")
    def delete(self, run_or_sweep_id: str) -> Sequence[str]:
        """Delete an ended run, probe or sweep of the current visitor, with adapters and log; return the deleted ids.
        Its copy of the data is deleted too, unless another run uses it."""
        unreadable = self.unreadable()
        run_ids = [run_or_sweep_id] if run_or_sweep_id in unreadable else self.own_ids(run_or_sweep_id)
        numbered = re.compile(re.escape(run_or_sweep_id) + r"-\d+-r\d+")
        run_ids += [name for name in unreadable if numbered.fullmatch(name)]  # the rest of the sweep
        remove(self._workspace.store, run_ids, ended=self._workspace.supervisor.unwritten)
        return run_ids

    @writes("changes")
    def cancel(self, run_or_sweep_id: str) -> Sequence[str]:
        """Cancel a run or sweep, wait until its process has ended, and return the ids of the cancelled runs."""
        run_ids, supervisor = self.own_ids(run_or_sweep_id), self._workspace.supervisor
        supervisor.cancel_runs(run_ids, by_admin=bool(self.owner_of(run_or_sweep_id)))
        unwritten = {run_id for run_id, end in supervisor.unwritten.items() if isinstance(end, RunCancelled)}
        store = self._workspace.store
        here = [each for each in run_ids if store.run_dir(each).is_dir()]  # some may have been deleted meanwhile
        return [each for each in here if each in unwritten or store.record(each).state == "cancelled"]

    @writes()
    def export(self, ids: Sequence[str], target: Path) -> Path:
        """Write a zip with the journals of runs and sweeps, recorded ones included, and a CSV summary."""
        run_ids: list[str] = []
        for name in dict.fromkeys(ids):
            if name in self._recorded_sweep_ids:
                run_ids += [run.run_id for run in self.sweep(name).runs]
            else:
                run_ids += [name] if name in self._recorded_ids else self.own_ids(name)
        request = {
            "homes": [str(self._recorded_store.home), str(self._workspace.store.home)],
            "run_ids": run_ids,
            "target": str(Path(target).absolute()),
            "for_visitor": not self._workspace.visitor.admin,
        }
        with self._workspace.children.turn():
            self._workspace.children.ask("export", request, about="these runs", error=InvalidSettingError)
        return Path(target)

    def zip_of(self, ids: Sequence[str]) -> Path:
        """Return the path of an export to download."""
        return self._workspace.download("rankviz-runs.zip", lambda target: self.export(ids, target))

    @writes()
    def import_(self, source: Path) -> Sequence[str]:
        """Import a zip that `export` wrote; return the new runs' ids. Runs that RankViz ships are skipped."""
        owner, limits, children = self._workspace.rights.somebody(), self._workspace.limits, self._workspace.children
        source = self._workspace.references.file(source)
        if not source.is_file():
            raise InvalidSettingError(f"There is no file {quoted(str(source))}.")
        key, most_bytes = f"import {durable.digest_of(source)} {source.name}", limits.import_mb * 10**6
        request = {
            "home": str(self._workspace.home),
            "assets": str(self._workspace.assets.absolute()),
            "source": str(source),
            "owners": owner.ids,
            "strangers": [] if owner.admin else owner.ids,
            "limits": [
                most_bytes,
                limits.runs_per_import,
                limits.events_per_run,
                limits.values_per_import,
                limits.record_kb and limits.record_kb * 1000,
            ],
            "most": limits.runs_kept,
            "most_in_total": limits.runs_in_total,
        }
        with children.turn(key):
            self._api.quota.require_room(1)  # others may have come before
            self._workspace.references.file(source)  # and another import of it may have used it up
            with self._workspace.room.holding(0, up_to=most_bytes) as room:
                request["most_bytes"] = room
                reply = children.ask("import", request, about=source.name, error=InvalidSettingError, key=key)
            if refused := reply["refused"]:  # for what is here, which may change; so the failure is not remembered
                raise remade(refused["error"], refused["message"], otherwise=InvalidSettingError)
            self._workspace.temp.remove_upload(source, owner)
        self._api.quota.free_disk(besides=reply["run_ids"])
        return reply["run_ids"]

    # What runs are expected to take.

    def expected(self, request: SweepRequest) -> ExpectedSweep:
        """Return memory and time of a sweep on this machine before its start."""
        check_limits(self._workspace.limits, runs_per_sweep=request.run_count)
        runs = self.planned(request)
        self._api.quota.check_base(request.base)
        check_runs(runs, self._workspace.limits)
        if request.exact_match_examples:
            self._api.data.measure(request.data).require_prompts()
        expected = self.expected_of(runs)
        self.require_minutes(runs, LOCAL)
        return expected

    def planned(self, request: SweepRequest) -> Sequence[RunRequest]:
        """Return the runs of a sweep before it is queued. They name the future copy of the data, so that measurements
        of earlier runs on the same data apply."""
        with contextlib.suppress(BadDataError, OSError):
            if path := self._workspace.references.data(request.data).path:
                owners = self._workspace.visitor.ids
                copies = [self._workspace.store.kept_path(path, owner) for owner in owners]
                kept = next((copy for copy in copies if copy.is_file()), path)
                request = replace(request, data=str(kept))
        return request.runs(sweep_id="expected", created_at=0.0)

    def expected_of(self, runs: Sequence[RunRequest], environment: Mapping[str, Any] | None = None) -> ExpectedSweep:
        """Return memory and time of runs of one sweep. environment: of another machine; None for this one."""
        here, first, estimator = environment or machine.here(), runs[0], Estimator(self._api)
        device = self._workspace.device(here)
        refuse_base(self._api.models.get(first.base), first.lora, first.training, device)
        pace = estimator.pace(first, here)
        return ExpectedSweep(
            device_name=here["device_name"],
            runs=len(runs),
            truncations=max(len(run.cut_ranks) for run in runs),
            ranks={run.r: estimator.estimate(run, here, pace) for run in runs},
            time=self._time(estimator, runs, here, pace),
            pace=pace,
            parts=1 if environment else self._workspace.supervisor.parts(LOCAL, len(runs)),
            run_minutes=None if environment else self._workspace.limits.run_minutes,
        )

    def time_of(self, runs: Sequence[RunRequest], environment: Mapping[str, Any]) -> SweepTime | None:
        """Return the time that runs of one sweep take in an environment; None where it is not known."""
        estimator = Estimator(self._api)
        return self._time(estimator, runs, environment, estimator.pace(runs[0], environment))

    def require_minutes(self, runs: Sequence[RunRequest], engine: str) -> None:
        """Raise LimitError where the low estimate of one of these runs exceeds the server's time limit, both by the
        formulas and corrected by finished runs, which others may have made; runs of unknown time pass."""
        limits, locations, estimator = self._workspace.limits, self._api.locations, Estimator(self._api)
        if limits.run_minutes is None or not locations.engine(engine).is_limited:
            return
        if environment := locations.environment(engine):
            paces = {estimator.pace(runs[0], environment), None}
            times = [self._time(estimator, runs, environment, pace) for pace in paces]
            check_minutes(min((time.longest_run.low for time in times if time), default=0.0), limits)

    def _time(
        self, estimator: Estimator, runs: Sequence[RunRequest], environment: Mapping[str, Any], pace: Pace | None
    ) -> SweepTime | None:
        estimates = [estimator.estimate(run, environment, pace) for run in runs]
        return sweep_time(self._api.models.get(runs[0].base), runs, estimates, self._workspace.assumptions, pace)

    def expected_run(self, record: RunRecord) -> RunEstimate | None:
        """Return a run's estimate to compare with its measurements; None where its base model is not available.
        memory_bytes is what the run measures: resident memory of the process on a CPU, allocated memory on a GPU.
        seconds is training time, estimated from runs that had finished on the same machine before the run began."""
        return next(self.expected_runs([record]))

    def expected_runs(self, records: Iterable[RunRecord]) -> Iterator[RunEstimate | None]:
        """Yield the estimate of each run, computed on demand; None where the base or the machine is not known."""
        estimator, there = Estimator(self._api), functools.cache(self._environment_on)
        for record in records:
            request, estimate = record.request, None
            with contextlib.suppress(RankVizError):
                environment = record.environment
                if record.state is RunState.QUEUED and not environment:
                    environment = there(self._workspace.supervisor.place_of(record.run_id)[0])
                if environment is not None:
                    pace = estimator.pace(request, environment, before=record.started_at)
                    estimate = estimator.estimate(request, environment, pace)
            yield estimate

    def _environment_on(self, engine: str) -> Mapping[str, Any] | None:
        """Return the environment of runs on an engine without a request to it; None for Hugging Face Jobs, where each
        sweep chooses its machine."""
        name = engine or self._workspace.settings.engine
        return None if name == HF_JOBS else self._api.locations.environment(name)

    # Whether runs could start, and starting them.

    def check(self, request: SweepRequest, destination: WantedEngine = ANYWHERE) -> None:
        """Check that a sweep could start at a destination; a RankVizError says what to change. Writes nothing. This
        machine needs a trainer and a GPU only if the destination is this machine's own engine."""
        is_paid = not self._usable(destination).is_limited
        limits = paid_limits(self._workspace.limits) if is_paid else self._workspace.limits
        check_limits(limits, runs_per_sweep=request.run_count)  # before the larger number that any sweep may have
        request.validate()
        self._workspace.references.base(request.base)
        if not is_paid:
            self._api.quota.check_base(request.base)  # first: no other setting would help
        self.check_runs(self.planned(request), destination)

    def _usable(self, destination: WantedEngine) -> Engine:
        """Return the engine of a destination; raise a UserError where it cannot be used."""
        locations, shared = self._api.locations, self._workspace.shared
        engine, is_here = locations.engine(destination.engine), locations.is_here(destination.engine)
        if is_here and (message := installed.why_not_train(shared=shared)):
            raise NotInstalledError(message)
        if not is_here and (message := locations.why_not(engine.name)):
            raise InvalidSettingError(message)
        return engine

    def check_runs(self, runs: Sequence[RunRequest], destination: WantedEngine = ANYWHERE) -> None:
        """Check that runs could start at a destination, as `check` does. The runs may be resumed, added or imported,
        so they need not have the same settings."""
        engine, references = self._usable(destination), self._workspace.references
        is_here = self._api.locations.is_here(destination.engine)
        limits = self._workspace.limits
        check_runs(runs, limits if engine.is_limited else paid_limits(limits))
        alike: dict[tuple, list[RunRequest]] = {}
        for run in runs:  # all of a sweep's are alike unless they come from elsewhere
            key = run.base, run.data, replace(run.lora, r=1, lora_alpha=1.0), run.training
            alike.setdefault(key, []).append(run)
        for some in alike.values():
            run = some[0]
            references.base(run.base)
            if engine.is_limited:
                self._api.quota.check_base(run.base)
            there = self._api.locations.device(destination)
            run.training.settle(there)
            data = self._api.data.measure(run.data)
            if run.exact_match_examples:
                data.require_prompts()
            if not is_here and not engine.sees_folders and references.model(run.base).path:
                advice = SAME_FOLDERS if engine.name == RAY and self._workspace.visitor.admin else ""
                raise InvalidSettingError(FOLDER_IS_NOT_SENT + advice)
            refuse_base(self._api.models.get(run.base), run.lora, run.training, there)
            if is_here:
                self._api.preflight.require(run.training, run.base)
            if engine.is_limited and limits.base_parameters is not None:
                elsewhere = None if is_here else there
                check_download(self._api.preflight.weight_bytes(run.training, run.base, elsewhere), limits)
            self.require_minutes(some, engine.name)

    @writes()
    def start(self, request: SweepRequest, destination: WantedEngine = ANYWHERE) -> str:
        """Check and queue a sweep, see that the queue is worked on, and return the sweep's id. The data file is copied
        into the runs folder, since an upload may be deleted earlier than the sweep."""
        owner, references = self._workspace.rights.somebody(), self._workspace.references
        self.check(request, destination)
        store, base, file = self._workspace.store, references.model(request.base), references.data(request.data).path
        request = replace(request, base=base.text)
        runs = request.runs(sweep_id="expected", created_at=0.0)
        copied = file.stat().st_size if file and not durable.is_kept(store.kept_path(file, owner.id)) else 0
        with (
            self._workspace.starts.turn(),
            self._api.quota.admitting(new=len(runs), runs=runs),
            self._workspace.room.holding(copied),
        ):
            file = references.data(request.data).path  # an upload may have gone meanwhile
            sweep_id = store.create(request, owner.id, destination, data=file)
        self._workspace.work_queue()
        return sweep_id

    def added_request(self, sweep_id: str, r: int) -> RunRequest:
        """Return the request of one more run of a sweep. Settings, learning rate and seed are those of the best run at
        the highest rank, with the next seed if rank r has such a run. BadDataError where the data is gone."""
        sweep = self.sweep(sweep_id)

        def best_at_the_highest_rank(run: RunRecord) -> tuple[int, float]:
            loss = run.loss_after.loss if run.loss_after else math.inf
            return -run.request.r, loss if math.isfinite(loss) else math.inf

        like = min(sweep.runs, key=best_at_the_highest_rank).request
        self._require_data(sweep, like.data)
        return added_run([run.request for run in sweep.runs], like, r, created_at=time.time())

    def resumed_requests(self, sweep_id: str) -> Sequence[RunRequest]:
        """Return the requests of a sweep's failed and cancelled runs. InvalidSettingError if there are none,
        BadDataError if their data is gone."""
        sweep = self.sweep(sweep_id)
        again = [run.request for run in sweep.resumable]
        if not again:
            raise InvalidSettingError(NOTHING_TO_RESUME + ("" if sweep.ended else f" {CANCEL_FIRST}"))
        for data in {each.data for each in again}:
            self._require_data(sweep, data)
        return again

    def _require_data(self, sweep: Sweep, data: str) -> None:
        """Raise BadDataError unless the sample or file that a sweep was trained on is there, with the same content."""
        if dataset.is_sample(data, self._workspace.assets):
            return
        digests = fingerprints(run.environment for run in sweep.runs) or {PurePath(data).parent.name}
        with contextlib.suppress(UserError, OSError):
            file = self._workspace.references.data(data).path
            if file and durable.digest_of(file) in digests:
                return
        raise BadDataError(GIVE_AGAIN.format(quoted(PurePath(data).name)))

    # How runs go on, and why they wait.

    def follow(self, sweep_id: str, every_seconds: float = 0.3) -> Iterator[Sweep]:
        """Yield the sweep repeatedly until all its runs have ended."""
        while True:
            sweep = self.sweep(sweep_id)
            yield sweep
            if sweep.ended:
                return
            self._workspace.work_queue()  # whoever held the queue may have gone meanwhile
            time.sleep(every_seconds)

    def progress(self, sweep: Sweep) -> SweepProgress:
        """Return progress and remaining time of a sweep. No times while a cancel is pending or the disk cannot be
        written."""
        progress = progress_of(sweep, time.time(), None if sweep.ended else self.time_of_records(sweep.runs))
        if not sweep.running:
            return progress
        trouble = self._workspace.why_not_write()
        if not trouble and self.are_unwanted(sweep.runs):
            trouble = cancel_in_words(sweep.runs)
        return replace(progress, trouble=trouble, seconds_left=None, share=None) if trouble else progress

    def time_of_records(self, records: Sequence[RunRecord]) -> SweepTime | None:
        """Return the estimated time of runs of one sweep, computed once; None where it is not known."""
        environment = next((record.environment for record in records if record.environment), None)
        key = records[0].request.sweep_id, len(records), environment is None
        if key not in self._times:
            if len(self._times) >= MOST_TIMES:
                self._times.clear()
            self._times[key] = None
            with contextlib.suppress(RankVizError):  # its base or its data has gone
                environment = environment or self._environment_on(self._api.locations.destination(records).engine)
                requests = [record.request for record in records]
                self._times[key] = self.time_of(requests, environment) if environment else None
        return self._times[key]

    def waiting(self, sweep_id: str) -> QueuePlace | None:
        """Return the place of a sweep or probe in the queue of all visitors; None if it does not wait."""
        self._workspace.rights.seen(sweep_id)
        return self._queue.place(sweep_id)

    def place_in_words(self, sweep_id: str) -> str:
        """Return a sentence with a waiting sweep's or probe's place in the queue and its wait."""
        place = self.waiting(sweep_id)
        return place.sentence if place else "It starts when a worker is free."

    def why_waits(self, run: RunRecord) -> str:
        """Return why a run waits: a pending cancel, its engine's reason, or its place in the queue; else empty."""
        return self.why_each_waits(self.sweep(run.request.sweep_id)).get(run.run_id, "")

    def why_each_waits(self, sweep: Sweep) -> Mapping[str, str]:
        """Return why each run of a sweep waits, by run id; runs that do not wait are left out."""
        return {run_id: " ".join(reasons) for run_id, reasons in self._reasons(sweep).items() if reasons}

    def why_sweep_waits(self, sweep: Sweep) -> str:
        """Return why the runs of a sweep wait, except for another run of the sweep."""
        reasons = dict.fromkeys(reason for each in self._reasons(sweep).values() for reason in each)
        return " ".join(reason for reason in reasons if reason != AFTER_OTHERS)

    def _reasons(self, sweep: Sweep) -> Mapping[str, Sequence[str]]:
        """Return reasons for each unended run, by run id: a pending cancel, what its journal or sweep says, and its
        place in the queue."""
        unended = [run for run in sweep.runs if not run.state.ended and not sweep.recorded]
        with_job = self._workspace.supervisor.with_job
        if with_job is None:
            with_job = {run.run_id for run in unended if run.place and run.place.job}
        in_queue = not sweep.running and not any(run.run_id in with_job or run.waits for run in unended)
        place = self.place_in_words(sweep.sweep_id) if in_queue and unended else ""

        def of(run: RunRecord) -> Iterator[str]:
            yield cancel_in_words([run]) if self.are_unwanted([run]) else ""
            yield from why_it_waits(run, sweep, has_job=run.run_id in with_job)
            yield place

        return {run.run_id: [*filter(None, of(run))] for run in unended}

    def are_unwanted(self, runs: Sequence[RunRecord]) -> bool:
        """Return whether some of these runs have not ended, and a cancel is pending for all of those runs."""
        unended = [run for run in runs if not run.state.ended]
        return bool(unended) and all(self._workspace.store.cancel_word(run.run_id) is not None for run in unended)


def _without_places(failed: Failed) -> Failed:
    return replace(failed, log_tail="", error=without_places(failed.error))


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """A run with its estimate and place."""

    record: RunRecord
    estimate: RunEstimate | None
    """Estimate of memory and time; None where the base model is not available."""
    device_time: DeviceTime
    """Machine time of all attempts until now."""
    place: Place
    """Place where the run is, is to be, or was."""
    folder: Path | None = None
    """Folder of the run's request, journal, log and adapter. None on a shared page and for a recorded run."""

    @property
    def adapter_folder(self) -> Path | None:
        """Folder of the trained adapter, as PEFT loads it; None without one, or where no path is shown."""
        adapter = self.folder / self.record.adapter_path if self.folder and self.record.adapter_path else None
        return adapter if adapter and adapter.is_dir() else None


RunEstimateJSON = shape(RunEstimate)


class AnswerJSON(TypedDict):
    """Answers to one held-out prompt before and after training; null where it was not answered."""

    example: int
    prompt: str
    reference: str
    before: str | None
    after: str | None


class ListedRunJSON(SummaryRow):
    """One run: settings and measurements, flat, with the estimate. Losses are nats per token; unknown values are null.
    Folders are given only where the page is not shared."""

    error: str | None
    engine: str | None
    where: str | None
    attempt: int
    waits: str | None
    device_seconds: float
    device_seconds_is_whole: bool
    folder: str | None
    adapter_folder: str | None
    estimate: RunEstimateJSON | None


class RunJSON(ListedRunJSON):
    """One run with its answers to held-out prompts."""

    answers: list[AnswerJSON]


class CurvePointJSON(shape(CurvePoint)):
    """One rank of a fast curve."""

    run_id: str


def run_json(summary: RunSummary) -> RunJSON:
    """Return the JSON of a run: settings and measurements, flat, with estimate and answers."""
    answers = [
        AnswerJSON(
            example=answer.place,
            prompt=answer.prompt,
            reference=answer.reference,
            before=answer.before and answer.before.text,
            after=answer.after and answer.after.text,
        )
        for answer in summary.record.answers
    ]
    return {**listed_run_json(summary), "answers": answers}


def listed_run_json(summary: RunSummary) -> ListedRunJSON:
    """Return the JSON of a run without its answers, which are long."""
    row, record = summary_row(summary.record), summary.record
    if summary.folder is None:  # no path of this machine is for who reads this
        row |= {"base": name_alone(row["base"]), "data": name_alone(row["data"])}
    return {
        **row,
        "error": record.error or None,
        "engine": summary.place.engine or None,
        "where": summary.place.where or None,
        "attempt": record.shown_attempt,
        "waits": record.waits or None,
        "device_seconds": summary.device_time.seconds,
        "device_seconds_is_whole": summary.device_time.is_whole,
        "folder": summary.folder and str(summary.folder),
        "adapter_folder": summary.adapter_folder and str(summary.adapter_folder),
        "estimate": asdict(summary.estimate) if summary.estimate else None,
    }


def curve_points_json(curves: Iterable[FastCurve]) -> Sequence[CurvePointJSON]:
    """Return the points of all fast curves, the lowest rank of each curve first."""
    return [{"run_id": curve.run_id, **point._asdict()} for curve in curves for point in curve.points]
