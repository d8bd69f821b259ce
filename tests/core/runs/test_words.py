"""Titles of sweeps, where runs are, and why they wait."""

import pytest

from rankviz.core.runs.events import AttemptPlaced, RunRequeued, StageReached
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.words import AFTER_OTHERS, Place, all_in_words, sweep_title, why_it_waits
from tests.support.runs import questions


@pytest.mark.parametrize(
    ("ranks", "cut_ranks", "ending"),
    [
        ((2, 8), (), "r = 2, 8"),
        ((8,), (4, 2), "r = 8 (r = 8 truncated to 2, 4)"),
        ((2, 8), (4, 2), "r = 2, 8 (r = 8 truncated to 2, 4)"),
    ],
)
def test_a_title_names_the_rank_that_is_truncated(ranks, cut_ranks, ending):
    requests = questions.sweep(ranks=ranks, cut_ranks=cut_ranks).runs(sweep_id="s1", created_at=0.0)
    sweep = Sweep(sweep_id="s1", runs=tuple(RunRecord(request=request) for request in requests))

    assert sweep_title(sweep).endswith(f", {ending}")


ASKED = RunRecord(request=questions.run(run_id="r"))


def test_several_places_are_named_up_to_four():
    words = all_in_words([Place("local", "GPU 0"), *(Place("ray", f"n{n}") for n in (0, 0, 1, 2, 3, 4)), Place()])

    assert "this machine, GPU 0; Ray cluster, n0; Ray cluster, n1; Ray cluster, n2 and 2 more" == words


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
