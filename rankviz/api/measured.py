"""Measurements of runs and probes that finished on this machine, used to correct estimates of memory and time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from rankviz import machine
from rankviz.api.workspace import Cache, Operations
from rankviz.core.cost.pace import (
    LIBRARIES,
    Calibration,
    MemoryCalibration,
    Pace,
    Timing,
    Workload,
    kernels,
    machine_of,
    pace_of,
)
from rankviz.core.cost.setup import Device, TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.core.model.spec import ModelSpec
from rankviz.core.probe import ProbeRecord, applies, calibrate, estimate_probe, timing_of
from rankviz.core.quantity import Range
from rankviz.core.runs import run_time
from rankviz.core.runs.estimate import RunEstimate, estimate_run, paced, row_tokens, workload_of
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import RunRequest
from rankviz.core.runs.sweep_time import SweepTime, evaluation_of_one, sweep_time
from rankviz.errors import RankVizError
from rankviz.visitor import SERVER, acting_as

if TYPE_CHECKING:
    from rankviz.api import Api

Record = RunRecord | ProbeRecord
MOST_RUNS = 200
"""Most finished runs and probes, the latest, that an estimate uses."""
MOST_TIMINGS = 20_000
"""Number of ended runs and probes whose measured time is cached."""
MOST_FORMULAS = 1000
"""Number of run estimates that are cached, about a kilobyte each."""


class MeasuredRuns(Operations):
    """Finished runs and probes that estimates use: those on the same device, CPU count and library versions. Runs of
    other visitors count too, but their ids are not shown (Rights.named)."""

    def __init__(self, api: Api):
        super().__init__(api)
        self._timings = Cache[Timing | None](MOST_TIMINGS)
        self._formulas = Cache[RunEstimate](MOST_FORMULAS)
        self._ended: tuple[int | None, Mapping[Hashable, Sequence[Record]]] = None, {}
        self._paces: dict[Hashable, Pace | None] = {}

    def row_tokens(self, request: RunRequest) -> Range | None:
        """Return the tokens of a padded example; None where the data cannot be read any more."""
        with suppress(RankVizError):
            held = self._api.data.measure(request.data, request.columns)
            return row_tokens(held.mean_characters, held.longest_characters, self._workspace.assumptions)
        return None

    def memory(
        self, model: ModelSpec, lora: LoraConfig, training: TrainingSetup, tokens: float, environment: Mapping[str, Any]
    ) -> MemoryCalibration | None:
        """Return the memory correction by probes of the same setup on this device; None without such probes."""
        if not (probes := self._workspace.store.probes()):
            return None
        here = {"versions": machine.versions(LIBRARIES), **environment}
        device = self._workspace.device(environment)
        assume = self._workspace.assumptions
        like = [each for each in probes if applies(each, model.id, lora, training, tokens, here, assume)]
        found = calibrate([(each, estimate_probe(model, each.request, device, assume)) for each in like], assume)
        return found and replace(found, probe_ids=self._workspace.rights.named(found.probe_ids))

    def pace(
        self,
        workload: Workload,
        environment: Mapping[str, Any],
        *,
        before: float | None = None,
        ended: Mapping[Hashable, Sequence[Record]] | None = None,
    ) -> Pace | None:
        """Return the pace of the machine of this environment; None where nothing comparable finished there. before:
        unix seconds; later ends are ignored. ended: of `ended_by_machine`, computed once."""
        here = machine_of({"versions": machine.versions(LIBRARIES), **environment})
        ended = (self.ended_by_machine() if ended is None else ended).get(here, ())
        end = len(ended) if before is None else bisect_right(ended, before, key=lambda record: record.ended_at)
        key = here, end, workload
        if key not in self._paces:  # a list asks for the same runs again and again
            newest = ended[end - 1 :: -1] if end else ()
            timings = (self._timings.get((run.run_id, run.ended_at), partial(self._timing, run)) for run in newest)
            known = list(islice(filter(None, timings), MOST_RUNS))
            self._paces[key] = pace_of(known, workload, self._workspace.assumptions)
        found = self._paces[key]
        return found and found.naming(self._workspace.rights.named)

    def of_question(
        self, model: ModelSpec, lora: LoraConfig, training: TrainingSetup, environment: Mapping[str, Any]
    ) -> Calibration | None:
        """Return the correction of an estimate without a run; None where nothing comparable was measured here."""
        of_kernels = kernels(training, use_dora=lora.use_dora)
        workload = Workload(base=model.id, parameters=model.total_parameters, kernels=of_kernels)
        memory = self.memory(model, lora, training, training.tokens_per_micro_step, environment)
        pace = self.pace(workload, environment)
        return Calibration(memory=memory, pace=pace) if memory or pace else None

    def formulas(self, model: ModelSpec, request: RunRequest, device: Device, rows: Range | None) -> RunEstimate:
        """Return the estimate of a run without any correction by measurements. rows: result of `row_tokens`."""
        key = model, request.lora, request.training, device, rows
        return self._formulas.get(key, lambda: estimate_run(model, request, device, self._workspace.assumptions, rows))

    def ended_by_machine(self) -> Mapping[Hashable, Sequence[Record]]:
        """Return ended runs and probes in order, by machine (device, CPUs, versions); cached until a run or probe
        begins or ends. On a shared page, only those of this server's workers: imported ones could claim any machine."""
        store, turns = self._workspace.store, self._workspace.store.turns()
        if self._ended[0] != turns:
            by_machine: dict[Hashable, list[Record]] = {}
            for record in sorted(store.records(), key=lambda record: record.ended_at or 0.0):
                made_here = not self._workspace.shared or store.has_begun(record.run_id)
                if record.ended_at and record.environment and made_here:
                    by_machine.setdefault(machine_of(record.environment), []).append(record)
            self._ended, self._paces = (turns, by_machine), {}
        return self._ended[1]

    def _timing(self, record: Record) -> Timing | None:
        """Return the measured time of an ended run or probe; None where it is not known."""
        request, assume = record.request, self._workspace.assumptions
        device = self._workspace.device(record.environment)
        is_probe = isinstance(record, ProbeRecord)
        with suppress(RankVizError), acting_as(SERVER):  # whose base has gone; only its times are used, unnamed
            model = self._api.models.at_hand(request.model_id if is_probe else request.base)
            if record.state != "completed" or model is None:
                return None
            if is_probe:
                return timing_of(record, model, estimate_probe(model, request, device, assume))
            if seconds := self.formulas(model, request, device, self.row_tokens(request)).formula_seconds:
                one = evaluation_of_one(request, seconds).expected
                return run_time.timing_of(record, workload_of(model, request, device), seconds.expected, one)
        return None


