"""What a finished run took, part by part, from its events.

    load       = from the worker's first stage to the run's start; only the first run of a sweep loads the base
    training   = as the worker timed it, as if the first step had taken no longer than the others
    evaluation = of one held-out example, over the run's evaluations of the base and the adapter
    rest       = attaching the adapter, building the trainer, what the first step took longer, saving

Truncated adapters of a fast curve are left out of all four: they are evaluated and partly trained at once.
"""

from dataclasses import dataclass

from rankviz.core.cost.pace import Part, Timing, Workload
from rankviz.core.runs.events import Evaluated
from rankviz.core.runs.record import RunRecord

MIN_SECONDS = 1e-3
"""Less was not measured: clocks of a journal may be set back meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTimes:
    """Seconds; None is not known."""

    load: float | None
    training: float
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
    evaluation = sum(each.seconds for each in _evaluations(run))
    spent = training + evaluation + sum(cut.seconds for cut in run.cuts)
    return RunTimes(
        load=_measured(run.loaded_at - run.load_began_at if run.load_began_at is not None else None),
        training=training,
        evaluation_of_one=_measured(evaluation / examples if examples else None),
        rest=_measured(run.ended_at - run.loaded_at - spent),
    )


def _training_seconds(run: RunRecord) -> float:
    """At the pace of the steps after the first, which compiles kernels where there are any to compile: a run of many
    steps would otherwise be foretold from a short one with its first step in each."""
    total = run.completed.train_seconds
    if len(run.steps) < 2:
        return total
    first, last = run.steps[0], run.steps[-1]
    step = (last.seconds - first.seconds) / (last.step - first.step) if last.step > first.step else total
    return min(total, step * last.step)


def evaluated(run: RunRecord) -> int:
    """Held-out examples that the run evaluated itself, each time counted."""
    return sum(each.examples for each in _evaluations(run))


def _evaluations(run: RunRecord) -> list[Evaluated]:
    return [each for each in (run.loss_before, run.loss_after) if each and not each.reused]


def timing_of(run: RunRecord, workload: Workload, expected: FormulaTimes) -> Timing | None:
    """The run as evidence for the next one; None where it has no times."""
    times = times_of(run)
    if times is None or times.training < MIN_SECONDS or expected.training <= 0:
        return None
    ratios: dict[Part, float | None] = {
        "load": times.load and times.load / expected.load,
        "training": times.training / expected.training,
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
