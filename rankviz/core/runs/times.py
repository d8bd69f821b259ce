"""What a finished run took, part by part, from its events.

    load       = from the worker's first stage to the run's start; only the first run of a sweep loads the base
    training   = as the worker timed it, as if no step had compiled kernels: not the first, and no later one
    evaluation = of one held-out example: as after training, or over both evaluations where that is less; without
                 greedy answers, which are left out of all four
    rest       = attaching the adapter, building the trainer, compiling kernels, saving

A run of fewer than LEAST_LATER_STEPS steps after the first cannot tell its pace from its compilation, so its training
and its rest are not known. Truncated adapters of a fast curve are left out of all four: they are evaluated and partly
trained at once.
"""

from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from rankviz.core.cost.pace import Part, Timing, Workload
from rankviz.core.runs.events import Evaluated
from rankviz.core.runs.record import RunRecord

MIN_SECONDS = 1e-3
"""Less was not measured: clocks of a journal may be set back meanwhile."""
LEAST_LATER_STEPS = 5
"""Steps of the shipped sweeps differ by up to 30 % (rows differ in length), so the mean of five is within 13 %."""
COMPILED = 10.0
"""A step that takes so many times the median of the later steps has compiled kernels again, for another shape."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTimes:
    """Seconds; None is not known."""

    load: float | None
    training: float | None
    evaluation_of_one: float | None
    rest: float | None


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
    spent = (training or 0.0) + (one or 0.0) * examples + answering + sum(cut.seconds for cut in run.cuts)
    return RunTimes(
        load=_measured(run.loaded_at - run.load_began_at if run.load_began_at is not None else None),
        training=training,
        evaluation_of_one=_measured(one),
        rest=_measured(run.ended_at - run.loaded_at - spent) if training is not None else None,
    )


def _training_seconds(run: RunRecord) -> float | None:
    """At the pace of the steps that compiled nothing: a run of many steps would otherwise be announced from a short one
    with its compilation in each step. None of a run too short to tell."""
    later = [
        (after.seconds - before.seconds) / (after.step - before.step)
        for before, after in pairwise(run.steps)
        if after.step > before.step
    ]
    if len(later) < LEAST_LATER_STEPS:
        return None
    usual = [seconds for seconds in later if seconds <= COMPILED * median(later)]
    return min(run.completed.train_seconds, fmean(usual) * run.steps[-1].step)


def _seconds_of_one_example(run: RunRecord) -> float | None:
    """The evaluation before training compiles kernels too; the one after it does not."""
    if not (examples := evaluated(run)):
        return None
    over_all = sum(each.seconds for each in _evaluations(run)) / examples
    after = run.loss_after
    return min(over_all, after.seconds / after.examples) if after and not after.reused and after.examples else over_all


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
    )


def _measured(seconds: float | None) -> float | None:
    return seconds if seconds is not None and seconds >= MIN_SECONDS else None
