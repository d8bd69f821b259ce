"""Titles of sweeps, where runs are, and why they wait."""

from rankviz.core.runs.events import AttemptPlaced, RunRequeued, StageReached
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
    return " ".join(filter(None, why_it_waits(run, sweep, has_job=has_job)))


def test_a_lost_attempt_is_told_with_its_reason_until_the_next_one_begins():
    assert "The last attempt was lost: The node has gone." == why(BEGUN, LOST)
    assert f"The last attempt was lost: The node has gone. {AFTER_OTHERS}" == why(BEGUN, LOST, others=[BEGUN])
    again = why(BEGUN, LOST, placed(2, where="node-4"), has_job=True)
    assert "The last attempt was lost: The node has gone. Its worker is starting on node-4." == again
    assert "" == why(BEGUN, LOST, placed(2), StageReached(time=9.0, stage="loading the base", attempt=2))
