"""What runs have cost so far, from the times in their journals alone."""

import pytest

from rankviz.core.probe import ProbeRecord
from rankviz.core.runs.events import (
    AttemptPlaced,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunRequeued,
    StageReached,
    StepLogged,
)
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.run_time import device_time, times_by_engine
from tests.support.runs import questions
from tests.support.runs.probes import request as probe_request

ASKED = RunRecord(request=questions.run(run_id="r"))


def begun(at, attempt=1):
    return StageReached(time=at, stage="loading the base", attempt=attempt)


def step(at, number=1, attempt=1):
    return StepLogged(
        time=at, step=number, loss=1.0, learning_rate=1e-3, tokens=1, seconds=1.0, memory_bytes=1, attempt=attempt
    )


def completed(at, attempt=1):
    kind = "GPU allocated"
    return RunCompleted(time=at, train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind=kind, attempt=attempt)


def placed(attempt=1, **fields):
    return AttemptPlaced(time=0.0, attempt=attempt, engine="local", **fields)


def spent(*events, now=1000.0):
    return device_time([ASKED.after_all(events)], now)


def test_a_run_that_has_not_begun_has_cost_nothing():
    assert (0.0, True, "") == (spent().seconds, spent().is_whole, spent(placed()).in_words)


def test_a_run_that_ended_counts_from_its_first_line_to_its_end():
    assert 50.0 == spent(begun(100.0), step(120.0), completed(150.0)).seconds
    assert 5.0 == spent(begun(100.0), RunFailed(time=105.0, error="no luck")).seconds


def test_a_run_that_is_going_counts_until_now():
    assert 900.0 == spent(begun(100.0), step(120.0)).seconds


def test_a_lost_attempt_counts_to_its_last_line_since_nobody_saw_its_end():
    lost = RunRequeued(time=90_000.0, attempt=1, lost="The machine stopped.")

    queued = spent(begun(100.0), step(120.0), lost)
    again = spent(begun(100.0), step(120.0), lost, begun(90_100.0, 2), completed(90_130.0, 2))

    assert (20.0, 50.0) == (queued.seconds, again.seconds)


def test_what_was_cancelled_and_asked_for_again_counts_too():
    again = RunRequeued(time=500.0, attempt=1)

    assert 40.0 == spent(begun(100.0), RunCancelled(time=130.0), again, begun(600.0, 2), completed(610.0, 2)).seconds


def test_an_attempt_that_another_engine_began_adds_to_the_one_before():
    assert 25.0 == spent(placed(1), begun(100.0), step(115.0), placed(2), begun(200.0, 2), completed(210.0, 2)).seconds


def test_a_late_line_of_a_lost_attempt_adds_nothing():
    lost = RunRequeued(time=200.0, attempt=1, lost="The node has gone.")

    assert 20.0 == spent(begun(100.0), step(120.0), lost, step(180.0, 2, attempt=1)).seconds


def test_a_run_that_its_engine_cannot_read_counts_to_its_last_line_and_says_that_it_may_be_more():
    time = spent(begun(100.0), step(160.0), placed(waits="It waits for its owner's login."))

    assert (60.0, False, "at least 60 s") == (time.seconds, time.is_whole, time.in_words)


def test_a_journal_that_came_back_from_elsewhere_does_not_know_its_earlier_attempts():
    third = [placed(3), begun(100.0, 3), completed(110.0, 3)]

    assert (10.0, "at least 10 s") == (spent(*third).seconds, spent(*third).in_words)
    assert 2 == ASKED.after_all(third).untimed_attempts
    assert "not known" == spent(placed(2)).in_words


@pytest.mark.parametrize("first", [[placed(1)], [begun(1.0), RunRequeued(time=2.0, attempt=1, lost="Gone.")]])
def test_an_attempt_that_never_began_took_nothing_and_is_known(first):
    assert 0 == ASKED.after_all([*first, placed(2)]).untimed_attempts


def test_the_times_of_all_runs_are_added():
    runs = [ASKED.after_all([begun(0.5), completed(60.5)]), ASKED.after_all([begun(60.5), completed(90.5)])]

    assert 90.0 == device_time(runs, 1000.0).seconds
    assert "2 min" == device_time(runs, 1000.0).in_words


def test_a_clock_that_was_set_back_gives_no_time_below_zero():
    assert 0.0 == spent(begun(100.0), completed(40.0)).seconds
    assert 0.0 == spent(begun(100.0), now=40.0).seconds


def test_the_time_of_a_run_that_moved_is_told_by_engine():
    gone = RunRequeued(time=100.0, attempt=1, lost="The node has gone.")
    there = [AttemptPlaced(time=1.0, attempt=1, engine="ray", where="node-1"), begun(10.0), step(34.0), gone]
    run = ASKED.after_all([*there, placed(2), begun(200.0, 2), completed(262.0, 2)])

    assert {"ray": 24.0, "local": 62.0} == {name: time.seconds for name, time in times_by_engine(run, 1000.0).items()}
    assert {"": 900.0} == {name: time.seconds for name, time in times_by_engine(ASKED.after(begun(100.0)), 1e3).items()}


def test_a_probe_keeps_the_time_of_its_earlier_attempts_as_a_run_does():
    lost = RunRequeued(time=50.0, attempt=1, lost="Gone.")
    record = ProbeRecord(request=probe_request()).after_all([begun(10.0), lost])

    assert ([0.0], None) == ([stay.seconds for stay in record.earlier], record.attempt_seconds)
