"""Time on one machine: from runs and probes that have finished there to a range for the next one.

    ratio  = measured seconds / seconds that the formulas expect, for each finished run and probe
    idle   = the median of ratio / slowdown over the LATEST nearest ones: as on a machine with nothing else to do
    range  = the formulas' expected seconds · idle · slowdown of the next run, ÷ spread to × spread

    ln spread = √((few · ln noise)² + what differs²), or what the ratios disagree by, if that is more
    few       = √(LATEST / how many there are)
    disagree  = a factor · the median distance to the median: one odd run in three does not widen the range

Nearest is the same base model with the same kernels and data; then other data or another number of tokens per
micro-step, another base model, other kernels (precision, optimizer, checkpointing, loss path, DoRA), each with a wider
range. Slowdowns by other programs are known of runs on a CPU (slowdown.py); where one of the nearest has its own, those
without are left out, and where none has, the ratios are taken as they are. Widths are rows here-* of assumptions.json;
how many of the runs that followed were inside is in docs/method.md. Left out: a second machine of the same kind whose
runs were imported, which counts as this one. Hand-worked in tests/core/cost/pace/test_paces.py.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import Literal

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.pace import slowdown
from rankviz.core.cost.pace.slowdown import Others
from rankviz.core.cost.pace.workload import PARTS, Difference, Part, Workload, differences, log_sizes, width_of
from rankviz.core.quantity import Range, middle
from rankviz.units import counted

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
        """As in Paces."""
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
        """The same with `named` of the ids of what it rests on, empty in place of those that are not to be named."""
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
        usual = self.training.slowdown if self.training else slowdown.NONE
        if self.others and self.others.share >= slowdown.BUSY:
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
        slowdown=_next_slowdown(part, latest, others, assume) if known else slowdown.NONE,
        differs=differs[id(near[0].workload)][-1],
        sources=tuple(near),
    )


def _noise(part: Part, *, known: bool) -> str:
    """The row of assumptions.json; known: how much other programs slowed the runs."""
    if part == "load":
        return "here-load-noise"
    return "here-idle-noise" if known else "here-time-noise"


def _next_slowdown(part: Part, latest: Sequence[Timing], others: Others | None, assume: Assumptions) -> Range:
    since = others.at - slowdown.RECENT_SECONDS if others else -math.inf
    recent = takewhile(lambda timing: timing.ended_at > since, latest)
    last = list(islice((timing.slowdowns[part] for timing in recent if part in timing.slowdowns), slowdown.LAST))[::-1]
    if others is None:
        return slowdown.expected(last, None)
    threads = others.cpus if part in ALL_CPUS else 1
    return slowdown.expected(last, others.slowdown(threads, assume.value("here-others-drift")))
