"""What a finished run took, part by part, from its events.

    load       = from the worker's first stage to the run's start; only the first run of a sweep loads the base
    training   = as the worker timed it, as if no step had compiled kernels: not the first, and no later one
    evaluation = of one held-out example: as after training, or over both evaluations where that is less; without
                 greedy answers, which are left out of all four
    rest       = attaching the adapter, tokenizing, building the trainer, compiling kernels, saving

A run of fewer than LEAST_LATER_STEPS steps after the first cannot tell its pace from its compilation, so its training
and its rest are not known. Truncated adapters of a fast curve are left out of all four: they are evaluated and partly
trained at once.

How much longer other programs made each part (core/cost/pace/slowdown.py) is known of runs on a CPU whose journal has
the processor time of their worker.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, median

from rankviz.core.cost.pace.paces import Timing
from rankviz.core.cost.pace.slowdown import Spell, slowdown
from rankviz.core.cost.pace.workload import Part, Workload
from rankviz.core.runs.attempts import LOCAL
from rankviz.core.runs.events import Evaluated, RunCompleted, StepLogged
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
    """None of a run that has not completed."""
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
    """On a GPU the processor's load hardly moves the time. Of what is left when training and evaluations are taken off
    the whole run, truncated adapters would have to be taken off too, but what they waited was not counted."""
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
    """At the pace of the steps that compiled nothing: a run of many steps would otherwise be announced from a short one
    with its compilation in each step. None of a run too short to tell."""
    usual = run.steps.usual_seconds if hasattr(run.steps, "usual_seconds") else usual_seconds(run.steps)
    return None if usual is None else min(run.completed.train_seconds, usual * run.steps[-1].step)


def usual_seconds(steps: Sequence[StepLogged]) -> float | None:
    """Of a step that compiled nothing; None of too few to tell. Steps that are left on the disk keep it in memory
    (store/memory/left_on_disk.py): it is needed of every run."""
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
    """Of its machine, when the run began; None where its journal does not say."""
    return _number(run, "load_average")


def _number(run: RunRecord, name: str) -> float | None:
    """Of its environment, which may be an imported one: None where it is no number above 0 or 0."""
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
