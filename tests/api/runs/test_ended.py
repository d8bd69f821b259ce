"""What has ended on a machine, by when that was; and what estimates of many runs cost."""

import random

import pytest

from rankviz.api import Api
from rankviz.api.measured import MOST_RUNS, EndedHere
from rankviz.core.cost.pace import Timing, Workload
from rankviz.core.runs.events import RunCompleted, RunStarted, StageReached
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.run_time import began_at
from rankviz.ui.parts.live import results_table
from tests.support.processes.effort import calls_of
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished
from tests.support.runs.toy import ASSUMPTIONS

WORKLOAD = Workload(base="a", parameters=10**8, kernels=("trl", "fp32"), data="phonemes", tokens=128)
"""Of the runs below, which took as many times what the formulas expect as the last digits of their end say."""


def ended(at, began=None):
    """A run that ended then."""
    request = questions.sweep(ranks=(4,)).runs(sweep_id=f"s{at}", created_at=float(at))[0]
    began = at - 10.0 if began is None else began
    return RunRecord(request=request).after_all(
        [
            StageReached(time=began, stage="loading the base"),
            RunStarted(time=began, environment={"device": "cpu"}),
            RunCompleted(time=float(at), train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="process resident"),
        ]
    )


class Timed:
    """Counts what is asked of it."""

    def __init__(self):
        self.calls = 0

    def __call__(self, run):
        self.calls += 1
        return Timing(
            source_id=run.run_id,
            kind="run",
            ended_at=run.ended_at,
            workload=WORKLOAD,
            ratios={"training": 1.0 + run.ended_at % 10},
        )


def factor(here, before):
    return here.paces(WORKLOAD, ASSUMPTIONS, before).training.factor


def test_only_what_had_ended_by_then_counts_and_of_that_the_latest():
    here = EndedHere([ended(at) for at in (1001, 1002, 1003, 1004, 1005)], Timed())

    assert here.paces(WORKLOAD, ASSUMPTIONS, 1000.0).training is None
    assert pytest.approx(3.0) == factor(here, 1003.0)  # the middle of 2, 3 and 4
    assert pytest.approx(5.0) == factor(here, None)


def test_the_same_question_is_answered_from_memory_also_after_another_run_has_ended():
    timed, runs = Timed(), [ended(at) for at in range(1000, 1008)]
    here = EndedHere(runs, timed)
    first = factor(here, 1003.0)
    calls = timed.calls

    later = EndedHere([*runs, ended(2000)], timed, here)

    assert first == factor(later, 1003.0)
    assert calls == timed.calls


def test_what_comes_from_elsewhere_and_ended_before_changes_what_was_known():
    here = EndedHere([ended(1001), ended(1005)], Timed())
    assert pytest.approx(12**0.5) == factor(here, 1006.0)  # between 2 and 6

    later = EndedHere([ended(1001), ended(1002), ended(1005)], Timed(), here)

    assert pytest.approx(6**0.5) == factor(later, 1003.0)  # between 2 and 3


def test_no_more_than_the_latest_runs_are_looked_at():
    timed = Timed()
    here = EndedHere([ended(at) for at in range(1000, 1000 + MOST_RUNS + 50)], timed)

    factor(here, None)

    assert MOST_RUNS == timed.calls


def test_runs_at_work_at_a_time_are_those_that_a_look_at_each_finds():
    luck = random.Random(1)
    runs = [ended(at, at - luck.uniform(1, 400)) for at in luck.sample(range(1000, 4000), 200)]
    here = EndedHere(runs, Timed())

    for at in luck.sample(range(900, 4100), 50):
        every = {run.run_id for run in runs if run.ended_at > at - 60 and began_at(run) < at}
        assert every == {run.run_id for run in here.at_work(at - 60.0, float(at))}


def test_the_estimate_beside_each_further_run_of_a_table_is_little_work(tmp_path):
    api = Api(home=tmp_path)
    few, many = (finished(api, dict.fromkeys(range(1, count + 1), 2.0)) for count in (10, 60))
    for sweep in (few, many):
        results_table(api, sweep)

    further = calls_of(lambda: results_table(api, many)) - calls_of(lambda: results_table(api, few))

    assert further / 50 < 400
