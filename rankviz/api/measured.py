"""Measurements of runs and probes that finished on this machine, used to correct estimates of memory and time."""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from rankviz.api.workspace import Operations
from rankviz.core.quantity import Range
from rankviz.errors import RankVizError
from rankviz.visitor import SERVER, acting_as

if TYPE_CHECKING:
    from rankviz.api import Api
    from rankviz.core.cost.pace import Calibration, MemoryCalibration, Others, Paces, Timing, Workload
    from rankviz.core.cost.setup import Device, TrainingSetup
    from rankviz.core.lora.config import LoraConfig
    from rankviz.core.model.spec import ModelSpec
    from rankviz.core.probe import ProbeRecord
    from rankviz.core.runs.estimate import RunEstimate
    from rankviz.core.runs.record import RunRecord
    from rankviz.core.runs.request import RunRequest

    Record: TypeAlias = RunRecord | ProbeRecord

MOST_RUNS = 200
"""Most finished runs and probes, the latest, that an estimate uses."""
LOAD_SECONDS = 3600.0
"""Seconds after which a worker that has ended no longer counts in the load average, a mean over a minute."""
MOST_FORMULAS = 1000
"""Number of run estimates that are cached, about a kilobyte each."""


class EndedHere:
    """Runs and probes that have ended on one machine, sorted by end.

    Args:
        records: Ended runs and probes, in any order.
        timing_of: Returns the measured times of a run or probe; None where they are not known.
    """

    def __init__(self, records: Sequence[Record], timing_of: Callable[[Record], Timing | None]):
        self.records = sorted(reversed(records), key=lambda record: record.ended_at)
        self.ends = [record.ended_at for record in self.records]
        self._timing_of = timing_of
        self.paces: dict[Hashable, Paces] = {}

    def latest(self, before: float | None) -> Sequence[Timing]:
        """Return the timings of the last MOST_RUNS that ended by `before` (unix seconds; None: all), oldest first."""
        end = len(self.ends) if before is None else bisect_right(self.ends, before)
        timings = map(self._timing_of, self.records[end - 1 :: -1] if end else ())
        return tuple(islice(filter(None, timings), MOST_RUNS))[::-1]


