"""Estimates of many runs: what they rest on, and what they cost."""

import pytest

from rankviz.api import Api
from rankviz.api.measured import MOST_RUNS, EndedHere
from rankviz.core.cost.pace import Timing, Workload
from rankviz.core.runs.events import RunCompleted, RunStarted, StageReached
from rankviz.core.runs.record import RunRecord
from rankviz.ui.parts.live import results_table
from tests.support.processes.effort import calls_of
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished

WORKLOAD = Workload(base="a", parameters=10**8, kernels=("trl", "fp32"), data="phonemes", tokens=128)


def ended(at):
    """A run that ended then."""
    request = questions.sweep(ranks=(4,)).runs(sweep_id=f"s{at}", created_at=float(at))[0]
    return RunRecord(request=request).after_all(
        [
            StageReached(time=at - 10.0, stage="loading the base"),
            RunStarted(time=at - 10.0, environment={"device": "cpu"}),
            RunCompleted(time=float(at), train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="process resident"),
        ]
    )


def timing_of(run):
    ratios = {"training": 1.0}
    return Timing(source_id=run.run_id, kind="run", ended_at=run.ended_at, workload=WORKLOAD, ratios=ratios)


@pytest.mark.parametrize(
    ("before", "ends"), [(1000.0, ()), (1003.0, (1001, 1002, 1003)), (None, (1001, 1002, 1003, 1004))]
)
def test_only_what_had_ended_by_then_counts(before, ends):
    here = EndedHere([ended(at) for at in (1004, 1001, 1003, 1002)], timing_of)

    assert ends == tuple(timing.ended_at for timing in here.latest(before))


def test_no_more_than_the_latest_runs_are_looked_at():
    here = EndedHere([ended(at) for at in range(1000, 1000 + MOST_RUNS + 50)], timing_of)

    assert MOST_RUNS == len(here.latest(None)) and 1050.0 == here.latest(None)[0].ended_at


def test_the_estimate_beside_each_further_run_of_a_table_is_little_work(tmp_path):
    api = Api(home=tmp_path)
    few, many = (finished(api, dict.fromkeys(range(1, count + 1), 2.0)) for count in (10, 60))
    for sweep in (few, many):
        results_table(api, sweep.runs)

    further = calls_of(lambda: results_table(api, many.runs)) - calls_of(lambda: results_table(api, few.runs))

    assert further / 50 < 400
