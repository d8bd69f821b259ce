"""Runs and sweeps: listed, estimated, started, extended, followed, cancelled, resumed, exported and imported."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import re
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from rankviz import dataset
from rankviz.api.runs.locations import Locations, Machines
from rankviz.api.runs.waiting import QueuePlace, Waiting
from rankviz.api.workspace import in_turn, writes
from rankviz.core.bounds import name_alone, without_places
from rankviz.core.from_json import shape
from rankviz.core.runs.estimate import RunEstimate, estimate_run, paced, refuse_base, workload_of
from rankviz.core.runs.events import HF_JOBS, LOCAL, RAY, fingerprints
from rankviz.core.runs.fast_curve import CurvePoint
from rankviz.core.runs.record import RunRecord, RunState
from rankviz.core.runs.request import (
    QUICK_RANKS,
    SweepRequest,
    added_run,
    check_count,
    check_download,
    check_minutes,
    check_sweep,
    quick_look,
)
from rankviz.core.runs.run_time import DeviceTime, device_time, load_average_of
from rankviz.core.runs.words import AFTER_OTHERS, Place, cancel_in_words, why_it_waits
from rankviz.errors import BadDataError, InvalidSettingError, RankVizError, RunNotFoundError, quoted
from rankviz.settings import paid_limits
from rankviz.shared.rights import shown
from rankviz.store import durable
from rankviz.store.ownership import ANYWHERE, WantedEngine
from rankviz.store.transfer import SummaryRow, summary_row
from rankviz.visitor import data_folder

if TYPE_CHECKING:
    from rankviz.api.models import Models
    from rankviz.api.probes import Preflight
    from rankviz.api.runs.measured import MeasuredRuns
    from rankviz.api.workspace import Workspace
    from rankviz.core.cost.pace import Paces
    from rankviz.core.cost.setup import Device
    from rankviz.core.model.spec import ModelSpec
    from rankviz.core.quantity import Range
    from rankviz.core.runs.events import RunEvent, RunFailed
    from rankviz.core.runs.fast_curve import FastCurve
    from rankviz.core.runs.record import Sweep
    from rankviz.core.runs.request import RunRequest
    from rankviz.core.runs.sweep_time import ExpectedSweep, SweepProgress, SweepTime
    from rankviz.dataset import Preview, Sample
    from rankviz.jobs import Engine
    from rankviz.shared.quota import Quota
    from rankviz.store import RunStore

Failed = TypeVar("Failed", "RunRecord", "RunFailed")
SHORT_OWNER = 8
"""Characters of a visitor's id: enough to tell visitors apart in a list."""
MOST_SHARE, LONGEST_PAUSE = 0.04, 5.0
"""Share of a processor for following a sweep, and the longest pause between two looks."""
GIVE_AGAIN = (
    "RankViz does not find the file {} that this sweep was trained on, so its data must be given again. Start a new "
    "sweep with that file."
)
FOLDER_IS_NOT_SENT = "The base is a folder of this machine, and weights are not sent."
NOTHING_TO_RESUME = "Nothing to resume: no run of this sweep has failed or was cancelled."
CANCEL_FIRST = "To move runs that wait, cancel them first."
_DIGEST = re.compile("[0-9a-f]{16}")


