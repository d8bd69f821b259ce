"""What finished runs took, part by part, from their events, and what runs have cost so far."""

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from statistics import fmean, median
from typing import NamedTuple, Protocol

from rankviz import units
from rankviz.core.cost.pace import Part, Spell, Timing, Workload, slowdown
from rankviz.core.runs.events import LOCAL, Evaluated, RunCompleted, StepLogged
from rankviz.core.runs.record import RunRecord

MIN_SECONDS = 1e-3
"""Less was not measured: clocks of a journal may be set back meanwhile."""
LEAST_LATER_STEPS = 5
"""Steps of the shipped sweeps differ by up to 30 % (rows differ in length), so the mean of five is within 13 %."""
Use = tuple[float, float, float]
"""Seconds of the clock, of processor time and of waiting for a processor."""
COMPILED = 10.0
"""A step that takes so many times the median of the later steps has compiled kernels again, for another shape."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTimes:
    """Seconds; None is not known."""

    load: float | None
    training: float | None
    evaluation_of_one: float | None
    rest: float | None
    slowdowns: Mapping[Part, float] = field(default_factory=dict)
    """How many times longer other programs made each part, as far as that is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FormulaTimes:
    """What the formulas expect of the same run: seconds."""

    load: float
    training: float
    evaluation_of_one: float


def times_of(run: RunRecord) -> RunTimes | None:
    """Return what each part of a run took; None for a run that has not completed."""
    if run.completed is None or run.loaded_at is None or run.ended_at is None:
        return None
    examples, training = evaluated(run), _training_seconds(run)
    one = _seconds_of_one_example(run)
    answering = sum(each.exact_match_seconds or 0.0 for each in _evaluations(run))
    answering += sum(each.seconds for each in (run.answered_before, run.answered_after) if each)
    spent = (training or 0.0) + (one or 0.0) * examples + answering + sum(cut.seconds for cut in run.cuts)
    load = _measured(run.loaded_at - run.load_began_at if run.load_began_at is not None else None)
    return RunTimes(
        load=load,
        training=training,
        evaluation_of_one=_measured(one),
        rest=_measured(run.ended_at - run.loaded_at - spent) if training is not None else None,
        slowdowns=_slowdowns(run, load),
    )


def _slowdowns(run: RunRecord, load: float | None) -> dict[Part, float]:
    """Return the slowdown of each part by other programs. On a GPU the processor's load hardly moves the time. Of what
    is left when training and evaluations are taken off the whole run, truncated adapters would have to be taken off
    too, but what they waited was not counted."""
    if run.environment.get("device") != "cpu":
        return {}
    steps = _use(run.steps[-1:])
    whole = _use([run.completed], run.ended_at - run.loaded_at)
    loading = tuple(_number(run, f"loading_{name}_cpu_seconds") for name in ("own", "waited"))
    uses: dict[Part, Use | None] = {
        "load": (load, *loading) if load and None not in loading else None,
        "training": steps,
        "evaluation": _use(_warm_evaluations(run)),
        "rest": _less(whole, steps, _use(_evaluations(run))) if not run.cuts else None,
    }
    return {part: slowdown(*use) for part, use in uses.items() if use is not None}


def _use(events: Sequence[Evaluated | StepLogged | RunCompleted], seconds: float | None = None) -> Use | None:
    """Seconds, own and waited of them together; None where one of them does not say."""
    uses = [(event.own_cpu_seconds, event.waited_cpu_seconds) for event in events]
    if not uses or any(None in use for use in uses):
        return None
    own, waited = (sum(each) for each in zip(*uses, strict=True))
    return sum(event.seconds for event in events) if seconds is None else seconds, own, waited


def _less(whole: Use | None, *parts: Use | None) -> Use | None:
    if whole is None or None in parts:
        return None
    return tuple(max(0.0, total - sum(each)) for total, *each in zip(whole, *parts, strict=True))


def _training_seconds(run: RunRecord) -> float | None:
    """Seconds of the training at the pace of the steps that compiled nothing: a run of many steps would otherwise be
    announced from a short one with its compilation in each step. None of a run too short to tell."""
    usual = run.steps.usual_seconds if hasattr(run.steps, "usual_seconds") else usual_seconds(run.steps)
    return None if usual is None else min(run.completed.train_seconds, usual * run.steps[-1].step)


def usual_seconds(steps: Sequence[StepLogged]) -> float | None:
    """Seconds of a step that compiled nothing; None of too few to tell. Steps that are left on the disk keep it in
    memory (store/memory.py): it is needed of every run."""
    later = [
        (after.seconds - before.seconds) / (after.step - before.step)
        for before, after in pairwise(steps)
        if after.step > before.step
    ]
    if len(later) < LEAST_LATER_STEPS:
        return None
    longest = COMPILED * median(later)
    return fmean(seconds for seconds in later if seconds <= longest)


def _seconds_of_one_example(run: RunRecord) -> float | None:
    warm = _warm_evaluations(run)
    return sum(each.seconds for each in warm) / sum(each.examples for each in warm) if warm else None


def _warm_evaluations(run: RunRecord) -> list[Evaluated]:
    """The evaluation before training compiles kernels too; the one after it does not, and counts alone where it was the
    faster."""
    every = [each for each in _evaluations(run) if each.examples]
    return (
        min(every, every[-1:], key=lambda some: sum(e.seconds for e in some) / sum(e.examples for e in some))
        if every
        else []
    )


def evaluated(run: RunRecord) -> int:
    """Held-out examples that the run evaluated itself, each time counted."""
    return sum(each.examples for each in _evaluations(run))


def _evaluations(run: RunRecord) -> list[Evaluated]:
    return [each for each in (run.loss_before, run.loss_after) if each and not each.reused]


