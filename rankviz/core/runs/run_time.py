"""Measured times of finished runs by part, and machine time and cost of runs so far."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite
from statistics import fmean, median
from typing import NamedTuple

from rankviz import units
from rankviz.core.cost.pace import Part, Spell, Timing, Workload, slowdown
from rankviz.core.runs.events import LOCAL, Evaluated, RunCompleted, StepLogged, median_seconds
from rankviz.core.runs.record import RunRecord

MIN_SECONDS = 1e-3
"""Shorter measured times are discarded: a clock may have been set back while the journal was written."""
LEAST_LATER_STEPS = 5
"""Fewest steps after the first for a mean step time. Steps of the shipped sweeps differ by up to 30 % (rows differ in
length), so the mean of five is within 13 %."""
Use = tuple[float, float, float]
"""Seconds of wall-clock time, of processor time and of waiting for a processor."""
COMPILED = 10.0
"""A step this many times longer than the median has compiled kernels again, for another shape."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FormulaTimes:
    """Seconds of a run by the formulas alone."""

    load: float
    training: float
    evaluation_of_one: float


def timing_of(run: RunRecord, workload: Workload, expected: FormulaTimes) -> Timing | None:
    """Return a completed run as evidence for the time of later runs: measured over expected seconds by part (for
    "rest": seconds); else None. Only steps that compiled no kernels count as training, or the compilation of a short
    run would be extrapolated to every step of a long run."""
    if run.completed is None or run.loaded_at is None or run.ended_at is None or expected.training <= 0:
        return None
    usual = run.steps.summary.usual_seconds if hasattr(run.steps, "summary") else usual_seconds(run.steps)
    training = None if usual is None else min(run.completed.train_seconds, usual * run.steps[-1].step)
    warm = _warm_evaluations(run)
    one = sum(each.seconds for each in warm) / sum(each.examples for each in warm) if warm else None
    load = _measured(run.loaded_at - run.load_began_at if run.load_began_at is not None else None)
    answering = sum(each.exact_match_seconds or 0.0 for each in _evaluations(run))
    answering += sum(each.seconds for each in (run.answered_before, run.answered_after) if each)
    spent = (training or 0.0) + (one or 0.0) * evaluated(run) + answering + sum(cut.seconds for cut in run.cuts)
    rest = _measured(run.ended_at - run.loaded_at - spent) if training is not None else None
    training, one = _measured(training), _measured(one)
    ratios: dict[Part, float | None] = {
        "load": load and load / expected.load,
        "training": training and training / expected.training,
        "evaluation": one and one / expected.evaluation_of_one,
        "rest": rest,
    }
    return Timing(
        source_id=run.run_id,
        kind="run",
        ended_at=run.ended_at,
        workload=workload,
        ratios={part: ratio for part, ratio in ratios.items() if ratio is not None},
        slowdowns={part: each for part, each in _slowdowns(run, load).items() if ratios[part] is not None},
        began_at=began_at(run),
        load_average=load_average_of(run),
        threads=spell_of(run).threads,
        is_here=run.engine in ("", LOCAL),
    )


def _slowdowns(run: RunRecord, load: float | None) -> dict[Part, float]:
    """Return by part how many times longer it took because of other programs, where known. Empty on a GPU, where this
    hardly matters. "rest" is the whole run without training and evaluations; it is left out for runs with truncated
    adapters, whose waiting was not counted."""
    if run.environment.get("device") != "cpu":
        return {}
    steps, whole = _use(run.steps[-1:]), _use([run.completed], run.ended_at - run.loaded_at)
    loading = tuple(_number(run, f"loading_{name}_cpu_seconds") for name in ("own", "waited"))
    parts = steps, _use(_evaluations(run))
    rest = None
    if whole is not None and None not in parts and not run.cuts:
        rest = tuple(max(0.0, total - sum(each)) for total, *each in zip(whole, *parts, strict=True))
    uses: dict[Part, Use | None] = {
        "load": (load, *loading) if load and None not in loading else None,
        "training": steps,
        "evaluation": _use(_warm_evaluations(run)),
        "rest": rest,
    }
    return {part: slowdown(*use) for part, use in uses.items() if use is not None}


def _use(events: Sequence[Evaluated | StepLogged | RunCompleted], seconds: float | None = None) -> Use | None:
    """Add up wall-clock (or `seconds`), own and waited seconds; None where an event does not have them."""
    uses = [(event.own_cpu_seconds, event.waited_cpu_seconds) for event in events]
    if not uses or any(None in use for use in uses):
        return None
    own, waited = (sum(each) for each in zip(*uses, strict=True))
    return sum(event.seconds for event in events) if seconds is None else seconds, own, waited


def usual_seconds(steps: Sequence[StepLogged]) -> float | None:
    """Return the mean seconds of steps after the first that compiled no kernels; None for too few steps."""
    later = [
        (after.seconds - before.seconds) / (after.step - before.step)
        for before, after in pairwise(steps)
        if after.step > before.step
    ]
    if len(later) < LEAST_LATER_STEPS:
        return None
    longest = COMPILED * median(later)
    return fmean(seconds for seconds in later if seconds <= longest)


def _warm_evaluations(run: RunRecord) -> list[Evaluated]:
    """Return both evaluations, or only the last one where it was faster, since the first one compiles kernels."""
    every = [each for each in _evaluations(run) if each.examples]
    if not every:
        return []
    return min(every, every[-1:], key=lambda some: sum(e.seconds for e in some) / sum(e.examples for e in some))


