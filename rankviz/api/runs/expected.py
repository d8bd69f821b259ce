"""What runs and sweeps are expected to take on this machine, before, while and after they are made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz.api.models import Models
from rankviz.api.runs.measured import Measured
from rankviz.api.runs.stored import StoredRuns
from rankviz.api.visitors.quota import Quota
from rankviz.api.workspace import Workspace
from rankviz.core.runs.base_check import refuse_base
from rankviz.core.runs.estimate import RunEstimate, estimate_run
from rankviz.core.runs.limits import check_count, check_sweep
from rankviz.core.runs.record import RunRecord
from rankviz.errors import BadDataError, RankVizError

if TYPE_CHECKING:
    from rankviz.core.cost.pace import Paces
    from rankviz.core.quantity import Range
    from rankviz.core.runs.request import RunRequest, SweepRequest
    from rankviz.core.runs.timing.sweep_time import ExpectedSweep, SweepTime


class ExpectedRuns(StoredRuns):
    """Memory and time, computed from formulas and from what has finished here."""

    def __init__(self, workspace: Workspace, models: Models, measured: Measured, quota: Quota):
        super().__init__(workspace, quota)
        self._models = models
        self._measured = measured
        self._kept: dict[tuple[str, str, int, int], Path] = {}

    def expected(self, request: SweepRequest, environment: Mapping[str, Any] | None = None) -> ExpectedSweep:
        """Memory and time of a sweep before it is started.

        environment: of the machine, as a run's own would be, where it is not this one.
        """
        check_count(request.run_count, self._workspace.limits)
        runs = self._with_kept_data(request).runs(sweep_id="expected", created_at=0.0)
        if environment is None:
            self._quota.check_base(request.base)
            check_sweep(runs, self._workspace.limits)
        return self.expected_of(runs, environment)

    def expected_of(self, runs: Sequence[RunRequest], environment: Mapping[str, Any] | None = None) -> ExpectedSweep:
        """The same of runs of one sweep. environment: as in `expected`."""
        from rankviz import machine
        from rankviz.core.runs.estimate import precision_warning
        from rankviz.core.runs.timing.sweep_time import ExpectedSweep

        here, first = environment or machine.here(), runs[0]
        refuse_base(self._models.get(first.base), first.lora, first.training, self._workspace.device(here))
        paces = self._paces(first, here, load_average=None if environment else machine.load_average())
        by_rank = {run.r: self._estimate_run(run, here, paces) for run in runs}
        return ExpectedSweep(
            device_name=here["device_name"],
            runs=len(runs),
            truncations=max(len(run.cut_ranks) for run in runs),
            ranks=by_rank,
            time=self._time(runs, [by_rank[run.r] for run in runs], here, paces),
            paces=paces,
            first=first,
            warning=precision_warning(first, self._workspace.device(here), self._workspace.assumptions),
        )

    def seconds_of(self, runs: Sequence[RunRequest], environment: Mapping[str, Any] | None = None) -> Range | None:
        """How long runs of one sweep take; None where that is not known. environment: as in `expected`."""
        from rankviz import machine

        here = environment or machine.here()
        paces = self._paces(runs[0], here, load_average=machine.load_average() if here == machine.here() else None)
        by_rank: dict[int, RunEstimate] = {}
        for run in runs:
            if run.r not in by_rank:
                by_rank[run.r] = self._estimate_run(run, here, paces)
        time = self._time(runs, [by_rank[run.r] for run in runs], here, paces)
        return time.total if time else None

    def _time(
        self, runs: Sequence[RunRequest], estimates: Sequence[RunEstimate], here: Mapping[str, Any], paces: Paces
    ) -> SweepTime | None:
        """Part by part. Answers are asked for alike in all runs of a sweep."""
        from rankviz.core.runs.timing.sweep_time import SHOWN_TOKENS, sweep_time

        first = runs[0]
        model, shown = self._models.get(first.base), first.shown_answers
        answering = self._answering(first, here, first.answered_examples) if first.exact_match_examples else None
        showing = self._answering(first, here, shown, SHOWN_TOKENS) if shown and self._has_prompts(first) else None
        return sweep_time(model, runs, estimates, self._workspace.assumptions, paces, answering, showing)

    def _has_prompts(self, run: RunRequest) -> bool:
        """Whether its data can be read and has a row to answer."""
        try:
            return bool(self._measured.answer_tokens(run))
        except BadDataError:
            return False

    def _answering(
        self, run: RunRequest, here: Mapping[str, Any], answers: int, most: float = math.inf
    ) -> Range | None:
        """What a greedy answer costs in passes over a row; None where the data cannot be read."""
        from rankviz.core.runs.timing.sweep_time import answer_passes

        tokens, rows = self._measured.answer_tokens(run), self._measured.row_tokens(run)
        if tokens is None or rows is None:
            return None
        return answer_passes(tokens, rows, answers=answers, cuda=here.get("device") == "cuda", most=most)

    def _with_kept_data(self, request: SweepRequest) -> SweepRequest:
        """With the path that the data gets in a started run, so that earlier runs on the same rows are known."""
        try:
            path = self._workspace.references.data(request.data).path
        except BadDataError:
            return request
        if path is None or not path.is_file():
            return request
        state, owner = path.stat(), self._workspace.visitor.id
        key = owner, str(path), state.st_mtime_ns, state.st_size
        if key not in self._kept:
            self._kept[key] = self._workspace.store.kept_path(path, owner)
        kept = self._kept[key]
        return replace(request, data=str(kept)) if kept.exists() else request

    def expected_run(self, record: RunRecord) -> RunEstimate | None:
        """The estimate beside a run's measurements, computed again; None where its base model is not available.

        memory_bytes is of what the run measures: a process's resident set on a CPU, what is allocated on a GPU.
        seconds is training alone, from what had finished on its machine before it began.
        """
        from rankviz.core.runs.timing.times import load_average_of

        try:
            average = load_average_of(record)
            paces = self._paces(record.request, record.environment, before=record.started_at, load_average=average)
            return self._estimate_run(record.request, record.environment, paces)
        except RankVizError:
            return None

    def _paces(self, request: RunRequest, environment: Mapping[str, Any], **when: float | None) -> Paces:
        """The same for every rank of a sweep."""
        from rankviz.core.runs.estimate import workload_of

        model, device = self._models.get(request.base), self._workspace.device(environment)
        workload = workload_of(model, request, device, self._measured.row_tokens(request))
        return self._measured.paces(workload, environment, **when)

    def _estimate_run(self, request: RunRequest, environment: Mapping[str, Any], paces: Paces) -> RunEstimate:
        model, device = self._models.get(request.base), self._workspace.device(environment)
        rows = self._measured.row_tokens(request)
        training = request.training.without_auto(device)
        tokens = training.per_device_train_batch_size * (rows.expected if rows else training.max_length)
        memory = self._measured.memory(model, request.lora, training, tokens, environment)
        estimate = estimate_run(model, request, device, self._workspace.assumptions, rows, memory, paces)
        return replace(
            estimate, timed_by=self._named(estimate.timed_by), calibrated_by=self._named(estimate.calibrated_by)
        )

    def _named(self, run_ids: Sequence[str]) -> tuple[str, ...]:
        """Times and memory of everybody's runs are used, and only one's own are named."""
        return tuple(run_id if self._workspace.rights.mine(run_id) else "" for run_id in run_ids)
