"""Starts sweeps: their expected time and memory, checks before the start, the start, a resume, and one more run."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from rankviz import dataset, installed, machine
from rankviz.api.measured import Estimator
from rankviz.api.workspace import Cache, Operations, Part, writes
from rankviz.core.runs.estimate import RunEstimate, refuse_base
from rankviz.core.runs.events import HF_JOBS, LOCAL, RAY, fingerprints
from rankviz.core.runs.record import RunRecord, RunState, Sweep
from rankviz.core.runs.request import (
    RunRequest,
    SweepRequest,
    added_run,
    check_download_size,
    check_run_minutes,
    check_run_settings,
    check_setting_limits,
)
from rankviz.core.runs.sweep_time import ExpectedSweep, SweepTime
from rankviz.errors import BadDataError, InvalidSettingError, NotInstalledError, RankVizError, UserError, quoted
from rankviz.store import durable
from rankviz.store.journal import ANYWHERE, WantedEngine

if TYPE_CHECKING:
    from rankviz.api import Api
    from rankviz.api.engines import Plan
    from rankviz.jobs import Engine
    from rankviz.shared.quota import Quota

MOST_TIMES = 5000
"""Number of sweeps whose estimated time is cached."""
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
NOT_THE_PAYER = "The jobs of this sweep are paid by its owner, who alone can start another one."


class Starts(Operations):
    """Part of Runs that plans, starts and continues sweeps.

    A sweep continues with its failed and cancelled runs (`resume`) or with one more run (`add`), on its own engine or
    on another. Arguments that are left empty (engine, machine, spending limit) keep the sweep's values. The spending
    limit covers all jobs of the sweep, also earlier ones.
    """

    quota: Quota = Part("shared.quota.Quota", "_api")

    def __init__(self, api: Api):
        super().__init__(api)
        self._times = Cache[SweepTime | None](MOST_TIMES)

    # Expected memory and time.

    def expected(self, request: SweepRequest) -> ExpectedSweep:
        """Return memory and time of a sweep on this machine before its start."""
        check_setting_limits(self._workspace.limits, runs_per_sweep=request.run_count)
        runs = self.planned(request)
        self.quota.check_base_size(request.base)
        check_run_settings(runs, self._workspace.limits)
        if request.exact_match_examples:
            self._api.data.measure(request.data, request.columns).require_prompts()
        expected = self.expected_of(runs)
        self._require_minutes(runs, LOCAL)
        return expected

    def planned(self, request: SweepRequest) -> Sequence[RunRequest]:
        """Return the runs of a sweep before it is queued. Their data is the path of the copy that a start makes, so
        that measurements of earlier runs on the same data apply."""
        with suppress(RankVizError, OSError):
            if path := self._api.data.file(request.data):
                owners = self._workspace.visitor.ids
                copies = [self._workspace.store.copy_path(path, owner) for owner in owners]
                given = self._workspace.references.data(request.data).text
                kept = next((str(copy) for copy in copies if copy.is_file()), given)
                request = replace(request, data=kept)
        return request.runs(sweep_id="expected", created_at=0.0)

    def expected_of(self, runs: Sequence[RunRequest], environment: Mapping[str, Any] | None = None) -> ExpectedSweep:
        """Return memory and time of runs of one sweep. environment: Facts of another machine; None for this machine."""
        here, first, estimator = environment or machine.here(), runs[0], Estimator(self._api)
        device = self._workspace.device(here)
        refuse_base(self._api.models.get(first.base), first.lora, first.training, device)
        pace = estimator.pace(first, here)
        return ExpectedSweep(
            device_name=here["device_name"],
            runs=len(runs),
            truncations=max(len(run.cut_ranks) for run in runs),
            ranks={run.r: estimator.estimate(run, here, pace) for run in runs},
            time=estimator.time(runs, here, pace),
            pace=pace,
            parts=1 if environment else self._workspace.supervisor.parts(LOCAL, len(runs)),
            run_minutes=None if environment else self._workspace.limits.run_minutes,
        )

    def expected_runs(self, records: Iterable[RunRecord]) -> Iterator[RunEstimate | None]:
        """Yield the estimate of each run, computed on demand, to compare with its measurements; None where the base or
        the machine is not known. memory_bytes is the quantity that the run measures: resident memory of the process on
        a CPU, allocated memory on a GPU. seconds is training time, estimated from runs that had finished on the same
        machine before the run began."""
        estimator, there = Estimator(self._api), functools.cache(self._environment_on)
        for record in records:
            request, estimate = record.request, None
            with suppress(RankVizError):
                environment = record.environment
                if record.state is RunState.QUEUED and not environment:
                    environment = there(self._workspace.store.listed_destination(record.run_id).engine)
                if environment is not None:
                    pace = estimator.pace(request, environment, before=record.started_at)
                    estimate = estimator.estimate(request, environment, pace)
            yield estimate

    def expected_run(self, record: RunRecord) -> RunEstimate | None:
        """Return the estimate of one run; None where its base or machine is not known."""
        return next(self.expected_runs([record]))

    def time_of_records(self, records: Sequence[RunRecord]) -> SweepTime | None:
        """Return the estimated time of runs of one sweep, computed once; None where it is not known."""
        environment = next((record.environment for record in records if record.environment), None)
        key = records[0].request.sweep_id, len(records), environment is None

        def estimated() -> SweepTime | None:
            with suppress(RankVizError):  # its base or its data has gone
                there = environment or self._environment_on(self._api.engines.destination_of(records).engine)
                if there:
                    estimator, runs = Estimator(self._api), [record.request for record in records]
                    return estimator.time(runs, there, estimator.pace(runs[0], there))
            return None

        return self._times.get(key, estimated)

    def _environment_on(self, engine: str) -> Mapping[str, Any] | None:
        """Return the environment of runs on an engine, without asking it; None for Hugging Face Jobs."""
        name = engine or self._workspace.settings.engine
        return None if name == HF_JOBS else self._api.engines.environment(name)

    def _require_minutes(self, runs: Sequence[RunRequest], engine: str) -> None:
        """Raise LimitError where one of these runs would exceed the server's time limit, by the low end of the lower of
        two estimates: formulas alone, and corrected by all finished runs. Unknown times pass."""
        limits, engines, estimator = self._workspace.limits, self._api.engines, Estimator(self._api)
        if limits.run_minutes is None or not engines.get(engine).is_limited:
            return
        if environment := engines.environment(engine):
            pace = estimator.pace(runs[0], environment)
            times = [estimator.time(runs, environment, each) for each in ([pace, None] if pace else [None])]
            check_run_minutes(min((time.longest_run.low for time in times if time), default=0.0), limits)

    # The start of a sweep.

    def check_sweep_can_start(self, request: SweepRequest, there: WantedEngine = ANYWHERE) -> None:
        """Check that a sweep could start at a destination; a RankVizError says what to change. Writes nothing. This
        machine needs a trainer and a GPU only if the destination is this machine's own engine."""
        engine = self._usable(there)
        # Before the larger number that any sweep may have; a paid machine has the same limit.
        check_setting_limits(self._workspace.limits, runs_per_sweep=request.run_count)
        request.validate()
        self._check_base(request.base, engine)  # before data that is fetched
        self.check_runs_can_start(self.planned(request), there)

    def _check_base(self, base: str, engine: Engine) -> None:
        """Check that a base is known and, on an engine with the server's limits, that it is not too large."""
        self._workspace.references.base(base)
        if engine.is_limited:
            self.quota.check_base_size(base)

    def check_runs_can_start(self, runs: Sequence[RunRequest], there: WantedEngine = ANYWHERE) -> None:
        """Check that runs could start at a destination; a RankVizError says what to change. The runs may be resumed,
        added or imported, so they need not have the same settings."""
        from rankviz.settings import paid_limits

        engine, references = self._usable(there), self._workspace.references
        is_here = self._api.engines.is_here(there.engine)
        limits = self._workspace.limits
        check_setting_limits(limits, runs_per_sweep=len(runs))
        for base in dict.fromkeys(run.base for run in runs):
            self._check_base(base, engine)  # first: no other setting would help
        check_run_settings(runs, limits if engine.is_limited else paid_limits(limits))
        alike: dict[tuple, list[RunRequest]] = {}
        for run in runs:  # all of a sweep's are alike unless they come from elsewhere
            key = run.base, run.data, run.columns, replace(run.lora, r=1, lora_alpha=1.0), run.training
            alike.setdefault(key, []).append(run)
        for some in alike.values():
            run = some[0]
            device = self._api.engines.device(there)
            run.training.settle(device)
            data = self._api.data.measure(run.data, run.columns)
            if run.exact_match_examples:
                data.require_prompts()
            if not is_here and not engine.sees_folders and references.model(run.base).path:
                advice = SAME_FOLDERS if engine.name == RAY and self._workspace.visitor.admin else ""
                raise InvalidSettingError(FOLDER_IS_NOT_SENT + advice)
            refuse_base(self._api.models.get(run.base), run.lora, run.training, device)
            if is_here:
                self._api.machine.require(run.training, run.base)
            if engine.is_limited and limits.base_parameters is not None:
                elsewhere = None if is_here else device
                check_download_size(self._api.machine.weight_bytes(run.training, run.base, elsewhere), limits)
            self._require_minutes(some, engine.name)

    def _usable(self, there: WantedEngine) -> Engine:
        """Return the engine of a destination; raise a UserError where it cannot be used."""
        engine, is_here = self._api.engines.get(there.engine), self._api.engines.is_here(there.engine)
        if is_here and (message := installed.why_not_train(shared=self._workspace.shared)):
            raise NotInstalledError(message)
        if not is_here and (message := self._api.engines.trouble(engine)):
            raise InvalidSettingError(message)
        return engine

    def plan(self, request: SweepRequest, there: WantedEngine = ANYWHERE) -> Plan:
        """Return the plan of a new sweep; a RankVizError says what to change. there: Of `engines.destination`."""
        self.check_sweep_can_start(request, there)
        return self._api.engines.plan_of(self.planned(request), there)

    @writes()
    def start(self, request: SweepRequest, there: WantedEngine = ANYWHERE) -> str:
        """Check a sweep and its visitor's limits (`Quota.check_visitor_limits`), queue it, and return its id. Copy the
        data file into the runs folder, since an upload may be deleted earlier than the sweep."""
        owner, references = self._workspace.rights.somebody(), self._workspace.references
        self.check_sweep_can_start(request, there)
        offer = None
        if there.engine == HF_JOBS:
            offer = self._api.engines.plan_of(self.planned(request), there).offer
        store, base, file = self._workspace.store, references.model(request.base), self._api.data.file(request.data)
        request = replace(request, base=base.text)
        runs = request.runs(sweep_id="expected", created_at=0.0)
        copied = file.stat().st_size if file and not durable.is_intact_copy(store.copy_path(file, owner.id)) else 0
        with (
            self._workspace.start_line.turn(),
            self.quota.check_visitor_limits(new=len(runs), runs=runs),
            self._workspace.room.holding(copied),
        ):
            if file and not file.is_file():  # an upload may have gone meanwhile
                raise BadDataError(f"The file {quoted(file.name)} has just gone. Give it again.")
            sweep_id = store.create(request, owner.id, there, data=file)
        self._workspace.work_queue()
        with suppress(OSError):  # its runs have it too
            self._api.engines.note_limit(sweep_id, offer)
        return sweep_id

    # Sweeps that continue.

    def destination(
        self, sweep_id: str, engine: str | None = None, flavor: str | None = None, spend: float | None = None
    ) -> WantedEngine:
        """Return the destination on which a sweep of the current visitor would continue."""
        self._api.runs.own_ids(sweep_id)
        engines, sweep = self._api.engines, self._api.runs.sweep(sweep_id)
        now = engines.destination_of(sweep.runs)
        name = engines.name(engine or now.engine, flavor, spend)
        if name != HF_JOBS:
            return WantedEngine(name if engine else now.engine)
        known = now.options if engines.name(now.engine) == HF_JOBS else {}
        spend = engines.limit(sweep) if spend is None else spend
        return engines.destination(HF_JOBS, flavor or known.get("flavor", ""), spend)

    def plan_resume(
        self, sweep_id: str, engine: str | None = None, flavor: str | None = None, spend: float | None = None
    ) -> Plan:
        """Return the plan of a sweep's failed and cancelled runs. A RankVizError says why they cannot start."""
        there = self._there(sweep_id, engine, flavor, spend)
        return self._plan_of(sweep_id, self._resumed(sweep_id), there)

    @writes()
    def resume(
        self, sweep_id: str, engine: str | None = None, flavor: str | None = None, spend: float | None = None
    ) -> Sequence[str]:
        """Queue the failed and cancelled runs of a sweep again; return their ids. Completed runs stay."""
        there, again = self._there(sweep_id, engine, flavor, spend), self._resumed(sweep_id)
        self._api.engines.note_limit(sweep_id, self._plan_of(sweep_id, again, there).offer)
        with self._workspace.start_line.turn(), self.quota.check_visitor_limits(new=0, runs=again, sweep_id=sweep_id):
            queued = self._workspace.store.requeue_all([each.run_id for each in again], there)
            if not queued:
                raise InvalidSettingError(NOTHING_TO_RESUME)  # somebody else resumed or deleted them meanwhile
        self._workspace.work_queue()
        return queued

    def plan_added(self, sweep_id: str, r: int) -> Plan:
        """Return the plan of one more run of a sweep on the sweep's engine, within the rest of its spending limit."""
        return self._plan_of(sweep_id, [self.added_request(sweep_id, r)], self._there(sweep_id))

    @writes()
    def add(self, sweep_id: str, r: int) -> str:
        """Queue one more run of a sweep; return the run's id."""
        there, request = self._there(sweep_id), self.added_request(sweep_id, r)
        self._api.engines.note_limit(sweep_id, self._plan_of(sweep_id, [request], there).offer)
        store, first = self._workspace.store, self._api.runs.own_ids(sweep_id)[0]
        check_visitor_limits = self.quota.check_visitor_limits(new=1, runs=[request], sweep_id=sweep_id, adds=True)
        with self._workspace.start_line.turn(), check_visitor_limits:
            file = self._workspace.references.data(request.data).path
            store.add([request], store.ownership(first), there, data=file, joins=request.sweep_id)
        self._workspace.work_queue()
        return request.run_id

    def added_request(self, sweep_id: str, r: int, *, needs_data: bool = True) -> RunRequest:
        """Return the request of one more run of a sweep. Settings, learning rate and seed are those of the best run at
        the highest rank, with the next seed if rank r has such a run. BadDataError where needed data is gone."""
        sweep = self._api.runs.sweep(sweep_id)
        like = min(sweep.runs, key=lambda run: (-run.request.r, run.loss_or_inf)).request
        if needs_data:
            self._require_data(sweep, like.data)
        return added_run([run.request for run in sweep.runs], like, r, created_at=time.time())

    def _resumed(self, sweep_id: str) -> Sequence[RunRequest]:
        """Return the requests of a sweep's failed and cancelled runs. InvalidSettingError if there are none,
        BadDataError if their data is gone."""
        sweep = self._api.runs.sweep(sweep_id)
        again = [run.request for run in sweep.resumable]
        if not again:
            raise InvalidSettingError(NOTHING_TO_RESUME + ("" if sweep.ended else f" {CANCEL_FIRST}"))
        for data in {each.data for each in again}:
            self._require_data(sweep, data)
        return again

    def _there(
        self, sweep_id: str, engine: str | None = None, flavor: str | None = None, spend: float | None = None
    ) -> WantedEngine:
        """Return the destination of runs to start. EngineUnavailableError where the spending limit is unreadable."""
        there = self.destination(sweep_id, engine, flavor, spend)
        if spend is None and there.engine == HF_JOBS:
            self._api.engines.given_limit(self._api.runs.sweep(sweep_id))
        return there

    def _plan_of(self, sweep_id: str, runs: Sequence[RunRequest], there: WantedEngine) -> Plan:
        if there.engine == HF_JOBS and self._api.runs.owner_of(sweep_id):
            raise InvalidSettingError(NOT_THE_PAYER)
        self.check_runs_can_start(runs, there)
        return self._api.engines.plan_of(runs, there)

    def _require_data(self, sweep: Sweep, data: str) -> None:
        """Raise BadDataError unless the sample or file that a sweep was trained on is there, with the same content."""
        if dataset.is_sample(data, self._workspace.assets):
            return
        digests = fingerprints(run.environment for run in sweep.runs) or {PurePath(data).parent.name}
        with suppress(UserError, OSError):
            file = self._workspace.references.data(data).path
            if file and durable.digest_of(file) in digests:
                return
        raise BadDataError(GIVE_AGAIN.format(quoted(PurePath(data).name)))
