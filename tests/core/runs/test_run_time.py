"""Measured times of a run, part by part, and what runs have cost so far."""

from dataclasses import replace
from itertools import accumulate

import pytest

from rankviz.core.cost.pace import Workload
from rankviz.core.runs.events import (
    AttemptPlaced,
    Evaluated,
    RunCompleted,
    RunRequeued,
    RunStarted,
    StageReached,
    StepLogged,
)
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.run_time import FormulaTimes, device_time, load_average_of, times_by_engine, timing_of
from tests.support.runs import questions
from tests.support.runs.questions import run

HERE = Workload(base="a", parameters=1, kernels=(), tokens=1)


def evaluated(time, when, seconds, *, reused=False):
    return Evaluated(time=time, when=when, loss=1.0, tokens=100, examples=20, seconds=seconds, reused=reused)


def completed(time, train_seconds):
    return RunCompleted(
        time=time, train_seconds=train_seconds, peak_memory_bytes=1, peak_memory_kind="process resident"
    )


STEPS = [
    StepLogged(time=0, step=n, loss=1, learning_rate=0, tokens=n, seconds=6.0 * n, memory_bytes=1) for n in range(1, 9)
]
"""Eight of 6 s each."""


FIRST = (
    StageReached(time=100.0, stage="reading the data"),
    StageReached(time=103.0, stage="loading the base"),
    RunStarted(time=110.0, environment={}),
    StageReached(time=110.0, stage="attaching the adapter"),
    evaluated(115.0, "before", 4.0),
    *STEPS,
    evaluated(170.0, "after", 6.0),
    completed(171.0, 48.0),
)


NO_STEPS = tuple(event for event in FIRST if not isinstance(event, StepLogged))


ONE = FormulaTimes(load=1.0, training=1.0, evaluation_of_one=1.0)


def times_of(*events):
    """Seconds by part."""
    return dict(timing_of(record(*events), HERE, ONE).ratios)


def record(*events):
    return RunRecord(request=run()).after_all(events)


def steps(*seconds):
    """One step after another, each of these many seconds."""
    return [
        StepLogged(time=0, step=n, loss=1, learning_rate=0, tokens=n, seconds=total, memory_bytes=1)
        for n, total in enumerate(accumulate(seconds), 1)
    ]


def test_the_first_run_of_a_sweep_loads_and_evaluates_twice():
    # 61 s from its start: 48 of training, 4 and 6 of evaluation, and 3 more
    assert {"load": 10.0, "training": 48.0, "evaluation": 0.25, "rest": 3.0} == times_of(*FIRST)


@pytest.mark.parametrize("later", [0, 1, 4])
def test_a_run_too_short_to_tell_its_pace_from_its_first_step_says_nothing_of_training(later):
    run = record(*NO_STEPS[:-1], *steps(30.0, *[0.5] * later), NO_STEPS[-1])

    expected = FormulaTimes(load=40.0, training=24.0, evaluation_of_one=0.5)
    assert {"load": 0.25, "evaluation": 0.5} == pytest.approx(dict(timing_of(run, HERE, expected).ratios))


def test_what_the_evaluation_before_training_took_longer_is_not_evaluation():
    """20 examples each: 24 s with compilation, then 2 s. So one takes 0.1 s, and 22 s more join the rest."""
    slow = [evaluated(115.0, "before", 24.0), *STEPS, evaluated(170.0, "after", 2.0)]
    times = times_of(*FIRST[:4], *slow, FIRST[-1])

    assert (0.1, 61 - 48 - 4.0) == (times["evaluation"], times["rest"])


BUSY = (
    StageReached(time=103.0, stage="loading the base"),
    RunStarted(
        time=113.0,
        environment={
            "device": "cpu",
            "cpu_count": 2,
            "load_average": 1.5,
            "loading_own_cpu_seconds": 8.0,
            "loading_waited_cpu_seconds": 2.0,
        },
    ),
    replace(evaluated(115.0, "before", 4.0), own_cpu_seconds=8.0, waited_cpu_seconds=0.0),
    *(replace(step, own_cpu_seconds=4.0 * step.step, waited_cpu_seconds=8.0 * step.step) for step in STEPS),
    replace(evaluated(170.0, "after", 6.0), own_cpu_seconds=4.0, waited_cpu_seconds=8.0),
    replace(completed(173.0, 48.0), own_cpu_seconds=32.0 + 12.0 + 1.0, waited_cpu_seconds=64.0 + 8.0 + 1.0),
)
"""Loading waited 2 of 10 s on one thread; training had a third of two processors, the evaluations 12 of 20 s of them;
the remaining 2 s were one thread's, half of them waited."""


def test_how_much_longer_others_made_each_part_is_what_its_threads_waited():
    slowdowns = timing_of(record(*BUSY), HERE, ONE).slowdowns

    assert {"load": 10 / 8, "training": 3.0, "evaluation": 20 / 12, "rest": 2.0} == pytest.approx(dict(slowdowns))


@pytest.mark.parametrize("nonsense", ["much", -1.0, float("nan"), float("inf"), None, [1.0]])
def test_an_imported_journal_with_nonsense_for_a_load_says_nothing(nonsense):
    environment = {**BUSY[1].environment, "load_average": nonsense, "loading_waited_cpu_seconds": nonsense}
    run = record(BUSY[0], replace(BUSY[1], environment=environment), *BUSY[2:])

    assert load_average_of(run) is None
    assert "load" not in timing_of(run, HERE, ONE).slowdowns


ASKED = RunRecord(request=questions.run(run_id="r"))


def begun(at, attempt=1):
    return StageReached(time=at, stage="loading the base", attempt=attempt)


def stepped(at, number=1, attempt=1):
    return StepLogged(
        time=at, step=number, loss=1.0, learning_rate=1e-3, tokens=1, seconds=1.0, memory_bytes=1, attempt=attempt
    )


def done(at, attempt=1):
    kind = "GPU allocated"
    return RunCompleted(time=at, train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind=kind, attempt=attempt)


def placed(attempt=1, **fields):
    return AttemptPlaced(time=0.0, attempt=attempt, engine="local", **fields)


def spent(*events, now=1000.0):
    return device_time([ASKED.after_all(events)], now)


def test_a_lost_attempt_counts_to_its_last_line_since_nobody_saw_its_end():
    lost = RunRequeued(time=90_000.0, attempt=1, lost="The machine stopped.")

    queued = spent(begun(100.0), stepped(120.0), lost)
    again = spent(begun(100.0), stepped(120.0), lost, begun(90_100.0, 2), done(90_130.0, 2))

    assert (20.0, 50.0) == (queued.seconds, again.seconds)


def test_a_run_that_its_engine_cannot_read_counts_to_its_last_line_and_says_that_it_may_be_more():
    time = spent(begun(100.0), stepped(160.0), placed(waits="It waits for its owner's login."))

    assert (60.0, False, "at least 60 s") == (time.seconds, time.is_whole, time.in_words)


def test_the_time_of_a_run_that_moved_is_told_by_engine():
    gone = RunRequeued(time=100.0, attempt=1, lost="The node has gone.")
    there = [AttemptPlaced(time=1.0, attempt=1, engine="ray", where="node-1"), begun(10.0), stepped(34.0), gone]
    run = ASKED.after_all([*there, placed(2), begun(200.0, 2), done(262.0, 2)])

    assert {"ray": 24.0, "local": 62.0} == {name: time.seconds for name, time in times_by_engine(run, 1000.0).items()}
    assert {"": 900.0} == {name: time.seconds for name, time in times_by_engine(ASKED.after(begun(100.0)), 1e3).items()}
