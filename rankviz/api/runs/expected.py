"""What runs and sweeps are expected to take on this machine, before, while and after they are made."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rankviz.api.models import Models
from rankviz.api.runs.locations import Machines
from rankviz.api.runs.measured import Measured
from rankviz.api.runs.stored import StoredRuns
from rankviz.api.workspace import Workspace
from rankviz.core.runs.estimate import RunEstimate, estimate_run, paced, refuse_base, workload_of
from rankviz.core.runs.events import HF_JOBS, LOCAL
from rankviz.core.runs.record import RunRecord, RunState
from rankviz.core.runs.request import check_count, check_minutes, check_sweep
from rankviz.errors import BadDataError, RankVizError
from rankviz.shared.quota import Quota
from rankviz.visitor import data_folder

if TYPE_CHECKING:
    from rankviz.core.cost.pace import Paces
    from rankviz.core.cost.setup import Device
    from rankviz.core.model.spec import ModelSpec
    from rankviz.core.quantity import Range
    from rankviz.core.runs.request import RunRequest, SweepRequest
    from rankviz.core.runs.sweep_time import ExpectedSweep, SweepTime


Found = TypeVar("Found")


class Estimator:
    """Used for one answer, and then given up: what it has looked up may change."""

    def __init__(self, workspace: Workspace, models: Models, measured: Measured):
        self._workspace, self._models, self._measured = workspace, models, measured
        self._known: dict[Hashable, Any] = {}

    def paces(self, request: RunRequest, environment: Mapping[str, Any], **when: float | None) -> Paces:
        """What has finished there says of the time of such a run; the same for every rank of a sweep. when: as
        Measured.paces takes it."""
        model, device, rows = self._of(request, environment)
        workload = self._once(
            ("workload", request.base, request.data_apart, request.lora.use_dora, request.training, device),
            lambda: workload_of(model, request, device, rows),
        )
        evidence = self._once("evidence", self._measured.evidence)
        return self._measured.paces(workload, environment, evidence=evidence, **when)

    def estimate(self, request: RunRequest, environment: Mapping[str, Any], paces: Paces) -> RunEstimate:
        """Memory and time of a run."""
        model, device, rows = self._of(request, environment)
        key = "estimate", request.base, request.data, request.lora, request.training, _machine(environment), device
        estimate = self._once(key, lambda: self._formulas(model, request, device, rows, environment))
        return paced(estimate, paces)

    def _formulas(
        self,
        model: ModelSpec,
        request: RunRequest,
        device: Device,
        rows: Range | None,
        environment: Mapping[str, Any],
    ) -> RunEstimate:
        training = request.training.without_auto(device)
        tokens = training.per_device_train_batch_size * (rows.expected if rows else training.max_length)
        memory = self._measured.memory(model, request.lora, training, tokens, environment)
        if memory is None:
            return self._measured.formulas(model, request, device, rows)
        return estimate_run(model, request, device, self._workspace.assumptions, rows, memory)

    def _of(self, request: RunRequest, environment: Mapping[str, Any]) -> tuple[ModelSpec, Device, Range | None]:
        """Model, device and tokens of a row."""
        return (
            self._once(("model", request.base), lambda: self._models.get(request.base)),
            self._once(_machine(environment), lambda: self._workspace.device(environment)),
            self._once(("rows", request.data), lambda: self._measured.tokens.of_rows(request)),
        )

    def _once(self, key: Hashable, find: Callable[[], Found]) -> Found:
        if key not in self._known:
            self._known[key] = find()
        return self._known[key]


def _machine(environment: Mapping[str, Any]) -> Hashable:
    """All that an estimate takes from it but how busy it was."""
    from rankviz.core.cost.pace import machine_of

    names = ("device", "device_name", "cpu_count", "cpu_bf16", "device_memory_bytes")
    return "device", machine_of(environment), *(environment.get(name) for name in names), "versions" in environment


class ExpectedRuns(StoredRuns):
    """Memory and time, computed from formulas and from what has finished here."""

    def __init__(self, workspace: Workspace, models: Models, measured: Measured, quota: Quota):
        super().__init__(workspace, quota)
        self._models = models
        self._measured = measured
        self._machines = Machines(workspace)
        self._digests: dict[tuple[str, int, int], str] = {}

    def expected(self, request: SweepRequest, environment: Mapping[str, Any] | None = None) -> ExpectedSweep:
        """Memory and time of a sweep before it is started.

        environment: of the machine, as a run's own would be, where it is not this one.
        """
        check_count(request.run_count, self._workspace.limits)
        runs = self._with_kept_data(request).runs(sweep_id="expected", created_at=0.0)
        if environment is None:
            self._quota.check_base(request.base)
            check_sweep(runs, self._workspace.limits)
        expected = self.expected_of(runs, environment)
        if environment is None:
            self.require_minutes(runs, LOCAL)
        return expected

    def expected_of(self, runs: Sequence[RunRequest], environment: Mapping[str, Any] | None = None) -> ExpectedSweep:
        """The same of runs of one sweep. environment: as in `expected`."""
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
            first=first,
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

    def require_minutes(self, runs: Sequence[RunRequest], engine: str) -> None:
        """LimitError where one of these runs of one sweep takes longer than the server lets it, even by the low end of
        its estimate. Nothing is refused where no time is known, nor for other programs, which may end, nor for what
        runs of other visitors took, who choose what those read."""
        limits = self._workspace.limits
        if limits.run_minutes is None or not self._machines.engine(engine).is_limited:
            return
        environment = self._machines.environment(engine)
        if not environment:
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
        from rankviz.core.runs.sweep_time import SHOWN_TOKENS, sweep_time

        first = runs[0]
        model, shown = self._models.get(first.base), first.shown_answers
        answering = self._answering(first, here, first.answered_examples) if first.exact_match_examples else None
        showing = self._answering(first, here, shown, SHOWN_TOKENS) if shown and self._has_prompts(first) else None
        return sweep_time(model, runs, estimates, self._workspace.assumptions, paces, answering, showing)

    def _has_prompts(self, run: RunRequest) -> bool:
        """Tell whether the data can be read and has a row to answer."""
        try:
            return bool(self._measured.tokens.of_answers(run))
        except BadDataError:
            return False

    def _answering(
        self, run: RunRequest, here: Mapping[str, Any], answers: int, most: float = math.inf
    ) -> Range | None:
        """What a greedy answer costs in passes over a row; None where the data cannot be read."""
        from rankviz.core.runs.sweep_time import answer_passes

        tokens, rows = self._measured.tokens.of_answers(run), self._measured.tokens.of_rows(run)
        if tokens is None or rows is None:
            return None
        return answer_passes(tokens, rows, answers=answers, cuda=here.get("device") == "cuda", most=most)

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
        """Of its content, read again once it has changed; None where there is no such file that can be read."""
        from rankviz.store.durable import digest_of

        with contextlib.suppress(OSError):
            if file.is_file():
                state = file.stat()
                key = str(file), state.st_mtime_ns, state.st_size
                if key not in self._digests:
                    self._digests[key] = digest_of(file)
                return self._digests[key]
        return None

    def expected_run(self, record: RunRecord) -> RunEstimate | None:
        """The estimate beside a run's measurements, computed again; None where its base model is not available.

        memory_bytes is of what the run measures: a process's resident set on a CPU, what is allocated on a GPU.
        seconds is training alone, from what had finished on its machine before it began.
        """
        (estimate,) = self.expected_runs([record])
        return estimate

    def expected_runs(self, records: Iterable[RunRecord]) -> Iterator[RunEstimate | None]:
        """The same of several runs, each as it is asked for. There is none of one that waits for an engine of which no
        machine is known."""
        from rankviz.core.runs.run_time import load_average_of

        estimator, there = self._estimator(), functools.cache(self._environment_on)
        for record in records:
            request, average, estimate = record.request, load_average_of(record), None
            waits = record.state is RunState.QUEUED and not record.environment
            with contextlib.suppress(RankVizError):
                environment = there(self._engine_of(record)) if waits else record.environment
                if environment is not None:
                    paces = estimator.paces(request, environment, before=record.started_at, load_average=average)
                    estimate = estimator.estimate(request, environment, paces)
            yield estimate

    def _engine_of(self, record: RunRecord) -> str:
        """Return the engine of a run that waits."""
        return self._workspace.supervisor.place_of(record.run_id)[0] or self._workspace.settings.engine

    def _environment_on(self, engine: str) -> Mapping[str, Any] | None:
        """What a run finds there, as far as that is known without asking anybody. Which machine is rented is chosen for
        each sweep."""
        if engine == LOCAL:
            return {}
        return None if engine == HF_JOBS else self._machines.environment(engine, look=False)

    def _estimator(self) -> Estimator:
        return Estimator(self._workspace, self._models, self._measured)
