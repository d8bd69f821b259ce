"""Why a run has not begun, from its own journal and its sweep."""

import pytest

from rankviz.core.runs.events import AttemptPlaced, RunCancelled, RunRequeued, StageReached
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.words import AFTER_OTHERS, why_it_waits
from tests.support.runs import questions

ASKED = RunRecord(request=questions.run(run_id="r"))
OTHER = RunRecord(request=questions.run(run_id="other"))
BEGUN = StageReached(time=5.0, stage="loading the base")
LOST = RunRequeued(time=6.0, attempt=1, lost="The node has gone.")


def placed(attempt=1, **fields):
    return AttemptPlaced(time=1.0, attempt=attempt, engine="ray", **fields)


def why(*events, others=(), has_job=False):
    run = ASKED.after_all(events)
    sweep = Sweep(sweep_id="s", runs=(run, *(OTHER.after(event) for event in others)))
    return why_it_waits(run, sweep, has_job=has_job)


def test_what_its_engine_says_comes_first():
    waits = "No node of the Ray cluster has GPU 1."

    assert waits == why(placed(waits=waits))
    assert waits == why(placed(waits=waits), others=[BEGUN])
    assert waits == why(placed(), BEGUN, placed(waits=waits))


def test_a_run_of_a_job_that_has_started_says_where_its_worker_is_starting():
    assert "Its worker is starting on node-3." == why(placed(where="node-3"), has_job=True)
    assert "Its worker is starting." == why(has_job=True)


def test_a_run_behind_others_of_its_sweep_says_so():
    assert AFTER_OTHERS == why(others=[BEGUN]) == why(placed(where="node-3"), others=[BEGUN], has_job=True)


def test_a_lost_attempt_is_told_with_its_reason_until_the_next_one_begins():
    assert "The last attempt was lost: The node has gone." == why(BEGUN, LOST)
    assert f"The last attempt was lost: The node has gone. {AFTER_OTHERS}" == why(BEGUN, LOST, others=[BEGUN])
    again = why(BEGUN, LOST, placed(2, where="node-4"), has_job=True)
    assert "The last attempt was lost: The node has gone. Its worker is starting on node-4." == again
    assert "" == why(BEGUN, LOST, placed(2), StageReached(time=9.0, stage="loading the base", attempt=2))


def test_whoever_asks_again_is_not_told_of_an_older_loss():
    assert "" == why(BEGUN, LOST, RunCancelled(time=7.0), RunRequeued(time=8.0, attempt=2))


@pytest.mark.parametrize("events", [(), (BEGUN,), (BEGUN, RunCancelled(time=7.0))])
def test_a_run_that_waits_for_its_turn_or_for_nothing_has_no_reason_of_its_own(events):
    assert "" == why(*events)