class MeasuredRuns(Operations):
    """Finished runs and probes that estimates use: those on the same device, CPU count and library versions. Runs of
    other visitors count too, but their ids are not shown (Rights.named)."""

    def __init__(self, api: Api):
        super().__init__(api)
        self._timings: dict[tuple[str, float], Timing | None] = {}
        self._here: dict[tuple[str, float | None], bool] = {}
        self._formulas: dict[Hashable, RunEstimate] = {}
        self._ended: tuple[int | None, Mapping[Hashable, EndedHere]] = None, {}

    def any(self) -> bool:
        """Return whether any run or probe exists, without loading the store, which an estimate does not need."""
        with suppress(OSError), os.scandir(self._workspace.home / "runs") as entries:
            return any(not entry.name.startswith(".") for entry in entries)
        return False

    def row_tokens(self, request: RunRequest, *, of_answers: bool = False) -> Range | None:
        """Return the tokens of a padded example, or of a reference answer; None where the data cannot be read any
        more. BadDataError where answers are wanted and no row has a prompt."""
        from rankviz.core.runs.estimate import row_tokens

        try:
            preview = self._api.runs.preview(request.data)
        except RankVizError:
            return None
        if not of_answers:
            return row_tokens(preview.mean_characters, preview.longest_characters, self._assume)
        preview.require_prompts()
        return row_tokens(preview.mean_answer_characters, preview.longest_answer_characters, self._assume)

    def memory(
        self, model: ModelSpec, lora: LoraConfig, training: TrainingSetup, tokens: float, environment: Mapping[str, Any]
    ) -> MemoryCalibration | None:
        """Return the memory correction by probes of the same setup on this device; None without such probes."""
        if not self.any() or not (probes := self._workspace.store.probes()):
            return None
        from rankviz.core.probe import applies, calibrate, estimate_probe

        here, device, assume = with_versions(environment), self._workspace.device(environment), self._assume
        like = [each for each in probes if applies(each, model.id, lora, training, tokens, here, assume)]
        found = calibrate([(each, estimate_probe(model, each.request, device, assume)) for each in like], assume)
        return found and replace(found, probe_ids=self._workspace.rights.named(found.probe_ids))

    def paces(
        self,
        workload: Workload,
        environment: Mapping[str, Any],
        *,
        before: float | None = None,
        load_average: float | None = None,
        ended: Mapping[Hashable, EndedHere] | None = None,
    ) -> Paces:
        """Return the pace of this workload, measured on the machine of this environment.

        before: use only what had ended by then (unix seconds), for the estimate of a run that has ended.
        load_average: load of the machine now; None if it is not known, or the run has ended.
        ended: result of `ended_by_machine`, so that it is computed once for many runs.
        """
        from rankviz.core.cost.pace import Paces, machine_of, paces

        here = machine_of(with_versions(environment))
        there = (self.ended_by_machine() if ended is None else ended).get(here)
        others = self._others(there, here, environment, load_average, before or time.time())
        if there is None:
            return Paces(others=others)
        key = before, workload, others
        if (found := there.paces.get(key)) is None:
            found = paces(there.latest(before), workload, self._assume, others)
            if before is not None:  # a list asks for the same runs again and again
                there.paces[key] = found
        return found.naming(self._workspace.rights.named)

    def of_question(
        self, model: ModelSpec, lora: LoraConfig, training: TrainingSetup, environment: Mapping[str, Any]
    ) -> Calibration | None:
        """Return the correction of an estimate without a run; None where nothing comparable was measured here."""
        from rankviz.core.cost.pace import Calibration, Workload, kernels

        tokens = training.tokens_per_micro_step
        of_kernels = kernels(training, use_dora=lora.use_dora)
        workload = Workload(base=model.id, parameters=model.total_parameters, kernels=of_kernels, tokens=tokens)
        memory = self.memory(model, lora, training, tokens, environment)
        calibration = Calibration(memory=memory, paces=self.paces(workload, environment))
        return calibration if calibration.memory or calibration.paces.training else None

    def completed_runs(self, environment: Mapping[str, Any]) -> Sequence[RunRecord]:
        """Return the latest MOST_RUNS completed runs on the machine of this environment, oldest first."""
        from rankviz.core.cost.pace import machine_of
        from rankviz.core.runs.record import RunRecord

        ended = self.ended_by_machine().get(machine_of(with_versions(environment)))
        runs = (run for run in reversed(ended.records) if isinstance(run, RunRecord) and run.completed) if ended else ()
        return list(islice(runs, MOST_RUNS))[::-1]

    def formulas(self, model: ModelSpec, request: RunRequest, device: Device, rows: Range | None) -> RunEstimate:
        """Return the estimate of a run without any correction by measurements. rows: result of `row_tokens`."""
        from rankviz.core.runs.estimate import estimate_run

        key = model, request.lora, request.training, device, rows
        if key not in self._formulas:
            if len(self._formulas) >= MOST_FORMULAS:
                self._formulas.clear()
            self._formulas[key] = estimate_run(model, request, device, self._assume, rows)
        return self._formulas[key]

    @property
    def _assume(self) -> Any:
        return self._workspace.assumptions

    def ended_by_machine(self) -> Mapping[Hashable, EndedHere]:
        """Return ended runs and probes by machine (device, CPUs, versions); updated when a run begins or ends."""
        from rankviz.core.cost.pace import machine_of

        store, turns = self._workspace.store, self._workspace.store.turns()
        if self._ended[0] != turns:
            by_machine: dict[Hashable, list[Record]] = {}
            for record in store.records():
                if record.ended_at and record.environment and self._made_here(record):
                    by_machine.setdefault(machine_of(record.environment), []).append(record)
            self._ended = turns, {here: EndedHere(some, self._timing) for here, some in by_machine.items()}
        return self._ended[1]

    def _others(
        self,
        ended: EndedHere | None,
        here: Hashable,
        environment: Mapping[str, Any],
        load_average: float | None,
        at: float,
    ) -> Others | None:
        """Return the CPU use of programs other than RankViz's workers; None on a GPU, which they hardly slow down."""
        from rankviz.core.cost.pace import machine_of, others
        from rankviz.core.runs.record import RunRecord
        from rankviz.core.runs.run_time import began_at, spell_of

        if load_average is None or environment.get("device") != "cpu":
            return None
        first = bisect_right(ended.ends, at - LOAD_SECONDS) if ended else 0
        runs: list[Record] = ended.records[first : first + MOST_RUNS] if ended else []
        for run in self._workspace.store.standing().at_work:
            if not run.environment or machine_of(run.environment) == here:
                runs.append(run)
        own = [run for run in runs if isinstance(run, RunRecord) and (began_at(run) or at) < at]
        return others(load_average, at, environment.get("cpu_count") or 1, [spell_of(run, now=at) for run in own])

    def _made_here(self, record: Record) -> bool:
        """Return whether a worker here or on the server owner's clusters made a record. On a shared page, imported
        runs and jobs in a visitor's account are not trusted: they could claim any machine."""
        from rankviz.core.runs.events import HF_JOBS, LOCAL
        from rankviz.store.ownership import read_destination
        from rankviz.store.runs import IMPORTED

        if not self._workspace.shared or not record.state.ended:
            return True
        key, folder = (record.run_id, record.ended_at), self._workspace.store.run_dir(record.run_id)
        if key not in self._here:
            engine = read_destination(folder).engine
            on_cluster = engine not in ("", LOCAL, HF_JOBS) and record.engine == engine
            on_cluster = on_cluster and not (folder / IMPORTED).exists()
            self._here[key] = self._workspace.store.has_begun(record.run_id) or on_cluster
        return self._here[key]

    def _timing(self, record: Record) -> Timing | None:
        """Return the measured times of an ended run or probe, cached; None where they are not known."""
        key = record.run_id, record.ended_at
        if key not in self._timings:
            self._timings[key] = None
            with suppress(RankVizError), acting_as(SERVER):  # whose base has gone; only its times are used, unnamed
                self._timings[key] = self._timing_of(record)
        return self._timings[key]

    def _timing_of(self, record: Record) -> Timing | None:
        from rankviz.core.probe import ProbeRecord, estimate_probe
        from rankviz.core.probe import timing_of as timing_of_probe
        from rankviz.core.runs.estimate import workload_of
        from rankviz.core.runs.run_time import timing_of as timing_of_run
        from rankviz.core.runs.sweep_time import formula_times

        request, device = record.request, self._workspace.device(record.environment)
        is_probe = isinstance(record, ProbeRecord)
        model = self._api.models.at_hand(request.model_id if is_probe else request.base)
        if record.state != "completed" or model is None:
            return None
        if is_probe:
            return timing_of_probe(record, model, estimate_probe(model, request, device, self._assume))
        rows = self.row_tokens(request)
        if (seconds := self.formulas(model, request, device, rows).formula_seconds) is None:
            return None
        expected = formula_times(model, request, seconds, self._assume)
        return timing_of_run(record, workload_of(model, request, device, rows), expected)