class Estimator:
    """Estimates runs for a single answer. Each answer needs a new one, because cached measurements may change."""

    def __init__(self, api: Api):
        self._api, self._workspace, self._measured = api, api.workspace, api.estimates.measured
        self._once = Cache[Any](MOST_FORMULAS).get

    def pace(self, request: RunRequest, environment: Mapping[str, Any], *, before: float | None = None) -> Pace | None:
        """Return a run's pace, the same for each rank of a sweep. before: unix seconds; later ends are ignored."""
        model, device, _ = self._of(request, environment)
        ended = self._once("ended", self._measured.ended_by_machine)
        return self._measured.pace(workload_of(model, request, device), environment, before=before, ended=ended)

    def estimate(self, request: RunRequest, environment: Mapping[str, Any], pace: Pace | None) -> RunEstimate:
        """Return the estimate of a run's memory and time."""
        model, device, rows = self._of(request, environment)

        def formulas() -> RunEstimate:
            training, memory = request.training.without_auto(device), None
            if self._once("probes", self._workspace.store.probes):
                tokens = training.per_device_train_batch_size * (rows.expected if rows else training.max_length)
                memory = self._measured.memory(model, request.lora, training, tokens, environment)
            if memory is None:
                return self._measured.formulas(model, request, device, rows)
            return estimate_run(model, request, device, self._workspace.assumptions, rows, memory)

        there = machine_of(environment), device, "versions" in environment
        key = request.base, request.data, request.columns, request.lora, request.training, there
        return paced(self._once(key, formulas), pace)

    def time(self, runs: Sequence[RunRequest], environment: Mapping[str, Any], pace: Pace | None) -> SweepTime | None:
        """Return the time of runs of one sweep; None where it is not known."""
        estimates = [self.estimate(run, environment, pace) for run in runs]
        return sweep_time(self._api.models.get(runs[0].base), runs, estimates, self._workspace.assumptions, pace)

    def _of(self, request: RunRequest, environment: Mapping[str, Any]) -> tuple[ModelSpec, Device, Range | None]:
        names = ("device", "device_name", "device_memory_bytes", "cpu_count", "cpu_bf16")
        key = tuple(environment.get(name) for name in names)
        return (
            self._once(("model", request.base), lambda: self._api.models.get(request.base)),
            self._once(key, lambda: self._workspace.device(environment)),
            self._once(("rows", request.data, request.columns), lambda: self._measured.row_tokens(request)),
        )
