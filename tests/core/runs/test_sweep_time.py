"""How far a sweep is and how long it still takes; and announced times of finished runs."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.run_times import Finished, coverage, of_home, replay
from rankviz.core.cost.pace import Difference, Timing, Workload
from rankviz.core.runs.events import RunCompleted, RunStarted, StageProgressed, StageReached, StepLogged
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.run_time import FormulaTimes
from rankviz.core.runs.sweep_time import progress_of
from rankviz.paths import ASSETS
from tests.support.runs import questions
from tests.support.runs.toy import ASSUMPTIONS


def reached(time, stage):
    return StageReached(time=time, stage=stage)


def progressed(time, done, total=None, unit="examples"):
    return StageProgressed(time=time, done=done, total=total, unit=unit)


def step(number, seconds, time):
    return StepLogged(time=time, step=number, loss=1.0, learning_rate=1e-4, tokens=100, seconds=seconds, memory_bytes=1)


def loading(at=0.0):
    """20 s: import 12, load 5, the rest 1 each. Then the run starts and attaches for 1 s."""
    return [
        reached(at, "reading the data"),
        reached(at + 1, "getting the base"),
        reached(at + 2, "importing Unsloth"),
        reached(at + 14, "loading the base"),
        reached(at + 19, "tokenizing the data"),
        RunStarted(time=at + 20, environment={}),
        reached(at + 20, "attaching the adapter"),
    ]


def trained(at, *, first=True):
    """From the base's evaluation (10 s) or from training on: 40 steps of 3 s, evaluation 8 s, saving 2 s."""
    before = [reached(at, "evaluating the base")] if first else []
    at += 10.0 * first
    return [
        *before,
        reached(at, "preparing the training rows"),
        reached(at, "training"),
        step(1, 3.0, at + 3),
        step(40, 120.0, at + 120),
        reached(at + 120, "evaluating the adapter"),
        reached(at + 128, "saving the adapter"),
        RunCompleted(time=at + 130, train_seconds=120.0, peak_memory_bytes=1, peak_memory_kind="x"),
    ]


def record(*events, **settings):
    return RunRecord(request=questions.run(**{"max_steps": 40, **settings})).after_all(events)


def sweep(*runs):
    return Sweep(sweep_id="s", runs=runs)


DONE = record(*loading(), *trained(21.0))
"""Ends at 161 s."""


LATER = record(
    RunStarted(time=161.0, environment={}), reached(161.0, "attaching the adapter"), *trained(162.0, first=False)
)


QUEUED = record()


EARLIER = replace(DONE, request=replace(DONE.request, sweep_id="earlier"))


def test_training_goes_on_at_its_pace_and_what_comes_after_takes_as_long_as_in_other_runs():
    training = record(
        RunStarted(time=200.0, environment={}),
        reached(200.0, "attaching the adapter"),
        reached(201.0, "training"),
        step(1, 2.0, 203.0),
        step(10, 20.0, 221.0),
    )

    left = progress_of(sweep(DONE, training, QUEUED), 221.0).seconds_left

    # 30 steps of 2 s, evaluating 8, saving 2; then the queued run: attaching 1, 40 steps of 2.5 (the middle of the two
    # paces, 3 and 2), evaluating 8, saving 2.
    assert 30 * 2 + 8 + 2 + 1 + 40 * 2.5 + 8 + 2 == pytest.approx(left)


def test_an_earlier_run_of_another_base_says_only_how_long_the_import_takes():
    other = replace(EARLIER, request=replace(EARLIER.request, base="another"))
    importing = record(*loading()[:3])

    later = replace(LATER, request=EARLIER.request)  # had its base loaded by an earlier run

    assert progress_of(sweep(importing), 5.0, [other, later]).seconds_left is None
    assert 9 + 7 + 10 + 120 + 8 + 2 == pytest.approx(progress_of(sweep(importing), 5.0, [EARLIER, later]).seconds_left)


def test_a_download_interrupts_loading_which_then_goes_on():
    downloading = [*loading()[:4], reached(15.0, "downloading the base"), progressed(20.0, 50, 200, "bytes")]

    left = progress_of(sweep(record(*downloading)), 20.0, [EARLIER]).seconds_left
    again = progress_of(sweep(record(*downloading, reached(35.0, "loading the base"))), 36.0, [EARLIER]).seconds_left

    # 15 s of download; then loading 5, tokenizing 1, attaching 1 and the run
    assert 15 + 5 + 2 + 10 + 120 + 8 + 2 == pytest.approx(left)
    assert 4 + 2 + 10 + 120 + 8 + 2 == pytest.approx(again)