def with_versions(environment: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an environment with this machine's library versions, unless it has versions already."""
    from rankviz import machine
    from rankviz.core.cost.pace import LIBRARIES

    return {"versions": machine.versions(LIBRARIES), **environment}


class Estimator:
    """Estimates runs for a single answer. It is used once, because what it caches may change."""

    def __init__(self, api: Api):
        self._api, self._workspace, self._measured = api, api.workspace, api.measured
        self._known: dict[Hashable, Any] = {}

    def paces(self, request: RunRequest, environment: Mapping[str, Any], **when: float | None) -> Paces:
        """Return the pace of a run, the same for each rank of a sweep. when: arguments of MeasuredRuns.paces."""
        from rankviz.core.runs.estimate import workload_of

        model, device, rows = self._of(request, environment)
        key = request.base, request.data_apart, request.lora.use_dora, request.training, device
        workload = self._once(key, lambda: workload_of(model, request, device, rows))
        ended = self._once("ended", self._measured.ended_by_machine)
        return self._measured.paces(workload, environment, ended=ended, **when)

    def estimate(self, request: RunRequest, environment: Mapping[str, Any], paces: Paces) -> RunEstimate:
        """Return the estimate of a run's memory and time."""
        from rankviz.core.cost.pace import machine_of
        from rankviz.core.runs.estimate import estimate_run, paced

        model, device, rows = self._of(request, environment)

        def formulas() -> RunEstimate:
            training, memory = request.training.without_auto(device), None
            if self._once("probes", self._workspace.store.probes):
                tokens = training.per_device_train_batch_size * (rows.expected if rows else training.max_length)
                memory = self._measured.memory(model, request.lora, training, tokens, environment)
            if memory is None:
                return self._measured.formulas(model, request, device, rows)
            return estimate_run(model, request, device, self._workspace.assumptions, rows, memory)

        machine = machine_of(environment), device, "versions" in environment
        key = request.base, request.data, request.lora, request.training, machine
        return paced(self._once(key, formulas), paces)

    def _of(self, request: RunRequest, environment: Mapping[str, Any]) -> tuple[ModelSpec, Device, Range | None]:
        names = ("device", "device_name", "device_memory_bytes", "cpu_count", "cpu_bf16")
        key = tuple(environment.get(name) for name in names)
        return (
            self._once(("model", request.base), lambda: self._api.models.get(request.base)),
            self._once(key, lambda: self._workspace.device(environment)),
            self._once(("rows", request.data), lambda: self._measured.row_tokens(request)),
        )

    def _once(self, key: Hashable, find: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = find()
        return self._known[key]
