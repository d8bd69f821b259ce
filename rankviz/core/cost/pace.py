"""Time on one machine: from runs and probes that have finished there to a range for the next one."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import islice, takewhile
from typing import Any, Literal

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.duration import DurationEstimate, cost
from rankviz.core.cost.estimate import CalibrationJSON, Estimate, RankEstimate, fit, spare
from rankviz.core.cost.memory import MemoryEstimate
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.quantity import Range, middle
from rankviz.units import counted

LAST_SLOWDOWNS = 3
"""So many runs say how busy the machine has been."""
RECENT_SECONDS = 3600.0
"""A choice: how busy the machine was longer ago says nothing of now."""
AVERAGED_SECONDS = 60.0
"""Of the load average: what was there t seconds ago counts exp(-t / 60) (kernel/sched/loadavg.c)."""
UNSURE = 0.25
"""Threads that the load average may have too many: it counts each 5 s, so that whoever asks may be one in twelve
samples, and how many threads of its own a worker had busy is known to about a tenth."""
NO_SLOWDOWN = Range(1.0, 1.0, 1.0)
BUSY_SHARE = 0.1
"""Others that take a smaller share of the processors are not worth a sentence: noise of a run is larger."""


def slowdown(seconds: float, own: float, waited: float) -> float:
    """The factor by which other programs lengthened this. seconds: wall clock."""
    total = max(seconds, own + waited)
    return total / (total - waited) if 0 < waited < total < math.inf else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Spell:
    """When a worker of one's own was at work, and on how many threads."""

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
        """The slowdown of a run with this many threads."""
        may_come = (self.threads / drift, self.threads, self.threads * drift)
        return Range(*(max(1.0, (threads + others) / self.cpus) for others in may_come))


def others(load_average: float, at: float, cpus: int, spells: Iterable[Spell]) -> Others:
    """What is left of the load average without one's own workers. at: when it was read, in unix seconds."""
    own = sum(_left(spell, at) for spell in spells)
    return Others(threads=max(0.0, load_average - own - UNSURE), cpus=cpus, at=at)


def _left(spell: Spell, at: float) -> float:
    if spell.began_at >= at:
        return 0.0
    since, ran = max(0.0, at - spell.ended_at), min(at, spell.ended_at) - spell.began_at
    return spell.threads * (1 - math.exp(-ran / AVERAGED_SECONDS)) * math.exp(-since / AVERAGED_SECONDS)


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
"""Times more or fewer tokens per micro-step that still count as the same."""
LIBRARIES = ("torch", "transformers", "peft", "trl", "unsloth", "bitsandbytes")
"""Versions that memory and time depend on."""
Part = Literal["load", "training", "evaluation", "rest"]
PARTS: tuple[Part, ...] = ("load", "training", "evaluation", "rest")


def machine_of(environment: Mapping[str, Any]) -> tuple[Any, ...]:
    """What must be equal for two environments to be the same machine: device, number of CPUs, versions of LIBRARIES."""
    versions = environment.get("versions", {})
    return (
        *(environment.get(name) for name in ("device", "device_name", "cpu_count")),
        *(versions.get(name) for name in LIBRARIES),
    )


def kernels(setup: TrainingSetup, *, use_dora: bool) -> tuple[str, ...]:
    """What must be the same for memory and time to be made of the same parts. setup: with nothing "auto" in it."""
    checkpointing = setup.gradient_checkpointing
    if checkpointing == "unsloth" and setup.framework != "unsloth":
        checkpointing = "hf"
    dora = "dora" if use_dora else "lora"
    return setup.framework, setup.precision, setup.optim, checkpointing, setup.loss_path, dora


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What is trained, as far as the pace of a machine may depend on it."""

    base: str
    """Id of the ModelSpec."""
    parameters: int
    """Of the base."""
    kernels: tuple[str, ...]
    data: str = ""
    """As a run's request tells it apart; empty for a probe and for an estimate without data."""
    tokens: float
    """Of a micro-step, as expected before it runs."""


class Difference(IntEnum):
    """What a finished run or probe has otherwise than what is asked, the least first."""

    NONE = 0
    TOKENS = 1
    BASE = 2
    KERNELS = 3


def differences(there: Workload, here: Workload, part: Part) -> tuple[Difference, ...]:
    """All of them, the largest last. Loading reads no rows, so it is the same whatever the data."""
    rows = part != "load" and (there.data != here.data or abs(_log_tokens(there, here)) > math.log(SAME_TOKENS))
    return (
        Difference.NONE,
        *([Difference.TOKENS] if rows else []),
        *([Difference.BASE] if there.base != here.base else []),
        *([Difference.KERNELS] if there.kernels != here.kernels else []),
    )


