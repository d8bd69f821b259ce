"""Measured times of runs, and what they have cost so far."""

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
from rankviz.core.runs.run_time import device_time, timing_of
from tests.support.runs.questions import run

HERE = Workload(base="a", parameters=1, kernels=())


ASKED = RunRecord(request=run(run_id="r"))


def evaluated(time, when, seconds):
    return Evaluated(time=time, when=when, loss=1.0, tokens=100, examples=20, seconds=seconds)


def begun(at, attempt=1):
    return StageReached(time=at, stage="loading the base", attempt=attempt)


def stepped(at, number=1, attempt=1, seconds=1.0):
    fields = {"loss": 1.0, "learning_rate": 1e-3, "tokens": 1, "memory_bytes": 1}
    return StepLogged(time=at, step=number, seconds=seconds, attempt=attempt, **fields)


def done(at, attempt=1, train_seconds=1.0):
    peak = {"peak_memory_bytes": 1, "peak_memory_kind": "GPU allocated"}
    return RunCompleted(time=at, train_seconds=train_seconds, attempt=attempt, **peak)


FIRST = (
    StageReached(time=100.0, stage="reading the data"),
    begun(103.0),
    RunStarted(time=110.0, environment={}),
    evaluated(115.0, "before", 4.0),
    *(stepped(115.0 + 6 * n, n, seconds=6.0 * n) for n in range(1, 9)),
    evaluated(170.0, "after", 6.0),
    done(171.0, train_seconds=48.0),
)


def test_a_run_tells_its_pace_and_what_it_took_beside_training_and_evaluation():
    """61 s from its start: 48 of training, twice the formulas, and 40 evaluated rows at twice 0.1 s."""
    timing = timing_of(ASKED.after_all(FIRST), HERE, 24.0, 0.1)

    assert (2.0, pytest.approx(61 - 48 - 8)) == (timing.ratio, timing.rest)


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
