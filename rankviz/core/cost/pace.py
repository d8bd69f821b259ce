"""Time on one machine: from runs and probes that have finished there to a range for the next one.

    ratio  = measured seconds / seconds that the formulas expect, for each finished run and probe
    factor = the median ratio of the LATEST nearest ones
    range  = the formulas' expected seconds · factor, ÷ spread to × spread

    ln spread = √((few · ln noise)² + what differs²), or what the ratios disagree by, if that is more
    few       = √(LATEST / how many there are)
    disagree  = a factor · the median distance to the median: one odd run in three does not widen the range

Nearest is the same base model with the same kernels and data; then other data or another number of tokens per
micro-step, another base model, other kernels (precision, optimizer, checkpointing, loss path, DoRA), each with a wider
range. The latest count because a machine has other work at other times: of two shipped sweeps of one set-up the first
took 0.8 to 1.4 times what the formulas expect and the second 1.4 to 3.3 times. Widths are rows here-* of
assumptions.json; how many of the runs that followed were inside is in docs/method.md. Left out: what else the machine
will be doing, and a second machine of the same kind whose runs were imported, which counts as this one. Hand-worked in
tests/core/cost/test_pace.py.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.quantity import Range, middle
from rankviz.units import counted

LATEST = 3
"""So many of the nearest runs count: with more a change of the machine's load is followed too slowly."""
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
    """As a run's request names it; empty for a probe and for an estimate without data."""
    tokens: float
    """Of a micro-step, as expected before it runs."""


class Difference(IntEnum):
    """What a finished run or probe has otherwise than what is asked, the least first."""

    NONE = 0
    TOKENS = 1
    BASE = 2
    KERNELS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What one finished run or probe took, over what the formulas expect of it."""

    source_id: str
    kind: Literal["run", "probe"]
    ended_at: float
    """Unix seconds."""
    workload: Workload
    ratios: Mapping[Part, float]
    """Measured / expected, above 0, for each part that was measured. "rest" is in seconds: the formulas have none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """What finished runs and probes say of one part of the time."""

    factor: float
    spread: float
    """The range is ÷ and × this."""
    differs: Difference
    sources: tuple[Timing, ...] = field(repr=False)

    def of(self, estimated: Range) -> Range:
        """The formulas' range moved to the pace of this machine; as it is where it lies inside that, since the pace
        then says no more."""
        here = self.range(estimated.expected)
        return estimated if here.low <= estimated.low and estimated.high <= here.high else here

    def range(self, expected: float) -> Range:
        """Around what the formulas expect, in seconds."""
        here = expected * self.factor
        return Range(here / self.spread, here, here * self.spread)


@dataclass(frozen=True, kw_only=True, slots=True)
class Paces:
    """The pace of each part of a run; None where nothing comparable has finished here."""

    load: Pace | None = None
    training: Pace | None = None
    evaluation: Pace | None = None
    rest: Pace | None = None

    @property
    def source_ids(self) -> tuple[str, ...]:
        return tuple(timing.source_id for timing in self.training.sources) if self.training else ()

    @property
    def in_words(self) -> str:
        """What the time of training rests on, such as "from 3 finished runs here"; "" where on nothing."""
        if self.training is None:
            return ""
        kinds = [timing.kind for timing in self.training.sources]
        named = [counted(kinds.count(kind), kind) for kind in ("run", "probe") if kind in kinds]
        first, *others = named
        return f"from {' and '.join([f'{_finished(first)}', *others])} here{OTHER[self.training.differs]}"


OTHER = {
    Difference.NONE: "",
    Difference.TOKENS: " with other data or another batch, so the range is wider",
    Difference.BASE: " with another base model, so the range is wider",
    Difference.KERNELS: " with another precision or training setup, so the range is wider",
}


def _finished(text: str) -> str:
    number, noun = text.split(" ")
    return f"{number} finished {noun}"


def paces(timings: Sequence[Timing], workload: Workload, assume: Assumptions) -> Paces:
    """The pace of each part from what has finished on this machine, in any order."""
    return Paces(**{part: _pace(part, timings, workload, assume) for part in PARTS})


def _pace(part: Part, timings: Sequence[Timing], workload: Workload, assume: Assumptions) -> Pace | None:
    reach = math.log(assume.value("here-base-reach"))
    measured = [
        (_differences(timing.workload, workload, part), timing)
        for timing in timings
        if part in timing.ratios and abs(_log_sizes(timing.workload, workload)) <= reach
    ]
    if not measured:
        return None
    nearest = min(max(differs) for differs, _ in measured)
    near = [(differs, timing) for differs, timing in measured if max(differs) == nearest]
    near = sorted(near, key=lambda each: each[1].ended_at)[-LATEST:]
    logs = [math.log(timing.ratios[part]) for _, timing in near]
    centre = middle(logs)
    noise = math.log(assume.value("here-load-noise" if part == "load" else "here-time-noise"))
    width = math.hypot(
        noise * math.sqrt(LATEST / len(near)),
        max(_width(timing.workload, workload, differs, assume) for differs, timing in near),
    )
    disagreement = assume.value("here-disagreement") * middle([abs(log - centre) for log in logs])
    return Pace(
        factor=math.exp(centre),
        spread=math.exp(max(width, disagreement)),
        differs=nearest,
        sources=tuple(timing for _, timing in near),
    )


def _differences(there: Workload, here: Workload, part: Part) -> tuple[Difference, ...]:
    """All of them. Loading reads no rows, so it is the same whatever the data."""
    rows = part != "load" and (there.data != here.data or abs(_log_tokens(there, here)) > math.log(SAME_TOKENS))
    return (
        Difference.NONE,
        *([Difference.TOKENS] if rows else []),
        *([Difference.BASE] if there.base != here.base else []),
        *([Difference.KERNELS] if there.kernels != here.kernels else []),
    )


def _width(there: Workload, here: Workload, differs: Sequence[Difference], assume: Assumptions) -> float:
    """What differs, as a half-width of ln seconds."""
    widths = {
        Difference.NONE: 0.0,
        Difference.TOKENS: math.hypot(
            assume.value("here-data-width"), assume.value("here-tokens-width") * _log_tokens(there, here)
        ),
        Difference.BASE: math.hypot(
            assume.value("here-base-width"), assume.value("here-size-width") * _log_sizes(there, here)
        ),
        Difference.KERNELS: assume.value("here-kernels-width"),
    }
    return math.hypot(*(widths[each] for each in differs))


def _log_tokens(there: Workload, here: Workload) -> float:
    return math.log(there.tokens / here.tokens)


def _log_sizes(there: Workload, here: Workload) -> float:
    return math.log(there.parameters / here.parameters)
