"""Time and memory on one machine: what finished runs and probes there say of the next run."""

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

LAST_SLOWDOWNS = 3
"""Number of runs that say how busy the machine has been."""
RECENT_SECONDS = 3600.0
"""A choice: how busy the machine was longer ago says nothing of now."""
AVERAGED_SECONDS = 60.0
"""The load average weighs what was there t seconds ago by exp(-t / 60) (kernel/sched/loadavg.c)."""
UNSURE = 0.25
"""Threads that the load average may have too many: it counts each 5 s, so that whoever asks may be one in twelve
samples, and how many threads of its own a worker had busy is known to about a tenth."""
NO_SLOWDOWN = Range(1.0, 1.0, 1.0)
BUSY_SHARE = 0.1
"""Share of the processors below which other programs are not mentioned: noise of a run is larger."""
WIDER = 1.3
"""Ratio of the most to the least slowdown from which the wider range is explained."""


def slowdown(seconds: float, own: float, waited: float) -> float:
    """The factor by which other programs lengthened a part of a run.

    seconds: wall clock. own, waited: seconds that its threads ran, and wanted to run.
    """
    total = max(seconds, own + waited)
    return total / (total - waited) if 0 < waited < total < math.inf else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Spell:
    """When one of RankViz's workers was busy (unix seconds), and on how many threads."""

    began_at: float
    ended_at: float
    threads: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Others:
    """Threads of other programs that want a processor now."""

    threads: float
    cpus: int
    at: float = 0.0
    """Unix seconds."""

    @property
    def share(self) -> float:
        """Share of the processors that other programs would take without the run."""
        return self.threads / self.cpus

    def slowdown(self, threads: int, drift: float) -> Range:
        """The slowdown of a run with this many threads; the others may become fewer or more by a factor of drift."""
        may_come = (self.threads / drift, self.threads, self.threads * drift)
        return Range(*(max(1.0, (threads + others) / self.cpus) for others in may_come))


def others(load_average: float, at: float, cpus: int, spells: Iterable[Spell]) -> Others:
    """The load average, read at a time (unix seconds), without RankViz's own workers."""
    own = 0.0
    for spell in spells:
        if spell.began_at < at:
            since, ran = max(0.0, at - spell.ended_at), min(at, spell.ended_at) - spell.began_at
            own += spell.threads * (1 - math.exp(-ran / AVERAGED_SECONDS)) * math.exp(-since / AVERAGED_SECONDS)
    return Others(threads=max(0.0, load_average - own - UNSURE), cpus=cpus, at=at)


def expected_slowdown(last: Sequence[float], now: Range | None) -> Range:
    """The slowdown of the next run. last: those of the last runs here, the latest at the end; now: of the machine now.

    Expected is the geometric mean of both: the load average says how many others there are, the last runs how much of
    the machine a run gets beside them.
    """
    last = last[-LAST_SLOWDOWNS:]
    ends = [*last, *((now.low, now.high) if now else ())]
    if not ends:
        return NO_SLOWDOWN
    centres = [*([middle(last)] if last else []), *([now.expected] if now else [])]
    return Range(min(ends), math.prod(centres) ** (1 / len(centres)), max(ends))


SAME_TOKENS = 1.1
"""Ratio of tokens per micro-step that still counts as the same."""
LIBRARIES = ("torch", "transformers", "peft", "trl", "unsloth", "bitsandbytes")
"""Libraries whose versions memory and time depend on."""
Part = Literal["load", "training", "evaluation", "rest"]
PARTS: tuple[Part, ...] = ("load", "training", "evaluation", "rest")
ALL_CPUS: tuple[Part, ...] = ("training", "evaluation")
"""Parts that compute on all processors; the others mostly on one."""
LATEST = 3
"""Number of the nearest runs that count: with more, a change of the machine is followed too slowly."""


def machine_of(environment: Mapping[str, Any]) -> tuple[Any, ...]:
    """Identity of a machine: device, number of CPUs, versions of LIBRARIES."""
    versions = environment.get("versions", {})
    of_device = (environment.get(name) for name in ("device", "device_name", "cpu_count"))
    return (*of_device, *(versions.get(name) for name in LIBRARIES))


