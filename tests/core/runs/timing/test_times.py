"""What a run took, part by part, read off its events."""

from dataclasses import replace
from itertools import accumulate

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
from rankviz.core.runs.run_time import FormulaTimes, RunTimes, load_average_of, times_of, timing_of
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
    assert RunTimes(load=10.0, training=48.0, evaluation_of_one=0.25, rest=3.0) == times_of(record(*FIRST))


def test_a_later_run_does_not_load_and_its_reused_evaluation_took_no_time():
    events = (
        RunStarted(time=200.0, environment={}),
        StageReached(time=200.0, stage="attaching the adapter"),
        evaluated(201.0, "before", 0.0, reused=True),
        *STEPS,
        evaluated(259.0, "after", 6.0),
        completed(260.0, 50.0),
    )

    # 60 s from its start: eight steps of 6 s, 6 of evaluation, and 6 more
    assert RunTimes(load=None, training=48.0, evaluation_of_one=0.3, rest=6.0) == times_of(record(*events))


def test_what_the_first_step_took_longer_is_not_training():
    """Six steps: 18 s, then 6 s each. At 6 s a step they train for 36 s, and 12 more join the rest."""
    times = times_of(record(*NO_STEPS[:-1], *steps(18, 6, 6, 6, 6, 6), NO_STEPS[-1]))

    assert (36.0, 3.0 + 12.0) == (times.training, times.rest)


def test_a_later_step_that_compiles_again_for_another_shape_is_not_training_either():
    """Eight steps of 1 s, but the first takes 20 s and the third 21."""
    times = times_of(record(*NO_STEPS[:-1], *steps(20, 1, 21, 1, 1, 1, 1, 1), NO_STEPS[-1]))

    assert (8.0, 3.0 + 40.0) == (times.training, times.rest)


@pytest.mark.parametrize("later", [0, 1, 4])
def test_a_run_too_short_to_tell_its_pace_from_its_first_step_says_nothing_of_training(later):
    run = record(*NO_STEPS[:-1], *steps(30.0, *[0.5] * later), NO_STEPS[-1])

    assert (None, None) == (times_of(run).training, times_of(run).rest)
    expected = FormulaTimes(load=40.0, training=24.0, evaluation_of_one=0.5)
    assert {"load": 0.25, "evaluation": 0.5} == pytest.approx(dict(timing_of(run, HERE, expected).ratios))


def test_what_the_evaluation_before_training_took_longer_is_not_evaluation():
    """20 examples each: 24 s with compilation, then 2 s. So one takes 0.1 s, and 22 s more join the rest."""
    slow = [evaluated(115.0, "before", 24.0), *STEPS, evaluated(170.0, "after", 2.0)]
    times = times_of(record(*FIRST[:4], *slow, FIRST[-1]))

    assert (0.1, 61 - 48 - 4.0) == (times.evaluation_of_one, times.rest)


def test_truncated_adapters_count_nowhere():
    cut = AdapterCut(time=170.5, r=2, loss=1.0, tokens=1, examples=1, seconds=2.0, example_losses=())

    assert 1.0 == times_of(record(*FIRST[:-1], cut, FIRST[-1])).rest


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
    slowdowns = times_of(record(*BUSY)).slowdowns

    assert {"load": 10 / 8, "training": 3.0, "evaluation": 20 / 12, "rest": 2.0} == pytest.approx(dict(slowdowns))


def test_it_is_not_known_of_a_run_on_a_gpu_of_an_old_journal_or_where_the_system_does_not_count():
    gpu = (BUSY[0], replace(BUSY[1], environment={**BUSY[1].environment, "device": "cuda"}), *BUSY[2:])
    uncounted = [replace(each, waited_cpu_seconds=None) if isinstance(each, StepLogged) else each for each in BUSY]

    assert {} == times_of(record(*gpu)).slowdowns
    assert {} == times_of(record(*FIRST)).slowdowns
    assert {"load", "evaluation"} == times_of(record(*uncounted)).slowdowns.keys()


@pytest.mark.parametrize("nonsense", ["much", -1.0, float("nan"), float("inf"), None, [1.0]])
def test_an_imported_journal_with_nonsense_for_a_load_says_nothing(nonsense):
    environment = {**BUSY[1].environment, "load_average": nonsense, "loading_waited_cpu_seconds": nonsense}
    run = record(BUSY[0], replace(BUSY[1], environment=environment), *BUSY[2:])

    assert load_average_of(run) is None
    assert "load" not in times_of(run).slowdowns


def test_a_timing_says_when_it_began_and_how_busy_the_machine_was_then():
    timing = timing_of(record(*BUSY), HERE, FormulaTimes(load=40.0, training=24.0, evaluation_of_one=0.5))

    assert (103.0, 1.5) == (timing.began_at, timing.load_average)
    assert {"load", "training", "evaluation", "rest"} == timing.slowdowns.keys()
    # (45 + 73) / 60 s of its own on average
    assert 118 / 60 == pytest.approx(timing.threads)


def test_greedy_answers_count_nowhere():
    """Of the seconds that belong to no part, two are answers."""
    answered = replace(FIRST[-2], exact_match_seconds=2.0)
    before, after = times_of(record(*FIRST)), times_of(record(*FIRST[:-2], answered, FIRST[-1]))

    assert (before.evaluation_of_one, before.rest - 2.0) == (after.evaluation_of_one, pytest.approx(after.rest))


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
