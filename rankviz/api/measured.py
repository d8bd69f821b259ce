"""What runs and probes that have finished on this machine say of estimates for it: memory and time."""

from __future__ import annotations

import math
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate, islice
from operator import is_
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from rankviz.api.models import Models
from rankviz.api.workspace import Workspace
from rankviz.core.cost.pace import Paces, Timing, Workload, paces
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.run_time import began_at
from rankviz.errors import RankVizError
from rankviz.visitor import SERVER, acting_as

if TYPE_CHECKING:
    from rankviz.core.cost.pace import Calibration
    from rankviz.core.cost.pace import MemoryCalibration
    from rankviz.core.cost.pace import Others
    from rankviz.core.cost.setup import Device
    from rankviz.core.cost.setup import TrainingSetup
    from rankviz.core.lora.config import LoraConfig
    from rankviz.core.probe import ProbeRecord
    from rankviz.core.runs.estimate import RunEstimate
    from rankviz.core.runs.request import RunRequest
    from rankviz.dataset import Preview
    from rankviz.core.cost.assumptions import Assumptions




class DataTokens:
    """Tokens of the data of runs."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace

    def of_rows(self, request: RunRequest) -> Range | None:
        """Tokens of a row after padding; None where the data has gone since."""
        from rankviz.core.runs.estimate import row_tokens

        try:
            preview = self._preview(request.data)
        except RankVizError:
            return None
        return row_tokens(preview.mean_characters, preview.longest_characters, self._workspace.assumptions)

    def of_answers(self, request: RunRequest) -> Range | None:
        """Tokens of a reference answer; None where the data cannot be read. BadDataError where no row has a prompt."""
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


Found = TypeVar("Found")


class Known:
    """A cache by key; of more than so many the oldest go. Several threads may use it, and may find the same twice."""

    def __init__(self, most: int):
        self._most = most
        self._values: dict[Hashable, Any] = {}

    def get(self, key: Hashable) -> Any:
        """None where there is none."""
        return self._values.get(key)

    def keep(self, key: Hashable, value: Found) -> Found:
        if len(self._values) >= self._most:
            for oldest in list(self._values)[: self._most // 10 + 1]:
                self._values.pop(oldest, None)
        self._values[key] = value
        return value

    def of(self, key: Hashable, find: Callable[[], Found]) -> Found:
        """Found where it is not known. No value is None."""
        return value if (value := self.get(key)) is not None else self.keep(key, find())


FORGOTTEN_SECONDS = 3600.0
"""Of a worker that ended so long ago nothing is left in a load average, which is over a minute."""
Machine: TypeAlias = tuple[Any, ...]
"""As core.cost.pace.machine_of has it."""


MOST_FORMULAS = 1000  # of unlike runs, a kilobyte each


class PastRuns(NamedTuple):
    """What there is to learn from, as it stood at one time of the queue."""

    ended: Mapping[Machine, EndedHere]
    at_work: Sequence[tuple[Machine | None, RunRecord | ProbeRecord]]
    """With their machine; None where it is not known yet."""


class MeasuredRuns:
    """Estimates start from what has finished on the same machine: device, number of CPUs and versions. It may be
    anybody's, and whoever asks reads the ids of their own alone (Rights.named)."""

    def __init__(self, workspace: Workspace, models: Models):
        self._workspace = workspace
        self._models = models
        self.tokens = DataTokens(workspace)
        self._timings: dict[tuple[str, float], Timing | None] = {}
        self._machines: dict[tuple[str, float], Machine] = {}
        self._ended: tuple[int | None, Mapping[Machine, EndedHere]] = None, {}
        self._formulas = Known(MOST_FORMULAS)
        self._workloads: dict[Workload, Workload] = {}  # one for all its like
        self._names: tuple[int, dict[str, bool]] = 0, {}
        self._here: dict[tuple[str, float | None], bool] = {}

    def any(self, prefix: str = "") -> bool:
        """Tell whether there is a run or a probe whose id starts so. Looked up without the store, which an estimate
        from the command line does not load."""
        folder = self._workspace.home / "runs"
        if not folder.is_dir():
            return False
        stamp = folder.stat().st_mtime_ns
        if self._names[0] != stamp:
            self._names = stamp, {}
        if prefix not in self._names[1]:
            names = (entry.name for entry in os.scandir(folder))
            self._names[1][prefix] = any(name.startswith(prefix) and not name.startswith(".") for name in names)
        return self._names[1][prefix]

    def memory(
        self, model: ModelSpec, lora: LoraConfig, training: TrainingSetup, tokens: float, environment: Mapping[str, Any]
    ) -> MemoryCalibration | None:
        """What the probes of this set-up on this device say of memory; None where there are none."""
        if not self.any("probe-"):
            return None
        from rankviz.core.probe import applies, calibrate, estimate_probe

        here = self._with_versions(environment)
        device, assume = self._workspace.device(environment), self._workspace.assumptions
        probes = [
            record
            for record in self._workspace.store.probes()
            if applies(record, model.id, lora, training, tokens, here, assume)
        ]
        found = calibrate([(each, estimate_probe(model, each.request, device, assume)) for each in probes], assume)
        return found and replace(found, probe_ids=self._workspace.rights.named(found.probe_ids))

    def evidence(self) -> PastRuns:
        """What `paces` looks at. Whoever asks for those of many runs asks for it once."""
        from rankviz.core.cost.pace import machine_of

        at_work = self._workspace.store.standing().at_work
        where = (machine_of(run.environment) if run.environment else None for run in at_work)
        return PastRuns(self._ended_by_machine(), list(zip(where, at_work, strict=True)))

    def paces(
        self,
        workload: Workload,
        environment: Mapping[str, Any],
        *,
        before: float | None = None,
        load_average: float | None = None,
        evidence: PastRuns | None = None,
    ) -> Paces:
        """What has finished on this device says of the time of such a run.

        before: leaves out what ended later (unix seconds), for the estimate beside a run that has ended itself.
        load_average: of the machine at that time, or now; None where it is not known.
        evidence: as it is now, where that is known.
        """
        from rankviz.core.cost.pace import Paces, machine_of

        here, evidence = machine_of(self._with_versions(environment)), evidence or self.evidence()
        others = self._others(evidence, here, environment, load_average, before or time.time())
        if (ended := evidence.ended.get(here)) is None:
            return Paces(others=others)
        found = ended.paces(workload, self._workspace.assumptions, before, others)
        return found.naming(self._workspace.rights.named)

    def _ended_by_machine(self) -> Mapping[Machine, EndedHere]:
        """What has ended, by its machine, without what ended before anybody knew where it ran. Found anew once
        something begins or ends."""

        store, turns = self._workspace.store, self._workspace.store.turns()
        if self._ended[0] != turns:
            by_machine: dict[Machine, list[RunRecord | ProbeRecord]] = {}
            for record in store.records():
                if record.ended_at and record.environment and self._made_here(record):
                    by_machine.setdefault(self._machine_of(record), []).append(record)
            known = self._ended[1]

            ended = {here: EndedHere(some, self._timing, known.get(here)) for here, some in by_machine.items()}
            self._ended = turns, ended
        return self._ended[1]

    def _machine_of(self, record: RunRecord | ProbeRecord) -> Machine:
        from rankviz.core.cost.pace import machine_of

        key = record.run_id, record.ended_at
        if key not in self._machines:
            self._machines[key] = machine_of(record.environment)
        return self._machines[key]

    def _others(
        self,
        evidence: PastRuns,
        here: Machine,
        environment: Mapping[str, Any],
        load_average: float | None,
        at: float,
    ) -> Others | None:
        """Programs beside one's own workers; None on a GPU, whose time they hardly move."""
        from rankviz.core.cost.pace import others
        from rankviz.core.runs.record import RunRecord
        from rankviz.core.runs.run_time import began_at, spell_of

        if load_average is None or environment.get("device") != "cpu":
            return None
        ended = evidence.ended.get(here)
        runs = list(ended.at_work(at - FORGOTTEN_SECONDS, at)) if ended else []
        for where, run in evidence.at_work:
            if isinstance(run, RunRecord) and where in (None, here) and (began_at(run) or at) < at:
                runs.append(run)
        return others(load_average, at, environment.get("cpu_count") or 1, [spell_of(run, now=at) for run in runs])

    def of_question(
        self, model: ModelSpec, lora: LoraConfig, training: TrainingSetup, environment: Mapping[str, Any]
    ) -> Calibration | None:
        """What was measured here, for an estimate without data; None where nothing comparable was."""
        from rankviz.core.cost.pace import Calibration, Workload, kernels

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

    def completed_runs(self, environment: Mapping[str, Any]) -> Sequence[RunRecord]:
        """The latest completed runs on the machine of this environment, the oldest sweep first."""
        from rankviz.core.cost.pace import machine_of

        ended = self._ended_by_machine().get(machine_of(self._with_versions(environment)))
        return ended.completed if ended else ()

    def _made_here(self, record: RunRecord | ProbeRecord) -> bool:
        """On a shared page, whether a worker of this machine or of its owner's clusters made it. What somebody imports,
        or a job in an account of theirs writes, may say anything of any machine, and would move everybody's
        estimates."""
        if not self._workspace.shared or not record.state.ended:
            return True
        key = record.run_id, record.ended_at
        if key not in self._here:
            self._here[key] = self._workspace.store.has_begun(record.run_id) or self._made_on_a_cluster(record)
        return self._here[key]

    def _made_on_a_cluster(self, record: RunRecord | ProbeRecord) -> bool:
        from rankviz.core.runs.events import HF_JOBS, LOCAL
        from rankviz.store.ownership import read_destination
        from rankviz.store.runs import IMPORTED

        folder = self._workspace.store.run_dir(record.run_id)
        engine = read_destination(folder).engine
        return engine not in ("", LOCAL, HF_JOBS) and record.engine == engine and not (folder / IMPORTED).exists()

    def formulas(self, model: ModelSpec, request: RunRequest, device: Device, rows: Range | None) -> RunEstimate:
        """The estimate of a run before anything that was measured here moves it. Runs that differ only by what it does
        not depend on have the same one. rows: as DataTokens.of_rows has them."""
        from rankviz.core.runs.estimate import estimate_run

        key, assume = (model, request.lora, request.training, device, rows), self._workspace.assumptions
        return self._formulas.of(key, lambda: estimate_run(model, request, device, assume, rows))

    def _with_versions(self, environment: Mapping[str, Any]) -> Mapping[str, Any]:
        from rankviz import machine
        from rankviz.core.cost.pace import LIBRARIES

        return {"versions": machine.versions(LIBRARIES), **environment}

    def _timing(self, record: RunRecord | ProbeRecord) -> Timing | None:
        """What it took. Made once: what has ended changes only when it is asked for again, and then ends at another
        time."""
        key = record.run_id, record.ended_at
        if key not in self._timings:
            try:
                with acting_as(SERVER):  # of whoever's run; only its times are used, without a name
                    timing = self._timing_of(record)
            except RankVizError:
                timing = None  # its base has gone, or is one that only the Hub knows
            self._timings[key] = timing
        return self._timings[key]

    def _timing_of(self, record: RunRecord | ProbeRecord) -> Timing | None:
        from rankviz.core.probe import ProbeRecord, estimate_probe
        from rankviz.core.probe import timing_of as timing_of_probe
        from rankviz.core.runs.estimate import workload_of
        from rankviz.core.runs.run_time import timing_of as timing_of_run
        from rankviz.core.runs.sweep_time import formula_times

        if record.state != "completed":
            return None
        device, assume = self._workspace.device(record.environment), self._workspace.assumptions
        if isinstance(record, ProbeRecord):
            model = self._models.at_hand(record.request.model_id)
            return model and timing_of_probe(record, model, estimate_probe(model, record.request, device, assume))
        request = record.request
        if (model := self._models.at_hand(request.base)) is None:
            return None
        rows = self.tokens.of_rows(request)
        if (seconds := self.formulas(model, request, device, rows).formula_seconds) is None:
            return None
        workload = workload_of(model, request, device, rows)
        expected = formula_times(model, request, seconds, assume)
        return timing_of_run(record, self._workloads.setdefault(workload, workload), expected)