class Estimator:
    """Estimates runs for one answer, and is then given up: what it has looked up may change."""

    def __init__(self, workspace: Workspace, models: Models, measured: MeasuredRuns):
        self._workspace, self._models, self._measured = workspace, models, measured
        self._known: dict[Hashable, Any] = {}

    def paces(self, request: RunRequest, environment: Mapping[str, Any], **when: float | None) -> Paces:
        """Return what finished runs say of the time of such a run; the same for every rank of a sweep. when: as
        Measured.paces takes it."""
        model, device, rows = self._of(request, environment)
        workload = self._once(
            ("workload", request.base, request.data_apart, request.lora.use_dora, request.training, device),
            lambda: workload_of(model, request, device, rows),
        )
        evidence = self._once("evidence", self._measured.evidence)
        return self._measured.paces(workload, environment, evidence=evidence, **when)

    def estimate(self, request: RunRequest, environment: Mapping[str, Any], paces: Paces) -> RunEstimate:
        """Return memory and time of a run."""
        model, device, rows = self._of(request, environment)

        def formulas() -> RunEstimate:
            training = request.training.without_auto(device)
            tokens = training.per_device_train_batch_size * (rows.expected if rows else training.max_length)
            memory = self._measured.memory(model, request.lora, training, tokens, environment)
            if memory is None:
                return self._measured.formulas(model, request, device, rows)
            return estimate_run(model, request, device, self._workspace.assumptions, rows, memory)

        key = "estimate", request.base, request.data, request.lora, request.training, _machine(environment), device
        return paced(self._once(key, formulas), paces)

    def _of(self, request: RunRequest, environment: Mapping[str, Any]) -> tuple[ModelSpec, Device, Range | None]:
        """Model, device and tokens of a row."""
        return (
            self._once(("model", request.base), lambda: self._models.get(request.base)),
            self._once(_machine(environment), lambda: self._workspace.device(environment)),
            self._once(("rows", request.data), lambda: self._measured.tokens.of_rows(request)),
        )

    def _once(self, key: Hashable, find: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = find()
        return self._known[key]


def _machine(environment: Mapping[str, Any]) -> Hashable:
    """All that an estimate takes from it but how busy it was."""
    from rankviz.core.cost.pace import machine_of

    names = ("device", "device_name", "cpu_count", "cpu_bf16", "device_memory_bytes")
    return "device", machine_of(environment), *(environment.get(name) for name in names), "versions" in environment


class Runs:
    """Runs of one folder, as far as the current visitor may see them, and those that RankViz ships."""

    def __init__(
        self, workspace: Workspace, models: Models, measured: MeasuredRuns, preflight: Preflight, quota: Quota
    ):
        self._workspace, self._models, self._measured = workspace, models, measured
        self._preflight, self._quota = preflight, quota
        self._machines, self._locations = Machines(workspace), Locations(workspace)
        self._waiting = Waiting(workspace, self._seconds_on, lambda sweep: self._pace(sweep).seconds_left)
        self._digests: dict[tuple[str, int, int], str] = {}

    # What is here.

    def samples(self) -> Sequence[Sample]:
        """Return the sample data that RankViz ships."""
        return dataset.samples(self._workspace.assets)

    def preview(self, data: str) -> Preview:
        """Return the first rows of a sample or a file, with counts; BadDataError names a bad row."""
        return self._workspace.data_files.look(self._workspace.references.data(data).text).preview

    def sweeps(self) -> Sequence[Sweep]:
        """Return all sweeps of the current visitor, the newest first."""
        from rankviz.store.runs import group

        own = self._workspace.rights.own(self._workspace.store.all())
        return group([shown(self._workspace, record) for record in own])[::-1]

    def reading(self) -> str:
        """Say how much has been read of the runs folder, as a sentence; empty once that is all."""
        if (reading := self._workspace.store.reading) is None:
            return ""
        return f"The runs folder is being read: {reading.done:,} of {reading.total:,} runs so far."

    def made(self) -> Sequence[Sweep]:
        """Return the sweeps that the current visitor made, the newest first. An admin may change those of all."""
        return [sweep for sweep in self.sweeps() if not self.owner_of(sweep.runs[0].run_id)]

    def owner_of(self, run_or_sweep_id: str) -> str:
        """Return whose it is, short, for the admin of a shared page; empty of what the current visitor made or RankViz
        ships."""
        store, visitor = self._workspace.store, self._workspace.visitor
        if not (self._workspace.shared and visitor.admin) or self._ships(run_or_sweep_id):
            return ""
        is_run = store.run_dir(run_or_sweep_id).is_dir()  # at once, since a list asks for each
        seen = [run_or_sweep_id] if is_run else [run.run_id for run in self._workspace.rights.seen(run_or_sweep_id)]
        others = {store.ownership(run_id).owner for run_id in seen} - {*visitor.ids}
        return next((f"visitor {owner[:SHORT_OWNER]}" if owner else "the host" for owner in sorted(others)), "")

    def unreadable(self) -> Mapping[str, str]:
        """Return folders in the place of runs that cannot be read, by name, with the reason of each."""
        unreadable, mine = self._workspace.store.unreadable(), self._workspace.rights.mine
        return {name: reason for name, reason in unreadable.items() if mine(name)}

    def sweep(self, sweep_id: str) -> Sweep:
        """Return one sweep, recorded ones among them, and those that others opened."""
        if sweep_id in self._recorded_sweep_ids:
            return next(sweep for sweep in self.recorded() if sweep.sweep_id == sweep_id)
        sweep = self._workspace.store.sweep(sweep_id)
        if not (runs := self._workspace.rights.visible(sweep.runs)):
            raise RunNotFoundError(sweep_id)
        return replace(sweep, runs=tuple(map(self._shown, runs)))

    def is_sweep(self, run_or_sweep_id: str) -> bool:
        """Return whether this is a sweep's id; RunNotFoundError where it is neither a sweep's nor a run's."""
        try:
            self.get(run_or_sweep_id)  # first: for a sweep, the requests of all runs may be searched
        except RunNotFoundError:
            self.sweep(run_or_sweep_id)
            return True
        return False

    def get(self, run_id: str) -> RunRecord:
        """Return one run, recorded ones among them, and those that others opened."""
        if run_id in self._recorded_ids:
            return self._recorded_store.get(run_id)
        record = self._workspace.store.get(run_id)
        self._workspace.rights.require_sight(run_id)
        return self._shown(record)

    def _shown(self, record: RunRecord) -> RunRecord:
        """As the current visitor may read it: what a program wrote about a failure names places of its machine, and
        answers quote the data, which are only for the owner of the run."""
        record = shown(self._workspace, record)
        if self._workspace.rights.mine(record.run_id):
            return record
        return replace(_without_places(record), answered_before=None, answered_after=None)

    def events(self, run_id: str) -> Sequence[RunEvent]:
        """Return what happened last in a run, in order, without its steps."""
        from rankviz.core.runs.events import Answered, RunFailed

        if run_id in self._recorded_ids:
            return self._recorded_store.latest(run_id)
        self.get(run_id)
        events = [shown(self._workspace, event) for event in self._workspace.store.latest(run_id)]
        if self._workspace.rights.mine(run_id):
            return events
        events = [event for event in events if not isinstance(event, Answered)]
        return [_without_places(event) if isinstance(event, RunFailed) else event for event in events]

    def folder(self, run_id: str) -> Path | None:
        """Return the folder of a run; None on a shared page, and of a run that RankViz ships."""
        hidden = self._workspace.shared or run_id in self._recorded_ids
        return None if hidden else self._workspace.store.run_dir(run_id)

    def recorded(self) -> Sequence[Sweep]:
        """Return the sweeps that RankViz ships."""
        return self._recorded

    @cached_property
    def _recorded(self) -> Sequence[Sweep]:
        from rankviz import store

        return store.recorded(self._workspace.assets)

    @cached_property
    def _recorded_store(self) -> RunStore:
        from rankviz.store import RunStore

        return RunStore(self._workspace.assets / "recorded")

    @cached_property
    def _recorded_ids(self) -> Set[str]:
        """Ids of the recorded runs. None is read for that: most often one's own are meant."""
        return frozenset(folder.name for folder in self._recorded_store.runs_dir.glob("*"))

    @cached_property
    def _recorded_sweep_ids(self) -> Set[str]:
        return frozenset(run_id.rsplit("-", 2)[0] for run_id in self._recorded_ids)

    def fast_curves(self, sweep_id: str) -> Sequence[FastCurve]:
        """Return the fast curves of a sweep, the best first; none of an ordinary sweep."""
        from rankviz.core.runs.fast_curve import fast_curves

        return fast_curves(self.sweep(sweep_id).runs)

    def summary(self, run_id: str) -> RunSummary:
        """Return one run: what was requested and measured, with the estimate beside it."""
        return next(self.summaries([self.get(run_id)]))

    def summaries(self, runs: Sequence[RunRecord]) -> Iterator[RunSummary]:
        """Yield the summary of each run as it is asked for."""
        now = time.time()
        for run, estimate in zip(runs, self.expected_runs(runs), strict=True):
            yield RunSummary(
                record=run,
                estimate=estimate,
                device_time=device_time([run], now),
                place=self._locations.of(run),
                folder=self.folder(run.run_id),
            )

    # Whose it is, and what its owner may do.

    def is_mine(self, run_or_sweep_id: str) -> bool:
        """Return whether the current visitor may change it. RunNotFoundError where they may not even see it."""
        rights = self._workspace.rights
        return not self._ships(run_or_sweep_id) and all(
            rights.mine(record.run_id) for record in rights.seen(run_or_sweep_id)
        )

    def require_mine(self, run_or_sweep_id: str) -> None:
        """NotYoursError or RunNotFoundError where the current visitor may not change it; InvalidSettingError of what
        ships."""
        self._required_run_ids(run_or_sweep_id)

    def is_open(self, run_or_sweep_id: str) -> bool:
        """Return whether others may look at some of it, by its address."""
        records = self._workspace.rights.seen(run_or_sweep_id)
        return any(self._workspace.store.ownership(record.run_id).is_open for record in records)

    @in_turn("changes")
    @writes
    def open_to_all(self, run_or_sweep_id: str, is_open: bool) -> None:
        """Let others look at a run or a sweep of one's own by its address, or no longer."""
        store = self._workspace.store
        with store.publishing():  # a run that comes meanwhile is as open as the others
            for run_id in self._required_run_ids(run_or_sweep_id):
                store.open_to_all(run_id, is_open)

    @in_turn("changes")
    @writes
    def delete(self, run_or_sweep_id: str) -> Sequence[str]:
        """Delete a run, a probe or a sweep of one's own that has ended, with its adapters and log; returns what is
        gone. The copy of its data goes too, unless another run has it."""
        from rankviz.store.removal import remove

        unreadable = self.unreadable()
        run_ids = [run_or_sweep_id] if run_or_sweep_id in unreadable else self._required_run_ids(run_or_sweep_id)
        numbered = re.compile(re.escape(run_or_sweep_id) + r"-\d+-r\d+")
        run_ids += [name for name in unreadable if numbered.fullmatch(name)]  # the rest of the sweep
        remove(self._workspace.store, run_ids, ended=self._workspace.supervisor.unwritten)
        return run_ids

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
    def export(self, ids: Sequence[str], target: Path) -> Path:
        """Write the journals of runs and sweeps, recorded ones among them, and a CSV summary into one zip."""
        shipped = {sweep.sweep_id: [run.run_id for run in sweep.runs] for sweep in self._recorded}
        shipped |= {run_id: [run_id] for run_ids in shipped.values() for run_id in run_ids}
        names = dict.fromkeys(ids)  # each is looked up once, however often it comes
        request = {
            "homes": [str(self._recorded_store.home), str(self._workspace.store.home)],
            "run_ids": [run_id for name in names for run_id in shipped.get(name) or self._required_run_ids(name)],
            "target": str(Path(target).absolute()),
            "for_visitor": not self._workspace.visitor.admin,
        }
        with self._workspace.children.turn():
            self._workspace.children.ask("export", request, about="these runs", error=InvalidSettingError)
        return Path(target)

    def zip_of(self, ids: Sequence[str]) -> Path:
        """Return the export as a file to download."""
        return self._workspace.download("rankviz-runs.zip", lambda target: self.export(ids, target))

    @writes
    def import_(self, source: Path) -> Sequence[str]:
        """Read a zip that `export` wrote; returns the ids of its runs, without those that RankViz ships."""
        from rankviz.children import remade
        from rankviz.store.transfer import USUAL_RATIO

        owner, limits, children = self._workspace.rights.somebody(), self._workspace.limits, self._workspace.children
        key = _key(source := self._workspace.references.file(source))
        request = {
            "home": str(self._workspace.home),
            "assets": str(self._workspace.assets.absolute()),
            "source": str(source),
            "owners": owner.ids,
            "strangers": [] if owner.admin else owner.ids,
            "limits": [
                limits.import_mb * 10**6,
                limits.runs_per_import,
                limits.events_per_run,
                limits.values_per_import,
                limits.record_kb and limits.record_kb * 1000,
            ],
            "most": limits.runs_kept,
            "most_in_total": limits.runs_in_total,
        }

        def read(most: float | None) -> Mapping[str, Any]:
            about = {"about": source.name, "error": InvalidSettingError, "key": key}
            return children.ask("import", request | {"most_bytes": most}, **about)

        with children.turn(key):
            self._quota.require_room(1)  # others may have come before
            self._workspace.references.file(source)  # and another import of it may have used it up
            usual = min(USUAL_RATIO * source.stat().st_size, limits.import_mb * 10**6)
            reply = self._workspace.room.given(usual, read)
            if not (refused := reply["refused"]):
                self._workspace.temp.remove_upload(source, owner)
        if refused:  # for what is here, which may change; so it is no failure to be remembered
            raise remade(refused["error"], refused["message"], otherwise=InvalidSettingError)
        self._quota.free_disk(besides=reply["run_ids"])
        return reply["run_ids"]

    def _ships(self, name: str) -> bool:
        return name in self._recorded_ids or name in self._recorded_sweep_ids

    def _required_run_ids(self, name: str) -> list[str]:
        """Ids of what the current visitor may change."""
        if self._ships(name):
            raise InvalidSettingError(f"{name!r} ships with RankViz and cannot be changed.")
        return [record.run_id for record in self._workspace.rights.required(name)]

    # What runs are expected to take.

    def expected(self, request: SweepRequest, environment: Mapping[str, Any] | None = None) -> ExpectedSweep:
        """Return memory and time of a sweep before it is started. environment: of the machine, as a run's own would be,
        where it is not this one."""
        check_count(request.run_count, self._workspace.limits)
        runs = self._with_kept_data(request).runs(sweep_id="expected", created_at=0.0)
        if environment is not None:
            return self.expected_of(runs, environment)
        self._quota.check_base(request.base)
        check_sweep(runs, self._workspace.limits)
        expected = self.expected_of(runs)
        self.require_minutes(runs, LOCAL)
        return expected

    def expected_of(self, runs: Sequence[RunRequest], environment: Mapping[str, Any] | None = None) -> ExpectedSweep:
        """Return the same of runs of one sweep. environment: as in `expected`."""
        from rankviz import machine
        from rankviz.core.runs.estimate import precision_warning
        from rankviz.core.runs.sweep_time import ExpectedSweep

        here, first = environment or machine.here(), runs[0]
        refuse_base(self._models.get(first.base), first.lora, first.training, self._workspace.device(here))
        estimator = self._estimator()
        paces = estimator.paces(first, here, load_average=None if environment else machine.load_average())
        by_rank = {run.r: estimator.estimate(run, here, paces) for run in runs}
        return ExpectedSweep(
            device_name=here["device_name"],
            runs=len(runs),
            truncations=max(len(run.cut_ranks) for run in runs),
            ranks=by_rank,
            time=self._time(runs, [by_rank[run.r] for run in runs], here, paces),
            paces=paces,
            parts=1 if environment else self._workspace.supervisor.parts(LOCAL, len(runs)),
            warning=precision_warning(first, self._workspace.device(here), self._workspace.assumptions),
            run_minutes=None if environment else self._workspace.limits.run_minutes,
        )

    def seconds_of(self, runs: Sequence[RunRequest], environment: Mapping[str, Any] | None = None) -> Range | None:
        """Return the time that runs of one sweep take; None where that is not known. environment: as in `expected`."""
        from rankviz import machine

        here, estimator = environment or machine.here(), self._estimator()
        average = machine.load_average() if here == machine.here() else None
        time = self._time_at(estimator.paces(runs[0], here, load_average=average), estimator, here, runs)
        return time.total if time else None

    def _seconds_on(self, engine: str, runs: Sequence[RunRequest]) -> Range | None:
        environment = self._machines.environment(engine, look=False)
        return self.seconds_of(runs, environment) if environment else None

    def require_minutes(self, runs: Sequence[RunRequest], engine: str) -> None:
        """LimitError where one of these runs of one sweep takes longer than the server lets it, even by the low end of
        its estimate. Nothing is refused where no time is known, nor for other programs, which may end, nor for what
        runs of other visitors took, who choose what those read."""
        limits = self._workspace.limits
        if limits.run_minutes is None or not self._machines.engine(engine).is_limited:
            return
        if not (environment := self._machines.environment(engine)):
            return
        estimator = self._estimator()
        # As on a machine that is idle: without a load average, slowdowns of the last runs would count for ever.
        paces = estimator.paces(runs[0], environment, load_average=0.0)
        known = (paces, paces.of_own(self._workspace.rights.made))
        times = [self._time_at(each, estimator, environment, runs) for each in known]
        check_minutes(min((time.longest_run.low for time in times if time), default=0.0), limits)

    def _time_at(
        self, paces: Paces, estimator: Estimator, environment: Mapping[str, Any], runs: Sequence[RunRequest]
    ) -> SweepTime | None:
        estimates = [estimator.estimate(run, environment, paces) for run in runs]
        return self._time(runs, estimates, environment, paces)

    def _time(
        self, runs: Sequence[RunRequest], estimates: Sequence[RunEstimate], here: Mapping[str, Any], paces: Paces
    ) -> SweepTime | None:
        """Part by part. Answers are asked for alike in all runs of a sweep."""
        from rankviz.core.runs.sweep_time import answer_passes, sweep_time

        first, tokens, exact = runs[0], self._measured.tokens, None
        if first.exact_match_examples:
            of_answers, rows = tokens.of_answers(first), tokens.of_rows(first)
            if of_answers is not None and rows is not None:  # None where the data cannot be read
                cuda = here.get("device") == "cuda"
                exact = answer_passes(of_answers, rows, answers=first.answered_examples, cuda=cuda)
        model = self._models.get(first.base)
        return sweep_time(model, runs, estimates, self._workspace.assumptions, paces, exact)

    def _with_kept_data(self, request: SweepRequest) -> SweepRequest:
        """With the path that the data gets in a started run, so that earlier runs on the same rows are known."""
        try:
            path = self._workspace.references.data(request.data).path
        except BadDataError:
            return request
        if path is None or (digest := self._digest_of(path)) is None:
            return request
        folders = (data_folder(self._workspace.home, owner) for owner in self._workspace.visitor.ids)
        copies = (folder / digest / path.name for folder in folders)
        kept = next((copy for copy in copies if self._digest_of(copy) == digest), None)
        return replace(request, data=str(kept)) if kept else request

    def _digest_of(self, file: Path) -> str | None:
        """Digest of a file's content, read again once it has changed; None where there is no such file."""
        with contextlib.suppress(OSError):
            if file.is_file():
                state = file.stat()
                key = str(file), state.st_mtime_ns, state.st_size
                if key not in self._digests:
                    self._digests[key] = durable.digest_of(file)
                return self._digests[key]
        return None

    def expected_run(self, record: RunRecord) -> RunEstimate | None:
        """Return the estimate beside a run's measurements, computed again; None where its base is not available.

        memory_bytes is of what the run measures: a process's resident set on a CPU, what is allocated on a GPU.
        seconds is training alone, from what had finished on its machine before it began.
        """
        return next(self.expected_runs([record]))

    def expected_runs(self, records: Iterable[RunRecord]) -> Iterator[RunEstimate | None]:
        """Yield the estimate of each run as it is asked for; None of one that waits for an engine of which no machine
        is known."""
        estimator, there = self._estimator(), functools.cache(self._environment_on)
        for record in records:
            request, average, estimate = record.request, load_average_of(record), None
            waits = record.state is RunState.QUEUED and not record.environment
            with contextlib.suppress(RankVizError):
                environment = record.environment
                if waits:
                    place = self._workspace.supervisor.place_of(record.run_id)[0]
                    environment = there(place or self._workspace.settings.engine)
                if environment is not None:
                    paces = estimator.paces(request, environment, before=record.started_at, load_average=average)
                    estimate = estimator.estimate(request, environment, paces)
            yield estimate

    def _environment_on(self, engine: str) -> Mapping[str, Any] | None:
        """Return the environment of runs on an engine, as known without a request to it; None of Hugging Face Jobs,
        whose machine is chosen for each sweep."""
        if engine == LOCAL:
            return {}
        return None if engine == HF_JOBS else self._machines.environment(engine, look=False)

    def _estimator(self) -> Estimator:
        return Estimator(self._workspace, self._models, self._measured)

    # Whether runs could start, and starting them.

    def check(self, request: SweepRequest, destination: WantedEngine = ANYWHERE, device: Device | None = None) -> None:
        """Check that a sweep could start there; else a RankVizError says what to change. Nothing is written.

        destination: the engine. On another than that of this machine, this one needs no trainer and no GPU.
        device: what the sweep will find there, where the current visitor has chosen it; by default what is known of it.
        """
        engine, is_here = self._usable(destination)
        self.check_limits(request, paid=not engine.is_limited)
        device = self._workspace.here() if is_here else device or self._machines.device(engine.name)
        request.training.settle(device)
        preview = self.preview(request.data)
        if request.exact_match_examples:
            preview.require_prompts()
        self._require_base(request, engine, is_here=is_here, device=device)
        runs = self._with_kept_data(request).runs(sweep_id="asked", created_at=0.0)
        self.require_minutes(runs, destination.engine)

    def _usable(self, destination: WantedEngine) -> tuple[Engine, bool]:
        """The engine, and whether it is this machine's; a UserError where it cannot be used."""
        engine, is_here = self._machines.engine(destination.engine), self._machines.is_here(destination)
        if is_here:
            self._workspace.require_trainer()
        elif why_not := self._machines.why_not(engine.name):
            raise InvalidSettingError(why_not)
        return engine, is_here

    def check_limits(self, request: SweepRequest, *, paid: bool = False) -> None:
        """LimitError where a sweep is more than this server allows of one, whatever is queued and kept here. A base
        without weights is refused as `References.base` has it. paid: whether the current visitor pays for its
        machine."""
        limits = paid_limits(self._workspace.limits) if paid else self._workspace.limits
        check_count(request.run_count, limits)  # before the larger number that any sweep may have
        request.validate()
        self._workspace.references.base(request.base)
        if not paid:
            self._quota.check_base(request.base)  # first: no other setting would help
        check_sweep(request.runs(sweep_id="asked", created_at=0.0), limits)

    def check_runs(
        self, runs: Sequence[RunRequest], destination: WantedEngine = ANYWHERE, device: Device | None = None
    ) -> None:
        """Check that runs that are here, or are made of such, could start there, as `check` does: they may come from
        elsewhere."""
        engine, is_here = self._usable(destination)
        limits = self._workspace.limits
        check_sweep(runs, limits if engine.is_limited else paid_limits(limits))
        alike: dict[tuple, list[RunRequest]] = {}
        for run in runs:  # all of a sweep's are alike unless they come from elsewhere
            key = run.base, run.data, replace(run.lora, r=1, lora_alpha=1.0), run.training
            alike.setdefault(key, []).append(run)
        for some in alike.values():
            run = some[0]
            self._workspace.references.base(run.base)
            if engine.is_limited:
                self._quota.check_base(run.base)
            self._require_data(self.sweep(run.sweep_id), run.data)
            self.preview(run.data)
            there = self._workspace.here() if is_here else device or self._machines.device(engine.name)
            self._require_base(run, engine, is_here=is_here, device=there)
            self.require_minutes(some, engine.name)

    def _require_base(
        self, request: RunRequest | SweepRequest, engine: Engine, *, is_here: bool, device: Device
    ) -> None:
        """Refuse a base that cannot be trained or fetched there."""
        if not is_here and not engine.sees_folders and self._workspace.references.model(request.base).path:
            raise InvalidSettingError(self.folder_is_not_sent(request, engine.name))
        refuse_base(self._models.get(request.base), request.lora, request.training, device)
        if is_here:
            self._preflight.require(request.training, request.base)
        if (is_here or engine.is_limited) and self._workspace.limits.base_parameters is not None:
            there = None if is_here else device
            fetched = self._preflight.weight_bytes(request.training, request.base, there)
            check_download(fetched, self._workspace.limits)

    def folder_is_not_sent(self, request: RunRequest | SweepRequest, engine: str) -> str:
        """Say that a folder is not sent, and what to do instead. A sweep that is here keeps its base."""
        new = isinstance(request, SweepRequest)
        instead = "Give it as a Hub id." if new else "Choose a place that sees this folder."
        same = "If the nodes have the same disk, set RANKVIZ_RAY_SAME_FOLDERS."
        sentences = [FOLDER_IS_NOT_SENT, instead]
        return " ".join([*sentences, *([same] if engine == RAY and self._workspace.visitor.admin else [])])

    @writes
    def start(self, request: SweepRequest, destination: WantedEngine = ANYWHERE, device: Device | None = None) -> str:
        """Queue a sweep and see that someone works the queue; returns its id. destination, device: as in `check`.

        It is checked before anything is queued. A file is copied into the runs folder, since an upload may not outlive
        the page.
        """
        owner, references = self._workspace.rights.somebody(), self._workspace.references
        self.check(request, destination, device)
        store, base, file = self._workspace.store, references.model(request.base), references.data(request.data).path
        request = replace(request, base=base.text)
        runs = request.runs(sweep_id="asked", created_at=0.0)
        copied = file.stat().st_size if file and not durable.is_kept(store.kept_path(file, owner.id)) else 0
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
    def add(self, sweep_id: str, r: int, destination: WantedEngine | None = None, device: Device | None = None) -> str:
        """Queue one more run of a sweep, with the same settings; returns the run's id.

        It takes learning rate and seed from the best run at the highest rank; at a rank that has such a run, the next
        seed. destination: where it runs; None is where the sweep's runs are to be. device: as in `check`.
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
        """Return memory and training time of the run that `add` would queue; None where its base is not available."""
        sweep = self.sweep(sweep_id)
        environment = next((run.environment for run in sweep.runs if run.environment), {})
        return self.expected_run(RunRecord(request=self.added_request(sweep_id, r), environment=environment))

    def added_request(self, sweep_id: str, r: int) -> RunRequest:
        """Return the run that `add` would queue. A recorded sweep cannot be extended."""
        sweep = self.sweep(sweep_id)
        if sweep.recorded:
            raise InvalidSettingError("A sweep that RankViz ships cannot be extended. Train one of your own.")

        def best_at_the_highest_rank(run: RunRecord) -> tuple[int, float]:
            loss = run.loss_after.loss if run.loss_after else math.inf
            return -run.request.r, loss if math.isfinite(loss) else math.inf

        like = min(sweep.runs, key=best_at_the_highest_rank).request
        like = replace(like, data=self._same_data(sweep, like.data))
        return added_run([run.request for run in sweep.runs], like, r, created_at=time.time())

    @writes
    def resume(
        self, sweep_id: str, destination: WantedEngine | None = None, device: Device | None = None
    ) -> Sequence[str]:
        """Queue the failed and cancelled runs of a sweep again; completed runs stay. Returns their ids.

        destination: where they run from now on; None is where they were to run. device: as in `check`.
        """
        self._required_run_ids(sweep_id)
        destination = destination or self._machines.destination(self.sweep(sweep_id))
        again, store = self.resumed_requests(sweep_id), self._workspace.store
        self.check_runs(again, destination, device)
        with self._workspace.starts.turn(), self._quota.admitting(new=0, runs=again, sweep_id=sweep_id):
            for named, data in {store.record(run.run_id).request.data: run.data for run in again}.items():
                if named != data:  # a copy that has gone is made again, from the data that was found
                    durable.copy(Path(data), Path(named))
            queued = store.requeue_all([each.run_id for each in again], destination)
            if not queued:
                raise InvalidSettingError(NOTHING_TO_RESUME)  # somebody else resumed or deleted them meanwhile
        self._workspace.work_queue()
        return queued

    def resumed_requests(self, sweep_id: str) -> Sequence[RunRequest]:
        """Return the runs that `resume` would queue, with their data where it is now. InvalidSettingError where there
        is none."""
        sweep = self.sweep(sweep_id)
        again = [run.request for run in sweep.resumable]
        if not again:
            raise InvalidSettingError(NOTHING_TO_RESUME + ("" if sweep.ended else f" {CANCEL_FIRST}"))
        folder = data_folder(self._workspace.store.home, self._owner(sweep))
        found = {}
        for data in {each.data for each in again}:
            copy, digest, found[data] = Path(data), Path(data).parent.name, data
            if copy.parent.parent == folder and _DIGEST.fullmatch(digest):  # the owner's copy, which may have gone
                files = self._kept(sweep, digest, copy.name)
                found[data] = str(next((file for file in files if _is_one_of(file, [digest])), copy))
        return [replace(each, data=found[each.data]) for each in again]

    # The data of a sweep, found again by its content.

    def _same_data(self, sweep: Sweep, data: str) -> str:
        """Return the data of one more run of a sweep: the stored copy, or the whole path of the file that a run names.
        The name is returned unchanged where it is a sample or no file here."""
        if dataset.is_sample(data, self._workspace.assets):
            return data
        digests, name = _digests(sweep, data), PurePath(data).name
        kept = itertools.chain.from_iterable(self._kept(sweep, digest, name) for digest in digests)
        same = next((file for file in itertools.chain(kept, self._named(data)) if _is_one_of(file, digests)), None)
        return data if same is None else str(same.absolute())

    def _require_data(self, sweep: Sweep, data: str) -> None:
        """BadDataError where what a run of a sweep names is no sample, and no file that the sweep was trained on."""
        if dataset.is_sample(data, self._workspace.assets):
            return
        is_whole = PurePath(data).is_absolute()  # a worker stands in another folder
        if not is_whole or not any(_is_one_of(file, _digests(sweep, data)) for file in self._named(data)):
            raise BadDataError(GIVE_AGAIN.format(quoted(PurePath(data).name)))

    def _owner(self, sweep: Sweep) -> str:
        return self._workspace.store.ownership(sweep.runs[0].run_id).owner

    def _kept(self, sweep: Sweep, digest: str, name: str) -> Iterator[Path]:
        """Files kept by a content for the owner of a sweep or for the current visitor: under this name first, then
        under any other, as when it was given again."""
        owners = dict.fromkeys((self._owner(sweep), *self._workspace.visitor.ids))
        folders = [data_folder(self._workspace.store.home, owner) / digest for owner in owners]
        yield from (folder / name for folder in folders)
        for folder in folders:
            yield from sorted(folder.glob("[!.]*"))  # what begins with a dot is being copied

    def _named(self, data: str) -> Iterator[Path]:
        """The file that the current visitor may read by this name, if there is one."""
        with contextlib.suppress(BadDataError, InvalidSettingError):
            if path := self._workspace.references.data(data).path:
                yield path

    # How runs go on, and why they wait.

    def follow(self, sweep_id: str, every_seconds: float = 0.3) -> Iterator[Sweep]:
        """Yield the sweep again and again until all its runs have ended; less often where a look takes long."""
        used = 0.0
        for look in itertools.count():
            began = time.process_time()
            sweep = self.sweep(sweep_id)
            yield sweep
            if sweep.ended:
                return
            self._workspace.work_queue()  # whoever held the queue may have gone meanwhile
            time.sleep(max(every_seconds, min(LONGEST_PAUSE, used / MOST_SHARE)))
            used = time.process_time() - began if look else 0.0  # the first one reads the runs folder

    def progress(self, sweep: Sweep) -> SweepProgress:
        """Return how far a sweep is and how long it still takes, from its own runs and from earlier ones on its
        machine."""
        progress = self._pace(sweep)
        if not sweep.running:
            return progress
        trouble = self._workspace.why_not_write()
        if not trouble and self.are_unwanted(sweep.runs):
            trouble = cancel_in_words(sweep.runs, sweep.runs)
        if trouble:
            return replace(progress, trouble=trouble, stage_seconds_left=None, seconds_left=None, share=None)
        return progress

    def _pace(self, sweep: Sweep) -> SweepProgress:
        """The progress, whether or not somebody cancels it."""
        from rankviz.core.runs.sweep_time import progress_of

        environment = next((run.environment for run in sweep.runs if run.environment), None)
        if environment is None and not sweep.recorded:
            environment = self._machines.environment(self._machines.destination(sweep).engine, look=False)
        earlier = self._measured.completed_runs(environment) if environment else ()
        return progress_of(sweep, time.time(), earlier)

    def waiting(self, sweep_id: str) -> QueuePlace | None:
        """Return the place of a sweep or a probe in the queue of all visitors; None where it does not wait."""
        self._workspace.rights.seen(sweep_id)
        return self._waiting.place(sweep_id)

    def why_waits(self, run: RunRecord) -> str:
        """Say why a run has not begun: what its engine says, or its place in the queue; that somebody cancels it; empty
        where it waits for nothing."""
        return self.why_each_waits(self.sweep(run.request.sweep_id)).get(run.run_id, "")

    def why_each_waits(self, sweep: Sweep) -> Mapping[str, str]:
        """Say why each run of a sweep waits, by its id."""
        place, each = functools.cache(lambda: self.place_in_words(sweep.sweep_id)), {}
        (reasons, with_engine), unwanted = self._reasons(sweep), self._unwanted(sweep)
        for run in (run for run in sweep.runs if run.run_id in reasons):
            asked = cancel_in_words([run], [run]) if run.run_id in unwanted else ""
            queued = "" if sweep.running or run.run_id in with_engine else place()
            if words := " ".join(filter(None, [asked, reasons[run.run_id], queued])):
                each[run.run_id] = words
        return each

    def why_sweep_waits(self, sweep: Sweep) -> str:
        """Say why the runs of a sweep wait, without those that wait for one another."""
        reasons, with_engine = self._reasons(sweep)
        if not reasons:
            return ""
        unended = [run for run in sweep.runs if run.run_id in reasons]
        unwanted = [run for run in unended if run.run_id in self._unwanted(sweep)]
        words = [reason for reason in dict.fromkeys(reasons.values()) if reason != AFTER_OTHERS]
        place = "" if sweep.running or with_engine else self.place_in_words(sweep.sweep_id)
        return " ".join(filter(None, [cancel_in_words(unwanted, unended), *words, place]))

    def are_unwanted(self, runs: Sequence[RunRecord]) -> bool:
        """Return whether some of these runs have not ended, and somebody cancels all of those."""
        unended = [run for run in runs if not run.state.ended]
        return bool(unended) and all(self._workspace.store.cancel_word(run.run_id) is not None for run in unended)

    def _unwanted(self, sweep: Sweep) -> Set[str]:
        """Ids of the runs that somebody cancels."""
        unended = (run.run_id for run in sweep.runs if not run.state.ended and not sweep.recorded)
        return {run_id for run_id in unended if self._workspace.store.cancel_word(run_id) is not None}

    def _reasons(self, sweep: Sweep) -> tuple[Mapping[str, str], Set[str]]:
        """Why each run that has not ended waits, as its journal and its sweep say it (empty where they say nothing), by
        its id; and the ids of those that an engine has."""
        unended = [run for run in sweep.runs if not run.state.ended and not sweep.recorded]
        with_job = self._workspace.supervisor.with_job
        if with_job is None:
            with_job = {run.run_id for run in unended if run.place and run.place.job}
        reasons = {run.run_id: why_it_waits(run, sweep, has_job=run.run_id in with_job) for run in unended}
        return reasons, {run.run_id for run in unended if run.run_id in with_job or run.waits}

    def place_in_words(self, sweep_id: str) -> str:
        """Say where a waiting sweep or probe stands in the queue, and how long it will wait."""
        place = self.waiting(sweep_id)
        return place.sentence if place else "It starts when a worker is free."

    def queue_words(self, engine: str = "") -> str:
        """Say how many sweeps of all visitors wait or run on an engine, and how long one more would wait; empty where
        there is none."""
        return self._waiting.words(self._machines.engine(engine).name)


def _digests(sweep: Sweep, data: str) -> Sequence[str]:
    """Digests of the content that its runs have read; where none has, of that by which the file is filed here."""
    known = fingerprints(run.environment for run in sweep.runs) or {PurePath(data).parent.name}
    return sorted(filter(_DIGEST.fullmatch, known))


def _is_one_of(file: Path, digests: Sequence[str]) -> bool:
    try:
        fits = file.is_file() and file.stat().st_size <= dataset.MAX_FILE_BYTES
        return fits and durable.digest_of(file) in digests
    except OSError:
        return False


def _without_places(failed: Failed) -> Failed:
    return replace(failed, log_tail="", error=without_places(failed.error))


def _key(source: Path) -> str:
    """Key of a zip's name and content; empty of one that is too large, which is refused before it is read."""
    from rankviz.store.transfer import MAX_ARCHIVE_BYTES

    if not source.is_file():  # said with the path as it was given
        raise InvalidSettingError(f"There is no file {quoted(str(source))}.")
    too_large = source.stat().st_size > MAX_ARCHIVE_BYTES
    return "" if too_large else f"import {durable.digest_of(source)} {source.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """A run, and the estimate beside it."""

    record: RunRecord
    estimate: RunEstimate | None
    """None where its base model is not available."""
    device_time: DeviceTime
    """Time of all its attempts until now."""
    place: Place
    """Where it is, is to be, or was."""
    folder: Path | None = None
    """Folder of its request, journal, log and adapter. None on a shared page, whose visitors see no path of its
    machine, and of a run that RankViz ships."""

    @property
    def adapter_folder(self) -> Path | None:
        """Folder of the trained adapter, as PEFT loads it; None where there is none, or no folder to show."""
        adapter = self.folder / self.record.adapter_path if self.folder and self.record.adapter_path else None
        return adapter if adapter and adapter.is_dir() else None


RunEstimateJSON = shape(RunEstimate)


class AnswerJSON(TypedDict):
    """One held-out prompt; before and after training are null where it was not answered."""

    example: int
    prompt: str
    reference: str
    before: str | None
    after: str | None


class ListedRunJSON(SummaryRow):
    """One run: what was asked of it and what was measured, flat, with the estimate beside it. Losses are nats a token,
    null is not known. Folders are those of an own machine."""

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
    """One run with its answers to prompts."""

    answers: list[AnswerJSON]


class CurvePointJSON(shape(CurvePoint)):
    """One rank of a fast curve."""

    run_id: str


def run_json(summary: RunSummary) -> RunJSON:
    """Return what was requested and measured, flat, with the estimate and the answers beside it."""
    answers = [
        {
            "example": answer.place,
            "prompt": answer.prompt,
            "reference": answer.reference,
            "before": answer.before and answer.before.text,
            "after": answer.after and answer.after.text,
        }
        for answer in summary.record.answers
    ]
    return {**listed_run_json(summary), "answers": answers}


def listed_run_json(summary: RunSummary) -> ListedRunJSON:
    """Return the JSON of a run without its answers, which are long and stand in the journals."""
    row = summary_row(summary.record)
    if summary.folder is None:  # no path of this machine is for who reads this
        row |= {"base": name_alone(row["base"]), "data": name_alone(row["data"])}
    return {
        **row,
        "error": summary.record.error or None,
        "engine": summary.place.engine or None,
        "where": summary.place.where or None,
        "attempt": summary.record.shown_attempt,
        "waits": summary.record.waits or None,
        "device_seconds": summary.device_time.seconds,
        "device_seconds_is_whole": summary.device_time.is_whole,
        "folder": summary.folder and str(summary.folder),
        "adapter_folder": summary.adapter_folder and str(summary.adapter_folder),
        "estimate": asdict(summary.estimate) if summary.estimate else None,
    }


def curve_points_json(curves: Iterable[FastCurve]) -> Sequence[CurvePointJSON]:
    """Return the points of fast curves, the lowest rank of each first."""
    return [{"run_id": curve.run_id, **point._asdict()} for curve in curves for point in curve.points]
