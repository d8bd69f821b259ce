"""Corrects estimates of time and memory by what finished runs and probes measured on the same machine."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

from rankviz.core.cost.duration import usd_of
from rankviz.core.cost.estimate import CalibrationJSON, Estimate, RankEstimate, fit, spare
from rankviz.core.cost.memory import MemoryEstimate
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.quantity import Assumptions, Range
from rankviz.units import counted

LATEST = 3
"""Number of the latest comparable runs that count. More of them would follow a change of the machine too slowly."""
LIBRARIES = ("torch", "transformers", "peft", "trl", "unsloth", "bitsandbytes")
"""Libraries on whose versions memory and time depend."""
DIFFERENCES = ("", "another base model", "another precision or training setup")
"""Differences between a planned run and the finished runs that its time is estimated from, the smallest first."""


def machine_of(environment: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the values that identify a machine: device, its name, number of CPUs, versions of LIBRARIES."""
    versions = environment.get("versions", {})
    of_device = (environment.get(name) for name in ("device", "device_name", "cpu_count"))
    return (*of_device, *(versions.get(name) for name in LIBRARIES))


def kernels(setup: TrainingSetup, *, use_dora: bool) -> tuple[str, ...]:
    """Return the settings that must be equal for memory and time of two runs to compare. setup: Without "auto"."""
    own = setup.framework == "unsloth" or setup.gradient_checkpointing != "unsloth"
    checkpointing, dora = setup.gradient_checkpointing if own else "hf", "dora" if use_dora else "lora"
    return setup.framework, setup.precision, setup.optim, checkpointing, setup.loss_path, dora


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """Properties of a training that its speed on a machine depends on."""

    base: str
    parameters: int
    kernels: tuple[str, ...]
    answered: tuple[Hashable, ...] = ()
    """Data, its columns and the number of shown answers of a run, on which the time of its answers depends."""

    def differs_from(self, here: "Workload") -> int:
        """Return the largest difference from another workload, as an index of DIFFERENCES."""
        return 2 if self.kernels != here.kernels else int(self.base != here.base)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Measured time of one finished run or probe."""

    source_id: str
    """Id of the run or probe; empty where the visitor may not see it."""
    kind: Literal["run", "probe"]
    ended_at: float
    """Unix seconds at which the run or probe ended."""
    workload: Workload
    ratio: float
    """Measured training time over the time by formulas, above 0."""
    load: float | None = None
    """Seconds of imports and of loading the base, without its download; None where it was loaded already."""
    rest: float | None = None
    """Seconds of a run that remain besides loading, training, evaluations and answers, if these take `ratio` times
    their estimates; None for a probe."""
    shown: float | None = None
    """Seconds of one set of answers for people to read; None without any."""
    answer: float | None = None
    """Seconds of one answer for the exact match; None without any."""
    is_here: bool = True
    """False for a run that trained on another engine than this machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Speed of one machine relative to the formulas, from comparable finished runs and probes."""

    factor: float
    """Expected training time over the time by formulas."""
    spread: float
    """Factor between the expected time and each end of its range."""
    parts: Mapping[str, float]
    """Medians of what the sources measured besides training, by the names of Timing's fields ("rest", of the same base
    "load", and of the same base and data "shown" and "answer"); without those that none measured."""
    differs: str
    """Difference between the sources and the planned run: one of DIFFERENCES."""
    sources: tuple[Timing, ...]

    def of(self, estimated: Range) -> Range:
        """Return a time corrected by this pace; unchanged where the corrected range would contain the given one."""
        here = self.around(estimated.expected * self.factor)
        return estimated if here.low <= estimated.low and estimated.high <= here.high else here

    def around(self, seconds: float) -> Range:
        """Return the range of a time that the sources measured."""
        return Range(seconds / self.spread, seconds, seconds * self.spread)

    def part(self, name: str, otherwise: Range) -> Range:
        """Return the range of a part of a run besides training; `otherwise` where no source measured it."""
        return self.around(self.parts[name]) if name in self.parts else otherwise

    @property
    def source_ids(self) -> tuple[str, ...]:
        return tuple(timing.source_id for timing in self.sources)

    def naming(self, named: Callable[[Sequence[str]], Sequence[str]]) -> "Pace":
        """Return a copy with other ids of its sources. named: Returns the id to show for each id, "" to hide it."""
        ids = zip(self.sources, named(self.source_ids), strict=True)
        return replace(self, sources=tuple(replace(timing, source_id=shown) for timing, shown in ids))

    @property
    def in_words(self) -> str:
        """Phrase on the sources of a time: "from 3 finished runs here" ("here" if all trained on this machine)."""
        kinds = [timing.kind for timing in self.sources]
        named = [counted(kinds.count(kind), kind) for kind in ("run", "probe") if kind in kinds]
        named[0] = named[0].replace(" ", " finished ")
        here = " here" if all(timing.is_here for timing in self.sources) else ""
        wider = f" with {self.differs}, so the range is wider" if self.differs else ""
        return f"from {' and '.join(named)}{here}{wider}"


def pace_of(timings: Sequence[Timing], workload: Workload, assume: Assumptions) -> Pace | None:
    """Return the pace from the LATEST finished runs and probes that differ least from the workload; None where no
    comparable one exists. timings: Of one machine, in any order."""
    reach = assume.value("here-base-reach")
    sizes = {timing: timing.workload.parameters / workload.parameters for timing in timings}
    near = [timing for timing, size in sizes.items() if 1 / reach <= size <= reach]
    if not near:
        return None
    differs = min(timing.workload.differs_from(workload) for timing in near)
    near = [timing for timing in near if timing.workload.differs_from(workload) == differs]
    every = sorted(near, key=lambda timing: timing.ended_at)
    near = every[-LATEST:]
    like_runs = sum(timing.kind == "run" for timing in near) if not differs else 0
    noise = {0: "here-few-noise", LATEST: "here-time-noise"}.get(like_runs, "here-first-noise")
    width = math.log(assume.value(noise))
    if differs:
        size = max(abs(math.log(sizes[timing])) for timing in near)
        width += assume.value("here-base-width") + assume.value("here-size-width") * size
    if differs == 2:
        width += assume.value("here-kernels-width")
    alike = [timing for timing in every if timing.workload == workload]
    same_base = [timing for timing in every if timing.workload.base == workload.base]
    measured = {"rest": near, "load": same_base, "shown": alike, "answer": alike}
    parts = {
        name: [value for each in of if (value := getattr(each, name)) is not None] for name, of in measured.items()
    }
    return Pace(
        factor=math.exp(median([math.log(timing.ratio) for timing in near])),
        spread=math.exp(width),
        parts={name: median(values[-LATEST:]) for name, values in parts.items() if values},
        differs=DIFFERENCES[differs],
        sources=tuple(near),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryCalibration:
    """Memory of one set-up on one device, as probes measured it."""

    probe_ids: tuple[str, ...]
    """Ids of the probes; an id is empty where the visitor may not see it."""
    process_bytes: int
    """Bytes of the process before the base is loaded; 0 on a GPU, whose allocator starts at nothing."""
    working_factor: float
    memory_width: float
    """Half-width of the range of memory, as a share of the memory above process_bytes."""
    reserved_share: float | None
    """Reserved over allocated memory of torch's caching allocator; None on a CPU."""

    def memory(self, static_bytes: float, working_bytes: float) -> Range:
        """Return the calibrated bytes of the process, or those allocated on the GPU."""
        above, width = static_bytes + self.working_factor * working_bytes, self.memory_width
        return Range(*(above * end + self.process_bytes for end in (1 - width, 1, 1 + width)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Measurements on this machine that correct an estimate."""

    memory: MemoryCalibration | None
    pace: Pace | None

    @property
    def sentence(self) -> str:
        """Sentence that names the runs and probes which memory and time were corrected by; empty without any."""
        memory = self.memory and f"memory is calibrated by {counted(len(self.memory.probe_ids), 'probe')} of this model"
        time = self.pace and f"time is estimated {self.pace.in_words}"
        text = "; ".join(filter(None, [memory and f"{memory} here", time]))
        return f"{text[0].upper()}{text[1:]}." if text else ""

    def as_json(self) -> CalibrationJSON:
        sources = self.pace.sources if self.pace else ()
        probes = list(self.memory.probe_ids if self.memory else ())
        probes += [timing.source_id for timing in sources if timing.kind == "probe"]
        runs = (timing.source_id for timing in sources if timing.kind == "run")
        return {
            "calibrated": "on this machine",
            "probe_ids": list(dict.fromkeys(filter(None, probes))),
            "run_ids": list(dict.fromkeys(filter(None, runs))),
            "working_factor": self.memory.working_factor if self.memory else None,
            "seconds_factor": self.pace.factor if self.pace else None,
            "in_words": self.sentence,
        }


def calibrated_estimate(answer: Estimate, calibration: Calibration, assume: Assumptions) -> Estimate:
    """Return the estimate with memory, time, cost and fit corrected at every rank."""
    setup, pace, usable = answer.question.training, calibration.pace, answer.usable_bytes

    def calibrated(rank: RankEstimate) -> RankEstimate:
        memory, duration = rank.memory, rank.duration
        if calibration.memory:
            memory = calibrated_memory(memory, calibration.memory, assume.range("context-bytes"))
        if duration and pace:
            step = pace.of(duration.step)
            training = step.times(setup.total_steps)
            total = duration.load.plus(training) if setup.has_length else training
            duration = replace(duration, step=step, total=total)
        left = spare(memory.fullest_band, usable) if usable else None
        return replace(
            rank,
            memory=memory,
            duration=duration,
            usd=usd_of(duration, answer.price),
            fit=fit(left, usable, assume) if left else None,
            spare=left,
        )

    notes = (calibration.sentence, *answer.notes)
    return replace(answer, ranks=tuple(map(calibrated, answer.ranks)), notes=notes)


def calibrated_memory(memory: MemoryEstimate, calibration: MemoryCalibration, context: Range) -> MemoryEstimate:
    """Return the estimate with activations, logits and scratch as probes measured them. Reserved over allocated memory
    stays as estimated where no probe measured it."""
    modelled = ("activations", "logits", "other")
    parts = {name: round(calibration.working_factor * getattr(memory, name)) for name in modelled}
    band = calibration.memory(memory.static, memory.working)
    share = calibration.reserved_share or memory.reserved_band.expected / memory.allocated
    reserved = band.times(max(1.0, share))
    return replace(memory, **parts, allocated_band=band, reserved_band=reserved, device_band=reserved.plus(context))