MOST_RUNS = 200
"""The latest finished runs and probes that are looked at."""
MOST_PACES = 1000
"""A kilobyte each."""
Record: TypeAlias = "RunRecord | ProbeRecord"


class EndedHere:
    """What had ended on one machine at one time of the queue.

    Args:
        records: What has ended, in the order of the store.
        timing_of: What one took; None where that is not known.
        earlier: The same of an earlier time. What it found stays true as long as nothing ends but after all others.
    """

    def __init__(
        self,
        records: Sequence[Record],
        timing_of: Callable[[Record], Timing | None],
        earlier: EndedHere | None = None,
    ):
        self._records, self._timing_of = records, timing_of
        self._by_end = sorted(reversed(records), key=lambda record: record.ended_at)
        self._ends = [record.ended_at for record in self._by_end]
        self._runs = [record for record in self._by_end if isinstance(record, RunRecord)]
        self._run_ends = [run.ended_at for run in self._runs]
        began = [math.inf if (at := began_at(run)) is None else at for run in reversed(self._runs)]
        self._first_begin = list(accumulate(began, min))[::-1]
        """Of each run and those that ended later, when the first began."""
        goes_on = earlier is not None and earlier._is_before(self)
        self._paces = earlier._paces if goes_on else Known(MOST_PACES)

    def _is_before(self, later: EndedHere) -> bool:
        return len(self._by_end) <= len(later._by_end) and all(map(is_, self._by_end, later._by_end))

    def paces(
        self, workload: Workload, assume: Assumptions, before: float | None = None, others: Others | None = None
    ) -> Paces:
        """What they say of the time of such a run (core.cost.pace). before: only what had ended by then, unix seconds.
        others: as core.cost.pace.paces takes it."""
        if before is None:
            return paces(self._latest(len(self._ends)), workload, assume, others)
        end = bisect_right(self._ends, before)
        return self._paces.of((end, workload, others), lambda: paces(self._latest(end), workload, assume, others))

    def _latest(self, end: int) -> Sequence[Timing]:
        """Timings of the latest MOST_RUNS of the first `end`, the oldest first."""
        timings = map(self._timing_of, self._by_end[end - 1 :: -1] if end else ())
        return tuple(islice(filter(None, timings), MOST_RUNS))[::-1]

    @cached_property
    def completed(self) -> Sequence[RunRecord]:
        """The latest MOST_RUNS completed runs, the oldest sweep first."""
        return [run for run in self._records if isinstance(run, RunRecord) and run.completed][-MOST_RUNS:]

    def at_work(self, since: float, at: float) -> Iterator[RunRecord]:
        """The runs that had begun before `at` and ended after `since`, both unix seconds."""
        for place in range(bisect_right(self._run_ends, since), len(self._runs)):
            if self._first_begin[place] >= at:
                return
            if (began := began_at(self._runs[place])) is not None and began < at:
                yield self._runs[place]
