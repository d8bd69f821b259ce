"""Corrects estimates of time and memory on one machine by what its finished runs and probes measured."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import islice, takewhile
from typing import Any, Literal

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.duration import cost
from rankviz.core.cost.estimate import CalibrationJSON, Estimate, RankEstimate, fit, spare
from rankviz.core.cost.memory import MemoryEstimate
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.quantity import Range, middle
from rankviz.units import counted

LATEST = 3
"""Number of the latest comparable runs that count, for the pace and for how busy the machine was. With more, the
estimate would follow a change of the machine too slowly."""
RECENT_SECONDS = 3600.0
"""Seconds after which a measured slowdown no longer counts; a choice."""
AVERAGED_SECONDS = 60.0
"""Time constant of the load average: the load t seconds ago weighs exp(-t / 60) (kernel/sched/loadavg.c)."""
UNSURE = 0.25
"""Threads that the load average may count too many: it samples each 5 s, so the process that reads it may be one in
twelve samples, and a worker's own busy threads are known to about a tenth."""
NO_SLOWDOWN = Range(1.0, 1.0, 1.0)
BUSY_SHARE = 0.1
"""Share of the processors below which other programs are not mentioned, since a run's own noise is larger."""
SAME_TOKENS = 1.1
"""Largest ratio of tokens per micro-step at which two workloads count as equal."""
LIBRARIES = ("torch", "transformers", "peft", "trl", "unsloth", "bitsandbytes")
"""Libraries whose versions memory and time depend on."""
Part = Literal["load", "training", "evaluation", "rest"]
PARTS: tuple[Part, ...] = ("load", "training", "evaluation", "rest")
ALL_CPUS: tuple[Part, ...] = ("training", "evaluation")
"""Parts that compute on all processors; the others mostly on one."""


def slowdown(seconds: float, own: float, waited: float) -> float:
    """Return the factor by which other programs lengthened a part of a run. seconds: wall clock. own, waited: seconds
    that its threads ran, and waited for a processor."""
    total = max(seconds, own + waited)
    return total / (total - waited) if 0 < waited < total < math.inf else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Spell:
    """Time in which one of RankViz's workers was busy (unix seconds), and the number of its busy threads."""

    began_at: float
    ended_at: float
    threads: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Others:
    """Number of threads of other programs that want a processor at the time `at` (unix seconds)."""

    threads: float
    cpus: int
    at: float = 0.0

    @property
    def share(self) -> float:
        """Share of the processors that other programs would take without the run."""
        return self.threads / self.cpus

    def slowdown(self, threads: int, drift: float) -> Range:
        """Return the slowdown of a run with this many threads. drift: factor by which the others may fall or rise."""
        may_come = (self.threads / drift, self.threads, self.threads * drift)
        return Range(*(max(1.0, (threads + others) / self.cpus) for others in may_come))


def others(load_average: float, at: float, cpus: int, spells: Iterable[Spell]) -> Others:
    """Return other programs' threads: the load average at a time (unix seconds) without RankViz's own workers."""
    own = 0.0
    for spell in spells:
        if spell.began_at < at:
            since, ran = max(0.0, at - spell.ended_at), min(at, spell.ended_at) - spell.began_at
            own += spell.threads * (1 - math.exp(-ran / AVERAGED_SECONDS)) * math.exp(-since / AVERAGED_SECONDS)
    return Others(threads=max(0.0, load_average - own - UNSURE), cpus=cpus, at=at)


def expected_slowdown(last: Sequence[float], now: Range | None) -> Range:
    """Return the slowdown of the next run. last: slowdowns of the last runs here; now: slowdown by other programs now.
    The expected value is the geometric mean of both: the load average says how many other threads there are, the last
    runs how much of the machine a run gets beside other programs."""
    ends = [*last, *((now.low, now.high) if now else ())]
    if not ends:
        return NO_SLOWDOWN
    centres = [*([middle(last)] if last else []), *([now.expected] if now else [])]
    return Range(min(ends), math.prod(centres) ** (1 / len(centres)), max(ends))