def test_truncating_takes_an_evaluation_and_its_recovery_steps():
    run = record(*loading(), *trained(21.0)[:-1], reached(161.0, "decomposing the adapter"), r=64, cut_ranks=(8, 4))

    # nothing is known of decomposing; r = 8 is evaluated (8), r = 4 is trained 2 steps (of 3 s) and evaluated
    assert 8 + 2 * 3 + 8 == pytest.approx(progress_of(sweep(run), 162.0).seconds_left)

    truncated = [reached(163.0, "truncating to r = 8"), reached(172.0, "truncating to r = 4")]
    later = replace(run.after_all(truncated), request=run.request)

    assert 2 * 3 + 8 - 5 == pytest.approx(progress_of(sweep(later), 177.0).seconds_left)


def running_since(at):
    """Training for 20 s, 10 of its 40 steps."""
    return record(
        RunStarted(time=at, environment={}),
        reached(at, "attaching the adapter"),
        reached(at + 1, "training"),
        step(1, 2.0, at + 3),
        step(10, 20.0, at + 21),
    )


def test_of_a_sweep_that_several_workers_train_the_work_that_is_left_is_divided_among_them():
    """Of each running: 30 steps of 2 s, evaluating 8, saving 2; of each that waits: attaching 1, 40 steps of the middle
    pace, 10."""
    runs = [running_since(200.0) for _ in range(4)]

    alone = progress_of(sweep(DONE, runs[0], *[QUEUED] * 6), 221.0)
    together = progress_of(sweep(DONE, *runs, *[QUEUED] * 6), 221.0)

    one_to_come = 1 + 40 * 2.5 + 10
    assert 70 + 6 * one_to_come == pytest.approx(alone.seconds_left)
    one_to_come = 1 + 40 * 2 + 10
    assert (4 * 70 + 6 * one_to_come) / 4 == pytest.approx(together.seconds_left)
    spent = DONE.ended_at - DONE.started_at + 4 * 21
    assert spent / (spent + 4 * 70 + 6 * one_to_come) == pytest.approx(together.share)


ROOT = Path(__file__).parents[3]


HERE = Workload(base="a", parameters=10**8, kernels=("unsloth", "fp32"), data="phonemes", tokens=128)


def run(ended_at, training=1.0, workload=HERE, **parts):
    """Expected: load 40 s, training 100 s, 20 examples of 0.5 s."""
    timing = Timing(
        source_id=f"run-{ended_at}",
        kind="run",
        ended_at=ended_at,
        workload=workload,
        ratios={"training": training, "evaluation": 2.0, "rest": 3.0, **parts},
    )
    return Finished(
        timing=timing, expected=FormulaTimes(load=40.0, training=100.0, evaluation_of_one=0.5), evaluated=20
    )


FROM_LATER = "20261126"
"""Recorded runs from this day on had no part in the choice of the width."""


@pytest.mark.parametrize(("later", "at_most"), [(False, 2.0), (True, 2.1)])
def test_of_the_shipped_sweeps_four_in_five_runs_are_inside_a_range_of_about_twice_its_low_end(later, at_most):
    """The figures of docs/method.md."""
    announced = [each for each in replay(of_home(ASSETS / "recorded"), ASSUMPTIONS) if each.sources >= 3]
    alike = [each for each in announced if each.differs is Difference.NONE]
    like = coverage([each for each in alike if later == (each.finished.timing.source_id >= FROM_LATER)])

    assert like.inside >= 0.8 * like.runs
    assert like.widest <= at_most
    prose = " ".join((ROOT / "docs" / "method.md").read_text("utf-8").split())
    figures = re.findall(
        r"had (\d+) runs after three like ones: (\d+) of them were inside the announced range \((\d+) %\), whose "
        r"high end was ([\d.]+) times the low end \(median; ([\d.]+) at most\)",
        prose,
    )
    runs, inside, share, width, widest = figures[later]
    assert (int(runs), int(inside)) == like[:2]
    assert int(share) == round(100 * like.inside / like.runs)
    assert (float(width), float(widest)) == (round(like.middle_width, 2), round(like.widest, 2))
