"""The steps of a run that a chart shows, fewer than there may be."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple, Protocol

FEW = 40
"""Of each run where many are drawn together. Those of ended runs stay in memory (store/memory/left_on_disk.py)."""


class Step(Protocol):
    """What of a step is drawn."""

    step: int
    loss: float
    learning_rate: float


class Point(NamedTuple):
    """The same in little room."""

    step: int
    loss: float
    learning_rate: float


def thinned(steps: Sequence[Step], most: int) -> Sequence[Step]:
    """At most so many of these steps: the first and the last, and of equal parts between them the lowest and the
    highest loss, so that no peak is lost. most: at least 4."""
    if most == FEW and hasattr(steps, "few"):
        return tuple(steps.few)
    if len(steps) <= most:
        return steps
    first, *between, last = steps
    parts = (most - 2) // 2
    kept = [first]
    for part in range(parts):
        some = between[part * len(between) // parts : (part + 1) * len(between) // parts]
        known = [step for step in some if isfinite(step.loss)]
        ends = {min(known, key=_loss).step, max(known, key=_loss).step} if known else {some[0].step}
        kept += [step for step in some if step.step in ends]
    return [*kept, last]


def _loss(step: Step) -> float:
    return step.loss


@dataclass(frozen=True, slots=True)
class Few:
    """At most FEW steps of a run as numbers alone: a kilobyte."""

    numbers: array

    @classmethod
    def of(cls, steps: Sequence[Step]) -> "Few":
        return cls(array("d", (n for step in thinned(steps, FEW) for n in (step.step, step.loss, step.learning_rate))))

    def __iter__(self) -> Iterator[Point]:
        numbers = iter(self.numbers)
        for step, loss, learning_rate in zip(numbers, numbers, numbers, strict=True):
            yield Point(int(step), loss, learning_rate)