def kernels(setup: TrainingSetup, *, use_dora: bool) -> tuple[str, ...]:
    """Settings that must be equal for memory and time to be comparable. setup: without "auto"."""
    checkpointing = setup.gradient_checkpointing
    if checkpointing == "unsloth" and setup.framework != "unsloth":
        checkpointing = "hf"
    dora = "dora" if use_dora else "lora"
    return setup.framework, setup.precision, setup.optim, checkpointing, setup.loss_path, dora


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """The part of a training that the pace of a machine may depend on."""

    base: str
    """Id of the ModelSpec."""
    parameters: int
    """Parameters of the base."""
    kernels: tuple[str, ...]
    data: str = ""
    """The data in a run's request; empty for a probe and for an estimate without data."""
    tokens: float
    """Expected tokens of a micro-step."""


class Difference(IntEnum):
    """Differences between a finished run or probe and the next one, the smallest first."""

    NONE = 0
    TOKENS = 1
    BASE = 2
    KERNELS = 3


DIFFERENCE_WORDS = {
    Difference.NONE: "",
    Difference.TOKENS: " with other data or another batch, so the range is wider",
    Difference.BASE: " with another base model, so the range is wider",
    Difference.KERNELS: " with another precision or training setup, so the range is wider",
}


def _differences(there: Workload, here: Workload, part: Part) -> tuple[Difference, ...]:
    """All differences, the largest last. Loading reads no rows, so it is the same whatever the data."""
    tokens = abs(math.log(there.tokens / here.tokens)) > math.log(SAME_TOKENS)
    present = {
        Difference.NONE: True,
        Difference.TOKENS: part != "load" and (there.data != here.data or tokens),
        Difference.BASE: there.base != here.base,
        Difference.KERNELS: there.kernels != here.kernels,
    }
    return tuple(each for each, holds in present.items() if holds)


def _width(there: Workload, here: Workload, differs: Sequence[Difference], assume: Assumptions) -> float:
    """Half-width of ln seconds that the differences give."""
    sizes, tokens = math.log(there.parameters / here.parameters), math.log(there.tokens / here.tokens)
    widths = {
        Difference.NONE: 0.0,
        Difference.TOKENS: math.hypot(assume.value("here-data-width"), assume.value("here-tokens-width") * tokens),
        Difference.BASE: math.hypot(assume.value("here-base-width"), assume.value("here-size-width") * sizes),
        Difference.KERNELS: assume.value("here-kernels-width"),
    }
    return math.hypot(*(widths[each] for each in differs))


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Measured over expected time of one finished run or probe."""

    source_id: str
    """Empty where it must not be shown."""
    kind: Literal["run", "probe"]
    ended_at: float
    """Unix seconds."""
    workload: Workload
    ratios: Mapping[Part, float]
    """Measured / expected, above 0, for each part that was measured. "rest" is in seconds: the formulas have none."""
    slowdowns: Mapping[Part, float] = field(default_factory=dict)
    """Factor by which other programs lengthened each part, where that is known."""
    began_at: float | None = None
    """Unix seconds; before its base was loaded."""
    load_average: float | None = None
    """Load average of the machine when it began."""
    threads: float = 0.0
    """Mean number of threads that ran or wanted to run."""
    is_here: bool = True
    """False for a run of another engine than this machine's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """One part of the time, as finished runs and probes measured it."""

    idle: float
    """Factor of what the formulas expect, on an idle machine (or as busy as it was, where that is not known)."""
    spread: float
    """The range is ÷ and × this."""
    slowdown: Range
    """Slowdown of the next run by other programs."""
    differs: Difference
    sources: tuple[Timing, ...] = field(repr=False)

    def of(self, estimated: Range) -> Range:
        """The formulas' range moved to the pace of this machine; unchanged where it lies inside that, since the pace
        then says no more."""
        here = self.range(estimated.expected)
        return estimated if here.low <= estimated.low and estimated.high <= here.high else here

    def range(self, expected: float) -> Range:
        """Seconds around what the formulas expect."""
        here = self.slowdown.times(expected * self.idle)
        return Range(here.low / self.spread, here.expected, here.high * self.spread)

    @property
    def factor(self) -> float:
        """Expected time of the next run over that of the formulas."""
        return self.idle * self.slowdown.expected


