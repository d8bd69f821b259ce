"""What a run took, part by part, read off its events."""

import pytest

from rankviz.core.cost.pace import Workload
from rankviz.core.runs.events import (
    AdapterCut,
    Evaluated,
    RunCompleted,
    RunFailed,
    RunStarted,
    StageReached,
    StepLogged,
)
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.times import FormulaTimes, RunTimes, times_of, timing_of
from tests.support.questions import run

HERE = Workload(base="a", parameters=1, kernels=(), tokens=1)


def evaluated(time, when, seconds, *, reused=False):
    return Evaluated(time=time, when=when, loss=1.0, tokens=100, examples=20, seconds=seconds, reused=reused)


def completed(time, train_seconds):
    return RunCompleted(
        time=time, train_seconds=train_seconds, peak_memory_bytes=1, peak_memory_kind="process resident"
    )


FIRST = (
    StageReached(time=100.0, stage="reading the data"),
    StageReached(time=103.0, stage="loading the base"),
    RunStarted(time=110.0, environment={}),
    StageReached(time=110.0, stage="attaching the adapter"),
    evaluated(115.0, "before", 4.0),
    evaluated(170.0, "after", 6.0),
    completed(171.0, 48.0),
)


def record(*events):
    return RunRecord(request=run()).after_all(events)


def test_the_first_run_of_a_sweep_loads_and_evaluates_twice():
    # 61 s from its start: 48 of training, 4 and 6 of evaluation, and 3 more
    assert RunTimes(load=10.0, training=48.0, evaluation_of_one=0.25, rest=3.0) == times_of(record(*FIRST))


def test_a_later_run_does_not_load_and_its_reused_evaluation_took_no_time():
    events = (
        RunStarted(time=200.0, environment={}),
        StageReached(time=200.0, stage="attaching the adapter"),
        evaluated(201.0, "before", 0.0, reused=True),
        evaluated(259.0, "after", 6.0),
        completed(260.0, 50.0),
    )

    assert RunTimes(load=None, training=50.0, evaluation_of_one=0.3, rest=4.0) == times_of(record(*events))


def test_what_the_first_step_took_longer_is_not_training():
    """Four steps: 30 s, then 6 s each. At 6 s a step they train for 24 s, and 24 more join the rest."""
    steps = (
        StepLogged(time=0, step=n, loss=1, learning_rate=0, tokens=n, seconds=24.0 + 6 * n, memory_bytes=1)
        for n in range(1, 5)
    )

    times = times_of(record(*FIRST[:-1], *steps, FIRST[-1]))

    assert (24.0, 3.0 + 24.0) == (times.training, times.rest)


def test_truncated_adapters_count_nowhere():
    cut = AdapterCut(time=170.5, r=2, loss=1.0, tokens=1, examples=1, seconds=2.0, example_losses=())

    assert 1.0 == times_of(record(*FIRST[:-1], cut, FIRST[-1])).rest


def test_a_run_that_has_not_completed_has_no_times():
    assert times_of(record(*FIRST[:-1])) is None
    assert times_of(record(*FIRST[:-1], RunFailed(time=171.0, error="killed"))) is None


def test_a_clock_that_was_set_back_measures_nothing():
    assert times_of(record(StageReached(time=999.0, stage="reading the data"), *FIRST[2:])).load is None


def test_as_evidence_each_part_stands_beside_what_the_formulas_expect():
    expected = FormulaTimes(load=40.0, training=24.0, evaluation_of_one=0.5)

    timing = timing_of(record(*FIRST), HERE, expected)

    assert {"load": 0.25, "training": 2.0, "evaluation": 0.5, "rest": 3.0} == pytest.approx(dict(timing.ratios))
    assert ("run", 171.0, HERE) == (timing.kind, timing.ended_at, timing.workload)
    assert timing_of(record(*FIRST[:-1]), HERE, expected) is None
