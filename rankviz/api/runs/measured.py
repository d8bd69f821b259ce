"""What runs and probes that have finished on this machine say of estimates for it: memory and time."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rankviz.api.models import Models
from rankviz.api.workspace import Workspace
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range
from rankviz.errors import RankVizError
from rankviz.visitor import HOST, acting_as

if TYPE_CHECKING:
    from rankviz.core.cost.calibration import Calibration, MemoryCalibration
    from rankviz.core.cost.pace import Paces, Timing, Workload
    from rankviz.core.cost.setup import TrainingSetup
    from rankviz.core.cost.slowdown import Others
    from rankviz.core.lora.config import LoraConfig
    from rankviz.core.probe.record import ProbeRecord
    from rankviz.core.runs.record import RunRecord
    from rankviz.core.runs.replay import Finished
    from rankviz.core.runs.request import RunRequest
    from rankviz.dataset import Preview

MOST_RUNS = 200
"""The latest finished runs and probes that are looked at."""


class Measured:
    """Estimates start from what has finished on the same machine: device, number of CPUs and versions."""

    def __init__(self, workspace: Workspace, models: Models):
        self._workspace = workspace
        self._models = models
        self._timings: dict[tuple[str, float], tuple[Any, Timing | None]] = {}
        self._here: dict[tuple[str, float | None], bool] = {}

    def any(self, prefix: str = "") -> bool:
        """Whether there is a run or a probe whose id starts so. Looked up without the store, which an estimate from
        the command line does not load."""
        folder = self._workspace.home / "runs"
        names = (entry.name for entry in os.scandir(folder)) if folder.is_dir() else ()
        return any(name.startswith(prefix) and not name.startswith(".") for name in names)

    def memory(
        self, model: ModelSpec, lora: LoraConfig, training: TrainingSetup, tokens: float, environment: Mapping[str, Any]
    ) -> MemoryCalibration | None:
        """What the probes of this set-up on this device say of memory; None where there are none."""
        if not self.any("probe-"):
            return None
        from rankviz.core.probe.calibrate import applies, calibrate
        from rankviz.core.probe.estimate import estimate_probe

        here = self._with_versions(environment)
        device, assume = self._workspace.device(environment), self._workspace.assumptions
        probes = [
            record
            for record in self._workspace.store.probes()
            if applies(record, model.id, lora, training, tokens, here, assume)
        ]
        return calibrate([(each, estimate_probe(model, each.request, device, assume)) for each in probes], assume)

    def paces(
        self,
        workload: Workload,
        environment: Mapping[str, Any],
        *,
        before: float | None = None,
        load_average: float | None = None,
    ) -> Paces:
        """What has finished on this device says of the time of such a run.

        before: leaves out what ended later (unix seconds), for the estimate beside a run that has ended itself.
        load_average: of the machine at that time, or now; None where it is not known.
        """
        from rankviz.core.cost.pace import machine_of, paces

        here = machine_of(self._with_versions(environment))
        records = [record for record in self._workspace.store.records() if self._made_here(record)]
        ended = [record for record in records if record.ended_at]
        ended.sort(key=lambda record: record.ended_at)
        timings = [
            timing
            for machine, timing in map(self._timing, ended)
            if timing and machine == here and (before is None or timing.ended_at <= before)
        ]
        at_work = [run for run in records if not run.environment or machine_of(run.environment) == here]
        others = self._others(at_work, environment, load_average, before or time.time())
        return paces(timings[-MOST_RUNS:], workload, self._workspace.assumptions, others)

    def _others(
        self,
        records: Sequence[RunRecord | ProbeRecord],
        environment: Mapping[str, Any],
        load_average: float | None,
        at: float,
    ) -> Others | None:
        """Programs beside the workers of these runs; None on a GPU, whose time they hardly move."""
        from rankviz.core.cost.slowdown import others
        from rankviz.core.runs.record import RunRecord
        from rankviz.core.runs.times import spell_of

        if load_average is None or environment.get("device") != "cpu":
            return None
        runs = [record for record in records if isinstance(record, RunRecord)]
        spells = [spell for run in runs if (spell := spell_of(run, now=at))]
        return others(load_average, at, environment.get("cpu_count") or 1, spells)

    def of_question(
        self, model: ModelSpec, lora: LoraConfig, training: TrainingSetup, environment: Mapping[str, Any]
    ) -> Calibration | None:
        """What was measured here, for an estimate without data; None where nothing comparable was."""
        from rankviz.core.cost.calibration import Calibration
        from rankviz.core.cost.pace import Workload, kernels

        tokens = training.tokens_per_micro_step
        workload = Workload(
            base=model.id,
            parameters=model.total_parameters,
            kernels=kernels(training, use_dora=lora.use_dora),
            tokens=tokens,
        )
        calibration = Calibration(
            memory=self.memory(model, lora, training, tokens, environment), paces=self.paces(workload, environment)
        )
        return calibration if calibration.memory or calibration.paces.training else None

    def finished(self) -> Sequence[Finished]:
        """The finished runs of the runs folder as they would be replayed (core.runs.replay), those of every machine."""
        return [
            finished
            for record in self._workspace.store.all()
            if record.state == "completed" and (finished := self._finished(record)) is not None
        ]

    def completed_runs(self, environment: Mapping[str, Any]) -> Sequence[RunRecord]:
        """The latest completed runs on the machine of this environment, the oldest sweep first."""
        from rankviz.core.cost.pace import machine_of

        here = machine_of(self._with_versions(environment))
        completed = [run for run in self._workspace.store.all() if run.completed and self._made_here(run)]
        return [run for run in completed if machine_of(run.environment) == here][-MOST_RUNS:]

    def _made_here(self, record: RunRecord | ProbeRecord) -> bool:
        """On a shared page, whether a worker of this machine made it: what somebody imports may say anything of this
        machine, and would move everybody's estimates."""
        if not self._workspace.shared or not record.state.ended:
            return True
        key = record.run_id, record.ended_at
        if key not in self._here:
            self._here[key] = self._workspace.store.has_begun(record.run_id)
        return self._here[key]

    def row_tokens(self, request: RunRequest) -> Range | None:
        """Tokens of a row of a run's data after padding; None where the data has gone since."""
        from rankviz.core.runs.estimate import row_tokens

        try:
            preview = self._preview(request.data)
        except RankVizError:
            return None
        return row_tokens(preview.mean_characters, preview.longest_characters, self._workspace.assumptions)

    def answer_tokens(self, request: RunRequest) -> Range | None:
        """Tokens of a reference answer of a run's data; None where the data cannot be read. BadDataError where no row
        has a prompt to answer."""
        from rankviz.core.runs.estimate import row_tokens

        try:
            preview = self._preview(request.data)
        except RankVizError:
            return None
        preview.require_prompts()
        assume = self._workspace.assumptions
        return row_tokens(preview.mean_answer_characters, preview.longest_answer_characters, assume)

    def _preview(self, data: str) -> Preview:
        return self._workspace.data_files.look(self._workspace.references.data(data).text).preview

    def _with_versions(self, environment: Mapping[str, Any]) -> Mapping[str, Any]:
        from rankviz import machine
        from rankviz.core.cost.pace import LIBRARIES

        return {"versions": machine.versions(LIBRARIES), **environment}

    def _timing(self, record: RunRecord | ProbeRecord) -> tuple[Any, Timing | None]:
        """Its machine and what it took. Made once: what has ended changes only when it is asked for again, and then
        ends at another time."""
        from rankviz.core.cost.pace import machine_of

        key = record.run_id, record.ended_at
        if key not in self._timings:
            try:
                with acting_as(HOST):  # of whoever's run; only its times are used, without a name
                    timing = self._timing_of(record)
            except RankVizError:
                timing = None  # its base has gone, or is one that only the Hub knows
            self._timings[key] = machine_of(record.environment), timing
        return self._timings[key]

    def _timing_of(self, record: RunRecord | ProbeRecord) -> Timing | None:
        from rankviz.core.probe.calibrate import timing_of as timing_of_probe
        from rankviz.core.probe.estimate import estimate_probe
        from rankviz.core.probe.record import ProbeRecord

        if record.state != "completed":
            return None
        device, assume = self._workspace.device(record.environment), self._workspace.assumptions
        if isinstance(record, ProbeRecord):
            model = self._models.at_hand(record.request.model_id)
            return model and timing_of_probe(record, model, estimate_probe(model, record.request, device, assume))
        finished = self._finished(record)
        return finished and finished.timing

    def _finished(self, record: RunRecord) -> Finished | None:
        from rankviz.core.runs.estimate import estimate_run, workload_of
        from rankviz.core.runs.replay import Finished
        from rankviz.core.runs.sweep_time import formula_times
        from rankviz.core.runs.times import evaluated, timing_of

        device, assume = self._workspace.device(record.environment), self._workspace.assumptions
        request = record.request
        if (model := self._models.at_hand(request.base)) is None:
            return None
        rows = self.row_tokens(request)
        seconds = estimate_run(model, request, device, assume, rows).formula_seconds
        if seconds is None:
            return None
        expected = formula_times(model, request, seconds, assume)
        timing = timing_of(record, workload_of(model, request, device, rows), expected)
        cpus = record.environment.get("cpu_count") or 1
        return timing and Finished(timing=timing, expected=expected, evaluated=evaluated(record), cpus=cpus)