def timing_of(run: RunRecord, workload: Workload, expected: FormulaTimes) -> Timing | None:
    """The run as evidence for the next one; None where it has no times."""
    times = times_of(run)
    if times is None or expected.training <= 0:
        return None
    training = _measured(times.training)
    ratios: dict[Part, float | None] = {
        "load": times.load and times.load / expected.load,
        "training": training and training / expected.training,
        "evaluation": times.evaluation_of_one and times.evaluation_of_one / expected.evaluation_of_one,
        "rest": times.rest,
    }
    return Timing(
        source_id=run.run_id,
        kind="run",
        ended_at=run.ended_at,
        workload=workload,
        ratios={part: ratio for part, ratio in ratios.items() if ratio is not None},
        slowdowns={part: each for part, each in times.slowdowns.items() if ratios[part] is not None},
        began_at=began_at(run),
        load_average=load_average_of(run),
        threads=spell_of(run).threads,
        is_here=run.engine in ("", LOCAL),
    )


def load_average_of(run: RunRecord) -> float | None:
    """Load average of the machine when the run began; None where its journal does not say."""
    return _number(run, "load_average")


def _number(run: RunRecord, name: str) -> float | None:
    """Return a number of the environment, which may be an imported one: None where it is no number above 0 or 0."""
    value = run.environment.get(name)
    return float(value) if isinstance(value, int | float) and 0 <= value < math.inf else None


def began_at(run: RunRecord) -> float | None:
    """When its worker set to work on it: when it began to load the base, or began the run where it had that."""
    return run.load_began_at or run.loaded_at


def spell_of(run: RunRecord, now: float | None = None) -> Spell | None:
    """When and on how many threads its worker was at work, until now where it has not ended; None before it began."""
    if (began := began_at(run)) is None:
        return None
    ended, use = run.ended_at or now or began, _use([run.completed], 1.0) if run.completed else None
    cpus = run.environment.get("cpu_count") or 1
    took = run.ended_at - run.loaded_at if run.ended_at and run.loaded_at else 0.0
    threads = (use[1] + use[2]) / took if use and took > 0 else cpus
    return Spell(began_at=began, ended_at=ended, threads=min(cpus, threads))


def _measured(seconds: float | None) -> float | None:
    return seconds if seconds is not None and seconds >= MIN_SECONDS else None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceTime:
    """Machine time of one run, or of several added up."""

    seconds: float = 0.0
    is_whole: bool = True
    """False where it is longer by a time that is not known."""

    @property
    def in_words(self) -> str:
        """ "18 min", "at least 18 min", "not known"; empty where nothing has begun."""
        if not self.seconds:
            return "" if self.is_whole else units.NOT_KNOWN
        return f"{'' if self.is_whole else 'at least '}{units.duration(self.seconds)}"

    def __add__(self, other: "DeviceTime") -> "DeviceTime":
        return DeviceTime(seconds=self.seconds + other.seconds, is_whole=self.is_whole and other.is_whole)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rent:
    """Cost of the machines that a sweep has rented from Hugging Face."""

    usd: float | None
    """None where it is not known here."""
    is_whole: bool
    """False where it is more by what is not known now."""
    limit_usd: float | None
    """The most that all its jobs together can cost, of all who pay for them; None where it no longer has a limit."""

    @property
    def in_words(self) -> str:
        """ "$0.40 of at most $5.00"; empty where it is not known."""
        if self.usd is None or not (self.usd or self.is_whole):
            return ""
        most = f" of at most {units.usd(self.limit_usd)}" if self.limit_usd else ""
        return f"{'' if self.is_whole else 'at least '}{units.usd(self.usd)}{most}"


def device_time(runs: Iterable[RunRecord], now: float) -> DeviceTime:
    """Machine time of all attempts of these runs. now: unix seconds."""
    return sum((time for run in runs for time in times_by_engine(run, now).values()), DeviceTime())


def times_by_engine(run: RunRecord, now: float) -> Mapping[str, DeviceTime]:
    """Machine time of all attempts of a run by engine, until now (unix seconds); empty where it is not known.

    What runs counts to its last line only while its engine cannot read it: then it waits for something.
    """
    times: dict[str, DeviceTime] = {}

    def add(engine: str, seconds: float, is_whole: bool = True) -> None:
        times[engine] = times.get(engine, DeviceTime()) + DeviceTime(seconds=seconds, is_whole=is_whole)

    for stay in run.earlier:
        add(stay.engine, stay.seconds)
    if run.untimed_attempts:
        add(run.engine, 0.0, is_whole=False)
    if run.attempt_seconds is not None:
        is_read = run.ended_at is not None or not run.waits
        goes_on = run.ended_at is None and is_read
        add(run.engine, max(run.attempt_seconds, now - run.started_at if goes_on else 0.0), is_read)
    return times


FEW = 40
"""Of each run where many are drawn together. Those of ended runs stay in memory (store/memory.py)."""


class Step(Protocol):
    """What of a step is drawn."""

    step: int
    loss: float
    learning_rate: float


class Point(NamedTuple):
    """A step in little memory."""

    step: int
    loss: float
    learning_rate: float


def thinned(steps: Sequence[Step], most: int) -> Sequence[Step]:
    """Choose at most so many of these steps: the first and the last, and of equal parts between them the lowest and the
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
    """Up to FEW steps of a run as numbers alone: a kilobyte."""

    numbers: array

    @classmethod
    def of(cls, steps: Sequence[Step]) -> "Few":
        return cls(array("d", (n for step in thinned(steps, FEW) for n in (step.step, step.loss, step.learning_rate))))

    def __iter__(self) -> Iterator[Point]:
        numbers = iter(self.numbers)
        for step, loss, learning_rate in zip(numbers, numbers, numbers, strict=True):
            yield Point(int(step), loss, learning_rate)