@dataclass(frozen=True, kw_only=True, slots=True)
class Paces:
    """The pace of each part of a run; None where nothing comparable has finished here."""

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
        """Replace the ids of its sources by `named` of them, which is empty for ids that must not be shown."""

        def renamed(pace: Pace) -> Pace:
            ids = named([timing.source_id for timing in pace.sources])
            sources = (replace(each, source_id=shown) for each, shown in zip(pace.sources, ids, strict=True))
            return replace(pace, sources=tuple(sources))

        return replace(self, **{part: renamed(pace) for part, pace in self._parts().items()})

    def of_own(self, is_own: Callable[[str], bool]) -> "Paces":
        """Drop the pace of each part that may rest on anything but the visitor's own runs with the same data and
        settings. is_own: whether the run with this id is; an unnamed one is not."""

        def holds(pace: Pace) -> bool:
            ids = [timing.source_id for timing in pace.sources]
            return pace.differs is Difference.NONE and all(each and is_own(each) for each in ids)

        return replace(self, **{part: None for part, pace in self._parts().items() if not holds(pace)})

    @property
    def in_words(self) -> str:
        """Source of the training time, such as "from 3 finished runs here", without "here" where some were
        elsewhere; "" where on nothing."""
        if self.training is None:
            return ""
        sources, kinds = self.training.sources, [timing.kind for timing in self.training.sources]
        named = [counted(kinds.count(kind), kind) for kind in ("run", "probe") if kind in kinds]
        named[0] = named[0].replace(" ", " finished ")
        here = " here" if all(timing.is_here for timing in sources) else ""
        return f"from {' and '.join(named)}{here}{DIFFERENCE_WORDS[self.training.differs]}"

    @property
    def busy_in_words(self) -> str:
        """A sentence on other programs that slow the next run, or have slowed the last ones; else ""."""
        usual, others = self.training.slowdown if self.training else NO_SLOWDOWN, self.others
        if others and others.share >= BUSY_SHARE:
            follows = "this takes longer" if usual.expected > 1 else "this may take longer than estimated"
            need = f"take about {10 * round(10 * others.share)} % of its processors"
            if others.share > 1:
                need = f"need {others.share:.1f} times as many processors as it has"
            return f"The machine is busy now: other programs {need}, so {follows}."
        if usual.high >= WIDER * usual.low:
            return f"Other programs made one of the last runs here take {usual.high:.1f} times as long: a wider range."
        return ""


def paces(timings: Sequence[Timing], workload: Workload, assume: Assumptions, others: Others | None = None) -> Paces:
    """The pace of each part from what has finished on this machine, in any order. others: on this machine now."""
    latest = sorted(timings, key=lambda timing: timing.ended_at)[::-1]
    reach = math.log(assume.value("here-base-reach"))
    workloads = {id(timing.workload): timing.workload for timing in latest}  # the runs of a sweep share one
    reached = {
        key: there for key, there in workloads.items() if abs(math.log(there.parameters / workload.parameters)) <= reach
    }
    parts = {}
    for part in PARTS:
        differs = {key: _differences(there, workload, part) for key, there in reached.items()}
        if near := _nearest(part, latest, differs):
            parts[part] = _pace(part, latest, near, differs, workload, assume, others)
    return Paces(**parts, others=others)


def _nearest(part: Part, latest: Sequence[Timing], differs: Mapping[int, tuple[Difference, ...]]) -> Sequence[Timing]:
    """The LATEST of those that differ least, the oldest first; without those whose slowdown is not known, where it is
    known of some. latest: the latest first. differs: by the id of a workload; without those that are out of reach."""
    nearest, near, known = len(Difference), [], []
    for timing in latest:
        if part not in timing.ratios or (of := differs.get(id(timing.workload))) is None or of[-1] > nearest:
            continue
        if of[-1] < nearest:
            nearest, near, known = of[-1], [], []
        near.append(timing)
        if part in timing.slowdowns:
            known.append(timing)
        if nearest is Difference.NONE and len(known) == LATEST:
            break
    return (known or near)[:LATEST][::-1]