def width_of(there: Workload, here: Workload, differs: Sequence[Difference], assume: Assumptions) -> float:
    """What differs, as a half-width of ln seconds."""
    widths = {
        Difference.NONE: 0.0,
        Difference.TOKENS: math.hypot(
            assume.value("here-data-width"), assume.value("here-tokens-width") * _log_tokens(there, here)
        ),
        Difference.BASE: math.hypot(
            assume.value("here-base-width"), assume.value("here-size-width") * log_sizes(there, here)
        ),
        Difference.KERNELS: assume.value("here-kernels-width"),
    }
    return math.hypot(*(widths[each] for each in differs))


def _log_tokens(there: Workload, here: Workload) -> float:
    return math.log(there.tokens / here.tokens)


def log_sizes(there: Workload, here: Workload) -> float:
    return math.log(there.parameters / here.parameters)


LATEST = 3
"""So many of the nearest runs count: with more a change of the machine is followed too slowly."""
ALL_CPUS: tuple[Part, ...] = ("training", "evaluation")
"""Parts that compute on all processors; the others mostly on one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What one finished run or probe took, over what the formulas expect of it."""

    source_id: str
    """Empty of one that is not to be named."""
    kind: Literal["run", "probe"]
    ended_at: float
    """Unix seconds."""
    workload: Workload
    ratios: Mapping[Part, float]
    """Measured / expected, above 0, for each part that was measured. "rest" is in seconds: the formulas have none."""
    slowdowns: Mapping[Part, float] = field(default_factory=dict)
    """How many times longer other programs made each part; without those of which that is not known."""
    began_at: float | None = None
    """Unix seconds; before its base was loaded."""
    load_average: float | None = None
    """Of the machine, when it began."""
    threads: float = 0.0
    """That ran or wanted to run, on average."""
    is_here: bool = True
    """False where another engine than that of this machine had it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """What finished runs and probes say of one part of the time."""

    idle: float
    """Times what the formulas expect, on a machine with nothing else to do (or as busy as it was, where not known)."""
    spread: float
    """The range is ÷ and × this."""
    slowdown: Range
    """Of the next run, by other programs."""
    differs: Difference
    sources: tuple[Timing, ...] = field(repr=False)

    def of(self, estimated: Range) -> Range:
        """The formulas' range moved to the pace of this machine; as it is where it lies inside that, since the pace
        then says no more."""
        here = self.range(estimated.expected)
        return estimated if here.low <= estimated.low and estimated.high <= here.high else here

    def range(self, expected: float) -> Range:
        """Around what the formulas expect, in seconds."""
        here = self.slowdown.times(expected * self.idle)
        return Range(here.low / self.spread, here.expected, here.high * self.spread)

    @property
    def factor(self) -> float:
        """What is expected of the next run, over what the formulas expect."""
        return self.idle * self.slowdown.expected

    def naming(self, named: Callable[[Sequence[str]], Sequence[str]]) -> "Pace":
        """Replace the ids of its sources; see Paces.naming."""
        ids = named([timing.source_id for timing in self.sources])
        sources = tuple(replace(each, source_id=shown) for each, shown in zip(self.sources, ids, strict=True))
        return replace(self, sources=sources)


@dataclass(frozen=True, kw_only=True, slots=True)
class Paces:
    """The pace of each part of a run; None where nothing comparable has finished here."""

    load: Pace | None = None
    training: Pace | None = None
    evaluation: Pace | None = None
    rest: Pace | None = None
    others: Others | None = None
    """Other programs on this machine now; None where that is not known or does not matter."""

    @property
    def source_ids(self) -> tuple[str, ...]:
        return tuple(timing.source_id for timing in self.training.sources) if self.training else ()

    def naming(self, named: Callable[[Sequence[str]], Sequence[str]]) -> "Paces":
        """Replace the ids of its sources by `named` of them, which is empty for ids that must not be shown."""
        return replace(self, **{part: pace.naming(named) for part in PARTS if (pace := getattr(self, part))})

    def of_own(self, is_own: Callable[[str], bool]) -> "Paces":
        """Without the pace of each part that may rest on anything but runs of one's own with the same data and
        settings. is_own: whether what has this id is; what is not named is not."""

        def holds(pace: Pace) -> bool:
            ids = [timing.source_id for timing in pace.sources]
            return pace.differs is Difference.NONE and all(each and is_own(each) for each in ids)

        return replace(self, **{part: None for part in PARTS if (pace := getattr(self, part)) and not holds(pace)})

    @property
    def in_words(self) -> str:
        """What the time of training rests on, such as "from 3 finished runs here", without "here" where some were
        elsewhere; "" where on nothing."""
        if self.training is None:
            return ""
        kinds = [timing.kind for timing in self.training.sources]
        named = [counted(kinds.count(kind), kind) for kind in ("run", "probe") if kind in kinds]
        first, *others = named
        here = " here" if all(timing.is_here for timing in self.training.sources) else ""
        return f"from {' and '.join([f'{_finished(first)}', *others])}{here}{OTHER[self.training.differs]}"

    @property
    def busy_in_words(self) -> str:
        """A sentence on other programs that slow the next run, or have slowed the last ones; else ""."""
        usual = self.training.slowdown if self.training else NO_SLOWDOWN
        if self.others and self.others.share >= BUSY_SHARE:
            counted_in = usual.expected > 1
            follows = "this takes longer" if counted_in else "this may take longer than estimated"
            return f"The machine is busy now: other programs {_taken(self.others)}, so {follows}."
        if usual.high >= WIDER * usual.low:
            return f"Other programs made one of the last runs here take {usual.high:.1f} times as long: a wider range."
        return ""


def _taken(others: Others) -> str:
    if others.share <= 1:
        return f"take about {10 * round(10 * others.share)} % of its processors"
    return f"need {others.share:.1f} times as many processors as it has"


WIDER = 1.3
"""Between the least and the most slowdown: from here on it is said, since the range is wider by so much."""
OTHER = {
    Difference.NONE: "",
    Difference.TOKENS: " with other data or another batch, so the range is wider",
    Difference.BASE: " with another base model, so the range is wider",
    Difference.KERNELS: " with another precision or training setup, so the range is wider",
}


def _finished(text: str) -> str:
    number, noun = text.split(" ")
    return f"{number} finished {noun}"


def paces(timings: Sequence[Timing], workload: Workload, assume: Assumptions, others: Others | None = None) -> Paces:
    """The pace of each part from what has finished on this machine, in any order. others: on this machine now."""
    latest = sorted(timings, key=lambda timing: timing.ended_at)[::-1]
    reach = math.log(assume.value("here-base-reach"))
    workloads = {id(timing.workload): timing.workload for timing in latest}  # those of a sweep are one
    reached = {key: there for key, there in workloads.items() if abs(log_sizes(there, workload)) <= reach}
    loading = {key: differences(there, workload, "load") for key, there in reached.items()}
    working = {key: differences(there, workload, "training") for key, there in reached.items()}
    found = {}
    for part in PARTS:
        differs = loading if part == "load" else working
        near = _nearest(part, latest, differs)
        found[part] = _pace(part, latest, near, differs, workload, assume, others) if near else None
    return Paces(**found, others=others)


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
    known = part in near[0].slowdowns
    logs = [math.log(timing.ratios[part] / timing.slowdowns.get(part, 1.0)) for timing in near]
    centre = middle(logs)
    noise = math.log(assume.value(_noise(part, known=known)))
    width = math.hypot(
        noise * math.sqrt(LATEST / len(near)),
        max(width_of(timing.workload, workload, differs[id(timing.workload)], assume) for timing in near),
    )
    disagreement = assume.value("here-disagreement") * middle([abs(log - centre) for log in logs])
    return Pace(
        idle=math.exp(centre),
        spread=math.exp(max(width, disagreement)),
        slowdown=_next_slowdown(part, latest, others, assume) if known else NO_SLOWDOWN,
        differs=differs[id(near[0].workload)][-1],
        sources=tuple(near),
    )


def _noise(part: Part, *, known: bool) -> str:
    """The row of assumptions.json; known: how much other programs slowed the runs."""
    if part == "load":
        return "here-load-noise"
    return "here-idle-noise" if known else "here-time-noise"


def _next_slowdown(part: Part, latest: Sequence[Timing], others: Others | None, assume: Assumptions) -> Range:
    since = others.at - RECENT_SECONDS if others else -math.inf
    recent = takewhile(lambda timing: timing.ended_at > since, latest)
    last = list(islice((timing.slowdowns[part] for timing in recent if part in timing.slowdowns), LAST_SLOWDOWNS))[::-1]
    if others is None:
        return expected_slowdown(last, None)
    threads = others.cpus if part in ALL_CPUS else 1
    return expected_slowdown(last, others.slowdown(threads, assume.value("here-others-drift")))


KINDS = ("probe", "run")


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryCalibration:
    """What probes of one setting on one device say of its memory."""

    probe_ids: tuple[str, ...]
    """Empty in place of one that is not to be named."""
    process_bytes: int
    """The process before the base is loaded; 0 on a GPU, whose allocator counts from nothing."""
    working_factor: float
    memory_width: float
    """Half-width of the band, as a share of what is above process_bytes."""
    reserved_share: float | None
    """What the caching allocator held over what was in use; None on a CPU."""

    def memory(self, static_bytes: float, working_bytes: float) -> Range:
        """Bytes of the process, or in use on the GPU."""
        above = static_bytes + self.working_factor * working_bytes
        return Range(above * (1 - self.memory_width), above, above * (1 + self.memory_width)).plus(
            Range(self.process_bytes, self.process_bytes, self.process_bytes)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What was measured on this machine, as far as an estimate rests on it."""

    memory: MemoryCalibration | None
    paces: Paces

    @property
    def sentence(self) -> str:
        """What memory and time rest on."""
        memory = self.memory and f"Memory is calibrated by {counted(len(self.memory.probe_ids), 'probe')} of this model"
        time = self.paces.in_words and f"time is estimated {self.paces.in_words}"
        if memory and time:
            return f"{memory} here; {time}."
        return f"{memory} here." if memory else f"{time[0].upper()}{time[1:]}." if time else ""

    def as_json(self) -> CalibrationJSON:
        pace = self.paces.training
        timed = {kind: [t.source_id for t in pace.sources if t.kind == kind] if pace else [] for kind in KINDS}
        memory_probes = self.memory.probe_ids if self.memory else ()
        return {
            "calibrated": "on this machine",
            "probe_ids": _each_once((*memory_probes, *timed["probe"])),
            "run_ids": _each_once(timed["run"]),
            "working_factor": self.memory.working_factor if self.memory else None,
            "seconds_factor": pace.factor if pace else None,
            "in_words": self.sentence,
        }


