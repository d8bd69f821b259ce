"""Finished runs in the order in which they ended, each announced from those before it: how good the announcement is.

A run's announcement is made as for a sweep of one run: load (where it loaded), training, evaluation of as many examples
as it evaluated, and the rest, with the machine as busy as it was when the run began. Truncations of a fast curve are
left out. Figures in docs/method.md, which tests/core/runs/timing/test_replay.py compares.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.pace.paces import Timing, paces
from rankviz.core.cost.pace.slowdown import Others, Spell, others
from rankviz.core.cost.pace.workload import Difference
from rankviz.core.quantity import Range, middle
from rankviz.core.runs.timing.times import FormulaTimes


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """One run that has ended."""

    timing: Timing
    expected: FormulaTimes
    evaluated: int
    """Held-out examples, over all evaluations that it made itself."""
    cpus: int = 1
    """Of its machine."""

    @property
    def seconds(self) -> float:
        """What its measured parts took together."""
        ratios, expected = self.timing.ratios, self.expected
        return (
            ratios.get("load", 0.0) * expected.load
            + ratios.get("training", 0.0) * expected.training
            + ratios.get("evaluation", 0.0) * expected.evaluation_of_one * self.evaluated
            + ratios.get("rest", 0.0)
        )


class Announced(NamedTuple):
    """One run, and what would have been announced of it."""

    finished: Finished
    seconds: Range
    differs: Difference
    """Of the runs that its training was announced from."""
    sources: int
    """How many of them."""

    @property
    def inside(self) -> bool:
        return self.seconds.holds(self.finished.seconds)


class Coverage(NamedTuple):
    """How many runs were inside their announced range, and how wide it was."""

    runs: int
    inside: int
    middle_width: float
    """The median of high / low."""
    widest: float


def replay(finished: Iterable[Finished], assume: Assumptions) -> Sequence[Announced]:
    """Each run that had comparable ones before it, and was long enough to measure its training. finished: of one
    machine."""
    ordered = sorted(finished, key=lambda each: each.timing.ended_at)
    announced = (_announce(run, [each.timing for each in ordered[:place]], assume) for place, run in enumerate(ordered))
    return [each for each in announced if each is not None]


def coverage(announced: Sequence[Announced]) -> Coverage | None:
    """None of no runs."""
    if not announced:
        return None
    widths = [each.seconds.high / each.seconds.low for each in announced]
    return Coverage(len(announced), sum(each.inside for each in announced), middle(widths), max(widths))


def _announce(run: Finished, before: Sequence[Timing], assume: Assumptions) -> Announced | None:
    found = paces(before, run.timing.workload, assume, _others(run, before))
    measured = run.timing.ratios
    if found.training is None or "training" not in measured:
        return None
    total = found.training.range(run.expected.training)
    if "evaluation" in measured and found.evaluation:
        total = total.plus(found.evaluation.range(run.expected.evaluation_of_one * run.evaluated))
    if "rest" in measured and found.rest:
        total = total.plus(found.rest.range(1.0))
    if "load" in measured and found.load:
        total = found.load.range(run.expected.load).plus_independent(total)
    return Announced(run, total, found.training.differs, len(found.training.sources))


def _others(run: Finished, before: Sequence[Timing]) -> Others | None:
    timing = run.timing
    if timing.load_average is None or timing.began_at is None:
        return None
    spells = [
        Spell(began_at=each.began_at, ended_at=each.ended_at, threads=each.threads) for each in before if each.began_at
    ]
    return others(timing.load_average, timing.began_at, run.cpus, spells)