def _pace(
    part: Part,
    latest: Sequence[Timing],
    near: Sequence[Timing],
    differs: Mapping[int, tuple[Difference, ...]],
    workload: Workload,
    assume: Assumptions,
    others: Others | None,
) -> Pace:
    known, slowed = part in near[0].slowdowns, NO_SLOWDOWN
    logs = [math.log(timing.ratios[part] / timing.slowdowns.get(part, 1.0)) for timing in near]
    centre = middle(logs)
    noise = assume.value(f"here-{'load' if part == 'load' else 'idle' if known else 'time'}-noise")
    width = math.hypot(
        math.log(noise) * math.sqrt(LATEST / len(near)),
        max(_width(timing.workload, workload, differs[id(timing.workload)], assume) for timing in near),
    )
    disagreement = assume.value("here-disagreement") * middle([abs(log - centre) for log in logs])
    if known:
        since = others.at - RECENT_SECONDS if others else -math.inf
        recent = takewhile(lambda timing: timing.ended_at > since, latest)
        last = islice((timing.slowdowns[part] for timing in recent if part in timing.slowdowns), LAST_SLOWDOWNS)
        threads = others.cpus if others and part in ALL_CPUS else 1
        now = others and others.slowdown(threads, assume.value("here-others-drift"))
        slowed = expected_slowdown(list(last)[::-1], now)
    return Pace(
        idle=math.exp(centre),
        spread=math.exp(max(width, disagreement)),
        slowdown=slowed,
        differs=differs[id(near[0].workload)][-1],
        sources=tuple(near),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryCalibration:
    """Memory of one setting on one device, as probes measured it."""

    probe_ids: tuple[str, ...]
    """An id is empty where it must not be shown."""
    process_bytes: int
    """The process before the base is loaded; 0 on a GPU, whose allocator counts from nothing."""
    working_factor: float
    memory_width: float
    """Half-width of the band, as a share of what is above process_bytes."""
    reserved_share: float | None
    """Reserved over allocated memory of the caching allocator; None on a CPU."""

    def memory(self, static_bytes: float, working_bytes: float) -> Range:
        """Bytes of the process, or in use on the GPU."""
        above, width = static_bytes + self.working_factor * working_bytes, self.memory_width
        return Range(*(above * end + self.process_bytes for end in (1 - width, 1, 1 + width)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """The measurements on this machine that an estimate rests on."""

    memory: MemoryCalibration | None
    paces: Paces

    @property
    def sentence(self) -> str:
        """Sentence on the sources of memory and time."""
        memory = self.memory and f"Memory is calibrated by {counted(len(self.memory.probe_ids), 'probe')} of this model"
        time = self.paces.in_words and f"time is estimated {self.paces.in_words}"
        if memory and time:
            return f"{memory} here; {time}."
        return f"{memory} here." if memory else f"{time[0].upper()}{time[1:]}." if time else ""

    def as_json(self) -> CalibrationJSON:
        pace = self.paces.training
        timed = {
            kind: [t.source_id for t in pace.sources if t.kind == kind] if pace else [] for kind in ("probe", "run")
        }
        probes = [*(self.memory.probe_ids if self.memory else ()), *timed["probe"]]
        return {
            "calibrated": "on this machine",
            "probe_ids": list(dict.fromkeys(filter(None, probes))),
            "run_ids": list(dict.fromkeys(filter(None, timed["run"]))),
            "working_factor": self.memory.working_factor if self.memory else None,
            "seconds_factor": pace.factor if pace else None,
            "in_words": self.sentence,
        }


def calibrated_estimate(answer: Estimate, calibration: Calibration, assume: Assumptions) -> Estimate:
    """Calibrate memory, time, cost and fit of an answer at every rank."""
    ranks = tuple(_calibrated_rank(rank, answer, calibration, assume) for rank in answer.ranks)
    return replace(answer, ranks=ranks, notes=(calibration.sentence, *answer.notes))


def _calibrated_rank(
    rank: RankEstimate, answer: Estimate, calibration: Calibration, assume: Assumptions
) -> RankEstimate:
    memory, duration, usable = rank.memory, rank.duration, answer.usable_bytes
    setup, paces = answer.question.training, calibration.paces
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
        margin_bytes=round(usable.expected - memory.fullest_band.expected) if usable else None,
    )


def calibrated_memory(memory: MemoryEstimate, calibration: MemoryCalibration, context: Range) -> MemoryEstimate:
    """Replace the modelled parts by what probes measured; without a measured share of what is reserved the estimate's
    own stays."""
    parts = {
        name: round(calibration.working_factor * getattr(memory, name)) for name in ("activations", "logits", "other")
    }
    band = calibration.memory(memory.static, memory.working)
    share = calibration.reserved_share or memory.reserved_band.expected / memory.allocated
    reserved = band.times(max(1.0, share))
    return replace(memory, **parts, allocated_band=band, reserved_band=reserved, device_band=reserved.plus(context))