def _each_once(ids: Iterable[str]) -> list[str]:
    """Without those that are not to be named."""
    return list(dict.fromkeys(filter(None, ids)))


def calibrated_estimate(answer: Estimate, calibration: Calibration, assume: Assumptions) -> Estimate:
    """Calibrate memory, time, cost and fit of an answer at every rank."""
    ranks = tuple(_rank(rank, answer, calibration, assume) for rank in answer.ranks)
    return replace(answer, ranks=ranks, notes=(calibration.sentence, *answer.notes))


def _rank(rank: RankEstimate, answer: Estimate, calibration: Calibration, assume: Assumptions) -> RankEstimate:
    memory = rank.memory
    if calibration.memory:
        memory = calibrated_memory(memory, calibration.memory, assume.range("context-bytes"))
    duration = rank.duration and _duration(rank.duration, answer, calibration.paces)
    usable = answer.usable_bytes
    left = spare(memory.fullest_band, usable) if usable else None
    return replace(
        rank,
        memory=memory,
        duration=duration,
        cost=cost(duration, answer.price) if duration else None,
        fit=fit(left, usable, assume) if left else None,
        spare=left,
        margin_bytes=round(usable.expected - memory.fullest_band.expected) if usable else None,
    )


def calibrated_memory(memory: MemoryEstimate, calibration: MemoryCalibration, context: Range) -> MemoryEstimate:
    """Without a measured share of what is reserved the estimate's own stays."""
    factor = calibration.working_factor
    parts = {name: round(factor * getattr(memory, name)) for name in ("activations", "logits", "other")}
    band = calibration.memory(memory.static, memory.working)
    share = calibration.reserved_share or memory.reserved_band.expected / memory.allocated
    reserved = band.times(max(1.0, share))
    return replace(memory, **parts, allocated_band=band, reserved_band=reserved, device_band=reserved.plus(context))


def _duration(duration: DurationEstimate, answer: Estimate, paces: Paces) -> DurationEstimate:
    setup = answer.question.training
    step = paces.training.of(duration.step) if paces.training else duration.step
    load = paces.load.of(duration.load) if paces.load else duration.load
    training = step.times(setup.total_steps)
    return replace(duration, step=step, load=load, total=load.plus(training) if setup.has_length else training)
