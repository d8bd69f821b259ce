"""How far a sweep is and how long it still takes, on made-up journals; how good announced times have been."""

import re
from itertools import count
from pathlib import Path

import pytest

from rankviz.api import Api
from rankviz.core.quantity import Range
from rankviz.core.runs.events import AdapterCut, RunCompleted, RunStarted, StageReached, StepLogged
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.sweep_time import SweepTime, progress_of
from rankviz.paths import ASSETS
from tests.support.runs import questions

TIME = SweepTime(**{part: Range(60.0, 60.0, 60.0) for part in ("load", "training", "other", "longest_run")})
"""Of a whole sweep: 180 s, 60 of them neither loading nor training."""


def step(number, seconds, time):
    return StepLogged(time=time, step=number, loss=1.0, learning_rate=1e-4, tokens=100, seconds=seconds, memory_bytes=1)


IDS = map(str, count())


def record(*events, **settings):
    return RunRecord(request=questions.run(**{"max_steps": 40, "run_id": next(IDS), **settings})).after_all(events)


def training(at, *, done=10, pace=2.0, **settings):
    """A run that has trained so many of its 40 steps, at this pace."""
    steps = [step(1, pace, at + 1 + pace), step(done, done * pace, at + 1 + done * pace)]
    return record(RunStarted(time=at, environment={}), StageReached(time=at + 1, stage="training"), *steps, **settings)


def done(at):
    completed = RunCompleted(time=at + 130, train_seconds=120.0, peak_memory_bytes=1, peak_memory_kind="x")
    return training(at, done=40, pace=3.0).after(completed)


def far(*runs, now, time=TIME):
    return progress_of(Sweep(sweep_id="s", runs=runs), now, time)


QUEUED = record()


def test_each_step_left_takes_as_long_as_those_so_far_and_the_rest_of_a_run_as_estimated():
    left = far(done(0.0), training(200.0), QUEUED, now=221.0).seconds_left

    # of three runs, 20 s each are not training; the queued one has the middle of the two paces, 3 and 2
    assert (30 * 2 + 20) + (40 * 2.5 + 20) == pytest.approx(left)
    assert 30 * 2 + 40 * 2.5 == pytest.approx(
        far(done(0.0), training(200.0), QUEUED, now=221.0, time=None).seconds_left
    )


def test_before_the_second_step_the_estimate_of_the_sweep_runs_down_and_without_one_nothing_is_known():
    loading = record(StageReached(time=100.0, stage="loading the base"))

    assert 180.0 - 30 == far(loading, QUEUED, now=130.0).seconds_left
    assert 1.0 == far(loading, QUEUED, now=1000.0).seconds_left
    assert "not known" == far(loading, QUEUED, now=130.0, time=None).left_in_words
    assert (None, "") == (far(QUEUED, now=1.0).seconds_left, far(QUEUED, now=1.0).sentence)


def test_after_its_last_step_a_run_takes_the_rest_and_the_recovery_of_ranks_to_come():
    evaluating = training(0.0, done=40)
    truncating = training(0.0, done=40, r=64, cut_ranks=(8, 4))
    later = truncating.after(AdapterCut(time=90.0, r=4, loss=1.0, tokens=1, examples=1, seconds=1.0, example_losses=()))

    assert 60 - 9 == pytest.approx(far(evaluating, now=90.0).seconds_left)
    assert 2 * 2 + 60 - 9 == pytest.approx(far(truncating, now=90.0).seconds_left)  # two steps at r = 4, none at r = 8
    assert 60 - 9 == pytest.approx(far(later, now=90.0).seconds_left)


def test_of_a_sweep_that_several_workers_train_the_work_that_is_left_is_divided_among_them():
    running = [training(200.0) for _ in range(4)]

    progress = far(done(10.0), *running, *[QUEUED] * 6, now=221.0, time=None)

    work = 4 * 60 + 6 * 80
    assert work / 4 == pytest.approx(progress.seconds_left)
    spent = 130 + 4 * 21
    assert spent / (spent + work) == pytest.approx(progress.share)


def test_of_the_shipped_sweeps_four_in_five_runs_after_three_like_ones_are_inside_a_range_of_twice_its_low_end():
    """The figures of docs/method.md."""
    api = Api(home=ASSETS / "recorded")
    runs = [run for run in api.workspace.store.records() if run.completed]
    estimates = zip(runs, api.runs.expected_runs(runs), strict=True)
    like = [(run, each) for run, each in estimates if each and each.timed_in_words == "from 3 finished runs here"]

    inside = sum(each.seconds.holds(run.completed.train_seconds) for run, each in like)
    assert inside >= 0.8 * len(like)
    assert max(each.seconds.high / each.seconds.low for _, each in like) <= 2
    prose = " ".join((Path(__file__).parents[3] / "docs" / "method.md").read_text("utf-8").split())
    figures = re.search(r"(\d+) runs came after three like ones, and (\d+) of them \((\d+) %\) were inside", prose)
    assert (len(like), inside, round(100 * inside / len(like))) == tuple(map(int, figures.groups()))