def evaluated(run: RunRecord) -> int:
    """Return the number of held-out examples evaluated by this run itself, counting an example each time."""
    return sum(each.examples for each in _evaluations(run))


def _evaluations(run: RunRecord) -> list[Evaluated]:
    return [each for each in (run.loss_before, run.loss_after) if each and not each.reused]


def load_average_of(run: RunRecord) -> float | None:
    """Return the machine's load average when the run began; None where the journal does not have it."""
    return _number(run, "load_average")


def _number(run: RunRecord, name: str) -> float | None:
    value = run.environment.get(name)  # which may be an imported one
    return float(value) if isinstance(value, int | float) and 0 <= value < inf else None


def began_at(run: RunRecord) -> float | None:
    """Return the unix seconds at which the worker began to load the base, or else began the run; None before that."""
    return run.load_began_at or run.loaded_at


def spell_of(run: RunRecord, now: float | None = None) -> Spell | None:
    """Return the period in which the run's worker was busy, and its number of threads; None before it began. now: end
    of the period where the run has not ended."""
    if (began := began_at(run)) is None:
        return None
    threads = cpus = run.environment.get("cpu_count") or 1
    took = run.ended_at - run.loaded_at if run.ended_at and run.loaded_at else 0.0
    if run.completed and took > 0 and (use := _use([run.completed], 1.0)):
        threads = (use[1] + use[2]) / took
    return Spell(began_at=began, ended_at=run.ended_at or now or began, threads=min(cpus, threads))


def _measured(seconds: float | None) -> float | None:
    return seconds if seconds is not None and seconds >= MIN_SECONDS else None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceTime:
    """Machine time of one run or several runs."""

    seconds: float = 0.0
    is_whole: bool = True
    """False where an unknown time has to be added."""

    @property
    def in_words(self) -> str:
        """ "18 min", "at least 18 min" or "not known"; empty where nothing has begun."""
        if not self.seconds:
            return "" if self.is_whole else units.NOT_KNOWN
        return f"{'' if self.is_whole else 'at least '}{units.duration(self.seconds)}"

    def __add__(self, other: "DeviceTime") -> "DeviceTime":
        return DeviceTime(seconds=self.seconds + other.seconds, is_whole=self.is_whole and other.is_whole)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rent:
    """Cost of the machines that a sweep rents from Hugging Face."""

    usd: float | None
    is_whole: bool
    """False where an unknown cost has to be added."""
    limit_usd: float | None
    """Most that all jobs of the sweep can cost, over all payers; None where it has no limit any more."""

    @property
    def in_words(self) -> str:
        """ "$0.40 of at most $5.00"; empty where the cost is not known."""
        if self.usd is None or not (self.usd or self.is_whole):
            return ""
        most = f" of at most {units.usd(self.limit_usd)}" if self.limit_usd else ""
        return f"{'' if self.is_whole else 'at least '}{units.usd(self.usd)}{most}"


def device_time(runs: Iterable[RunRecord], now: float) -> DeviceTime:
    """Return the machine time of all attempts of these runs. now: unix seconds."""
    return sum((time for run in runs for time in times_by_engine(run, now).values()), DeviceTime())


def times_by_engine(run: RunRecord, now: float) -> Mapping[str, DeviceTime]:
    """Return the machine time of all attempts of a run by engine; empty where nothing has begun. A running attempt
    counts until now (unix seconds), but only until its last event while its engine cannot read it."""
    times = {engine: DeviceTime(seconds=seconds) for engine, seconds in run.earlier_seconds.items()}
    if run.attempt_seconds is not None:
        is_read = run.ended_at is not None or not run.waits
        until_now = now - run.started_at if run.ended_at is None and is_read else 0.0
        current = DeviceTime(seconds=max(run.attempt_seconds, until_now), is_whole=is_read)
        times[run.engine] = times.get(run.engine, DeviceTime()) + current
    return times


FEW = 40
"""Number of steps of each run where many runs are drawn together."""


class Point(NamedTuple):
    """One step as it is drawn."""

    step: int
    loss: float
    learning_rate: float


class StepSummary(NamedTuple):
    """Summary of an ended run's steps for tables, estimates and charts; the steps themselves stay on disk."""

    first: StepLogged
    last: StepLogged
    median_seconds: float | None
    usual_seconds: float | None
    few: tuple[Point, ...]

    @classmethod
    def of(cls, steps: Sequence[StepLogged]) -> "StepSummary":
        few = tuple(Point(each.step, each.loss, each.learning_rate) for each in thinned(steps, FEW))
        return cls(steps[0], steps[-1], median_seconds(steps), usual_seconds(steps), few)


def thinned(steps: Sequence[StepLogged], most: int) -> Sequence[StepLogged | Point]:
    """Return at most `most` (4 or more) steps: first, last, and the lowest and highest loss of equal parts between."""
    if most == FEW and hasattr(steps, "summary"):
        return steps.summary.few
    if len(steps) <= most:
        return steps
    first, *between, last = steps
    parts = (most - 2) // 2
    chosen = [first]
    for part in range(parts):
        some = between[part * len(between) // parts : (part + 1) * len(between) // parts]
        known = sorted((step for step in some if isfinite(step.loss)), key=lambda step: step.loss)
        ends = {known[0].step, known[-1].step} if known else {some[0].step}
        chosen += [step for step in some if step.step in ends]
    return [*chosen, last]