def machine_of(environment: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what identifies a machine: device, number of CPUs, versions of LIBRARIES."""
    versions = environment.get("versions", {})
    of_device = (environment.get(name) for name in ("device", "device_name", "cpu_count"))
    return (*of_device, *(versions.get(name) for name in LIBRARIES))


def kernels(setup: TrainingSetup, *, use_dora: bool) -> tuple[str, ...]:
    """Return the settings that must be equal for memory and time to be comparable. setup: without "auto"."""
    own = setup.framework == "unsloth" or setup.gradient_checkpointing != "unsloth"
    checkpointing, dora = setup.gradient_checkpointing if own else "hf", "dora" if use_dora else "lora"
    return setup.framework, setup.precision, setup.optim, checkpointing, setup.loss_path, dora


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """Properties of a training that the pace of a machine may depend on."""

    base: str
    parameters: int
    kernels: tuple[str, ...]
    data: str = ""
    """Name of the data in a run's request; empty for a probe and for an estimate without data."""
    tokens: float


class Difference(IntEnum):
    """Differences between a finished run or probe and the next one, the smallest first."""

    NONE = 0
    TOKENS = 1
    BASE = 2
    KERNELS = 3


DIFFERENCE_WORDS = ("", "other data or another batch", "another base model", "another precision or training setup")
"""Words for each Difference, by its number."""


def _difference(there: Workload, here: Workload, part: Part, assume: Assumptions) -> tuple[Difference, float]:
    """Return the largest difference between two workloads, and the half-width of ln seconds that all their differences
    give. Loading reads no examples, so it does not depend on the data."""
    sizes, tokens = math.log(there.parameters / here.parameters), math.log(there.tokens / here.tokens)
    differs = there.data != here.data or abs(tokens) > math.log(SAME_TOKENS)
    widths = {
        Difference.TOKENS: (part != "load" and differs, "here-data-width", "here-tokens-width", tokens),
        Difference.BASE: (there.base != here.base, "here-base-width", "here-size-width", sizes),
        Difference.KERNELS: (there.kernels != here.kernels, "here-kernels-width", "here-kernels-width", 0.0),
    }
    present = {
        difference: math.hypot(assume.value(width), assume.value(slope) * by)
        for difference, (holds, width, slope, by) in widths.items()
        if holds
    }
    return max(present, default=Difference.NONE), math.hypot(*present.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Ratios of measured to expected time of one finished run or probe. Times are unix seconds."""

    source_id: str
    """Id of the run or probe; empty where it must not be shown."""
    kind: Literal["run", "probe"]
    ended_at: float
    workload: Workload
    ratios: Mapping[Part, float]
    """Measured over expected time, above 0, by measured part; seconds for "rest", which the formulas leave out."""
    slowdowns: Mapping[Part, float] = field(default_factory=dict)
    """Factor by which other programs lengthened each part, where known."""
    began_at: float | None = None
    """Time before the base was loaded; None where not known."""
    load_average: float | None = None
    threads: float = 0.0
    """Mean number of threads that ran or wanted to run."""
    is_here: bool = True
    """False for a run on another engine than this machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Pace of one part of a run, as finished runs and probes measured it."""

    idle: float
    """Factor on the formulas' time on an idle machine; without known slowdowns, on a machine as busy as it was."""
    spread: float
    """Factor by which the range extends below and above."""
    slowdown: Range
    differs: Difference
    sources: tuple[Timing, ...] = field(repr=False)

    def of(self, estimated: Range) -> Range:
        """Return the range at this machine's pace, or the formulas' range where the pace's range contains it."""
        here = self.range(estimated.expected)
        return estimated if here.low <= estimated.low and estimated.high <= here.high else here

    def range(self, expected: float) -> Range:
        """Return the seconds around the formulas' expected time."""
        here = self.slowdown.times(expected * self.idle)
        return Range(here.low / self.spread, here.expected, here.high * self.spread)

    @property
    def factor(self) -> float:
        """Expected time of the next run over the formulas' time."""
        return self.idle * self.slowdown.expected


@dataclass(frozen=True, kw_only=True, slots=True)
class Paces:
    """Pace of each part of a run; None where nothing comparable has finished here."""

    load: Pace | None = None
    training: Pace | None = None
    evaluation: Pace | None = None
    rest: Pace | None = None
    others: Others | None = None
    """Other programs on this machine now; None where that is not known or does not matter."""

    def _parts(self) -> dict[Part, Pace]:
        return {part: pace for part in PARTS if (pace := getattr(self, part))}

    @property
    def source_ids(self) -> tuple[str, ...]:
        return tuple(timing.source_id for timing in self.training.sources) if self.training else ()

    def naming(self, named: Callable[[Sequence[str]], Sequence[str]]) -> "Paces":
        """Return a copy with ids of sources replaced by `named`, which returns "" for an id that must not be shown."""

        def renamed(pace: Pace) -> Pace:
            ids = named([timing.source_id for timing in pace.sources])
            sources = (replace(each, source_id=shown) for each, shown in zip(pace.sources, ids, strict=True))
            return replace(pace, sources=tuple(sources))

        return replace(self, **{part: renamed(pace) for part, pace in self._parts().items()})

    def of_own(self, is_own: Callable[[str], bool]) -> "Paces":
        """Return a copy without the pace of each part that rests on other than the visitor's own runs with equal data
        and settings. is_own: returns True for the id of an own run; a source without an id does not count as own."""

        def holds(pace: Pace) -> bool:
            ids = [timing.source_id for timing in pace.sources]
            return pace.differs is Difference.NONE and all(each and is_own(each) for each in ids)

        return replace(self, **{part: None for part, pace in self._parts().items() if not holds(pace)})

    @property
    def in_words(self) -> str:
        """Source of the training time: "from 3 finished runs here" ("here" if all ran here); empty without sources."""
        if self.training is None:
            return ""
        sources, differs = self.training.sources, DIFFERENCE_WORDS[self.training.differs]
        kinds = [timing.kind for timing in sources]
        named = [counted(kinds.count(kind), kind) for kind in ("run", "probe") if kind in kinds]
        named[0] = named[0].replace(" ", " finished ")
        here = " here" if all(timing.is_here for timing in sources) else ""
        return f"from {' and '.join(named)}{here}{differs and f' with {differs}, so the range is wider'}"

    @property
    def busy_in_words(self) -> str:
        """Sentence on other programs that slow the next run; empty where they take less than BUSY_SHARE."""
        if not self.others or self.others.share < BUSY_SHARE:
            return ""
        share = 10 * round(10 * self.others.share)
        return f"The machine is busy now: other programs want about {share} % of its processors, so this takes longer."


def paces(timings: Sequence[Timing], workload: Workload, assume: Assumptions, others: Others | None = None) -> Paces:
    """Return the pace of each part from finished runs and probes here, in any order. others: other programs now."""
    latest = sorted(timings, key=lambda timing: timing.ended_at)[::-1]
    reach = math.log(assume.value("here-base-reach"))
    workloads = {id(timing.workload): timing.workload for timing in latest}  # the runs of a sweep share one
    reached = {
        key: there for key, there in workloads.items() if abs(math.log(there.parameters / workload.parameters)) <= reach
    }
    parts = {}
    for part in PARTS:
        differs = {key: _difference(there, workload, part, assume) for key, there in reached.items()}
        parts[part] = _pace(part, latest, differs, assume, others)
    return Paces(**parts, others=others)


def _pace(
    part: Part,
    latest: Sequence[Timing],
    differs: Mapping[int, tuple[Difference, float]],
    assume: Assumptions,
    others: Others | None,
) -> Pace | None:
    """Return the pace of one part by the LATEST runs and probes among those that differ least, and of these only those
    with a known slowdown, if any have one. latest: newest first. differs: by id of a workload within reach."""
    measured = [timing for timing in latest if part in timing.ratios and id(timing.workload) in differs]
    if not measured:
        return None
    nearest = min(differs[id(timing.workload)][0] for timing in measured)
    near = [timing for timing in measured if differs[id(timing.workload)][0] == nearest]
    near = ([timing for timing in near if part in timing.slowdowns] or near)[:LATEST][::-1]
    known, slowed = part in near[0].slowdowns, NO_SLOWDOWN
    logs = [math.log(timing.ratios[part] / timing.slowdowns.get(part, 1.0)) for timing in near]
    centre = middle(logs)
    noise = assume.value(f"here-{'load' if part == 'load' else 'idle' if known else 'time'}-noise")
    width = math.hypot(
        math.log(noise) * math.sqrt(LATEST / len(near)), max(differs[id(timing.workload)][1] for timing in near)
    )
    disagreement = assume.value("here-disagreement") * middle([abs(log - centre) for log in logs])
    if known:
        since = others.at - RECENT_SECONDS if others else -math.inf
        recent = takewhile(lambda timing: timing.ended_at > since, latest)
        last = list(islice((timing.slowdowns[part] for timing in recent if part in timing.slowdowns), LATEST))
        threads = others.cpus if others and part in ALL_CPUS else 1
        slowed = expected_slowdown(last, others and others.slowdown(threads, assume.value("here-others-drift")))
    return Pace(
        idle=math.exp(centre),
        spread=math.exp(max(width, disagreement)),
        slowdown=slowed,
        differs=nearest,
        sources=tuple(near),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryCalibration:
    """Memory of one set-up on one device, as probes measured it."""

    probe_ids: tuple[str, ...]
    """Ids of the probes; an id is empty where it must not be shown."""
    process_bytes: int
    """Bytes of the process before the base is loaded; 0 on a GPU, whose allocator counts from nothing."""
    working_factor: float
    memory_width: float
    """Half-width of the band, as a share of the memory above process_bytes."""
    reserved_share: float | None
    """Reserved over allocated memory of the caching allocator; None on a CPU."""

    def memory(self, static_bytes: float, working_bytes: float) -> Range:
        """Return the bytes of the process, or in use on the GPU."""
        above, width = static_bytes + self.working_factor * working_bytes, self.memory_width
        return Range(*(above * end + self.process_bytes for end in (1 - width, 1, 1 + width)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Measurements on this machine that an estimate rests on."""

    memory: MemoryCalibration | None
    paces: Paces

    @property
    def sentence(self) -> str:
        """Sentence on the sources of memory and time."""
        memory = self.memory and f"memory is calibrated by {counted(len(self.memory.probe_ids), 'probe')} of this model"
        time = self.paces.in_words and f"time is estimated {self.paces.in_words}"
        text = "; ".join(filter(None, [memory and f"{memory} here", time]))
        return f"{text[0].upper()}{text[1:]}." if text else ""

    def as_json(self) -> CalibrationJSON:
        pace, probes = self.paces.training, list(self.memory.probe_ids if self.memory else ())
        sources = pace.sources if pace else ()
        probes += [timing.source_id for timing in sources if timing.kind == "probe"]
        runs = (timing.source_id for timing in sources if timing.kind == "run")
        return {
            "calibrated": "on this machine",
            "probe_ids": list(dict.fromkeys(filter(None, probes))),
            "run_ids": list(dict.fromkeys(filter(None, runs))),
            "working_factor": self.memory.working_factor if self.memory else None,
            "seconds_factor": pace.factor if pace else None,
            "in_words": self.sentence,
        }


def calibrated_estimate(answer: Estimate, calibration: Calibration, assume: Assumptions) -> Estimate:
    """Return the answer with memory, time, cost and fit calibrated at every rank."""
    setup, paces, usable = answer.question.training, calibration.paces, answer.usable_bytes

    def calibrated(rank: RankEstimate) -> RankEstimate:
        memory, duration = rank.memory, rank.duration
        if calibration.memory:
            memory = calibrated_memory(memory, calibration.memory, assume.range("context-bytes"))
        if duration:
            step = paces.training.of(duration.step) if paces.training else duration.step
            load = paces.load.of(duration.load) if paces.load else duration.load
            training = step.times(setup.total_steps)
            total = load.plus(training) if setup.has_length else training
            duration = replace(duration, step=step, load=load, total=total)
        left = spare(memory.fullest_band, usable) if usable else None
        return replace(
            rank,
            memory=memory,
            duration=duration,
            cost=duration and cost(duration, answer.price),
            fit=fit(left, usable, assume) if left else None,
            spare=left,
        )

    notes = (calibration.sentence, *answer.notes)
    return replace(answer, ranks=tuple(map(calibrated, answer.ranks)), notes=notes)


def calibrated_memory(memory: MemoryEstimate, calibration: MemoryCalibration, context: Range) -> MemoryEstimate:
    """Return the estimate with its modelled parts replaced by what probes measured. Without a measured share of
    reserved memory the estimate's own share stays."""
    modelled = ("activations", "logits", "other")
    parts = {name: round(calibration.working_factor * getattr(memory, name)) for name in modelled}
    band = calibration.memory(memory.static, memory.working)
    share = calibration.reserved_share or memory.reserved_band.expected / memory.allocated
    reserved = band.times(max(1.0, share))
    return replace(memory, **parts, allocated_band=band, reserved_band=reserved, device_band=reserved.plus(context))
