"""Which attempt of a run counts, from its events alone."""

import pytest

from rankviz.core.runs.events import (
    MAX_ATTEMPTS,
    MOST_STAYS,
    Attempt,
    AttemptPlaced,
    RunCompleted,
    RunFailed,
    RunRequeued,
    RunStarted,
    StepLogged,
    counting,
)
from rankviz.core.runs.record import RunRecord
from tests.support.runs import questions

ASKED = RunRecord(request=questions.run(run_id="r"))


def step(number, *, attempt=0, offset=0):
    return StepLogged(
        time=1.0,
        step=number,
        loss=1.0,
        learning_rate=1e-3,
        tokens=10 * number,
        seconds=float(number),
        memory_bytes=1,
        attempt=attempt,
        offset=offset,
    )


def placed(attempt, **fields):
    return AttemptPlaced(time=1.0, attempt=attempt, engine="ray", **fields)


def begun(attempt):
    return RunStarted(time=1.0, environment={}, attempt=attempt)


def steps(*events):
    return [each.step for each in ASKED.after_all(events).steps]


LOST = RunRequeued(time=2.0, attempt=1, lost="The node has gone.")
DONE = RunCompleted(time=9.0, train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="GPU allocated", attempt=2)


def test_an_attempt_is_written_as_a_worker_is_given_it():
    assert "r8@2" == str(Attempt("r8", 2))
    assert Attempt("r8", 2) == Attempt.parse("r8@2")
    assert Attempt("r8", 0) == Attempt.parse("r8")


def test_a_journal_without_attempts_is_that_of_the_first():
    record = ASKED.after_all([RunStarted(time=1.0, environment={}), step(1), step(2)])

    assert (1, 0, None, [1, 2]) == (record.attempt, record.lost_attempts, record.place, [s.step for s in record.steps])


def test_a_run_asked_for_again_in_an_old_journal_begins_its_second_attempt():
    old = [step(1), RunFailed(time=2.0, error="no luck"), RunRequeued(time=3.0), step(1), step(2)]

    assert (2, 0) == (ASKED.after_all(old).attempt, ASKED.after_all(old).lost_attempts)
    assert [1, 2] == steps(*old)


def test_a_lost_attempt_is_counted_and_what_it_wrote_counts_no_more():
    record = ASKED.after_all([step(1, attempt=1), step(2, attempt=1), LOST])

    assert ("queued", 2, 1, ()) == (record.state, record.attempt, record.lost_attempts, record.steps)


def test_asking_again_forgets_how_often_it_was_lost():
    asked_again = RunRequeued(time=5.0, attempt=2)

    assert (3, 0) == tuple(getattr(ASKED.after_all([LOST, asked_again]), name) for name in ("attempt", "lost_attempts"))


@pytest.mark.parametrize("late", [step(3, attempt=1), RunFailed(time=8.0, error="late", attempt=1)])
def test_a_late_event_changes_nothing(late):
    before = ASKED.after_all([step(1, attempt=1), LOST, step(1, attempt=2), step(2, attempt=2)])

    assert before == before.after(late)
    assert before == before.after_all([late])
    assert before.after(DONE) == before.after_all([late, DONE, late])


def test_two_attempts_that_write_at_the_same_time_count_once():
    mixed = [step(1, attempt=1), LOST, step(2, attempt=1), step(1, attempt=2), step(3, attempt=1), step(2, attempt=2)]

    assert [1, 2] == steps(*mixed)
    assert ASKED.after_all(mixed).unreadable_lines == 0


def test_a_place_says_where_the_current_attempt_is():
    record = ASKED.after_all([placed(1, waits="No node is free."), placed(1, where="node-3", job="slot-0")])

    assert ("ray", "node-3", "") == (record.engine, record.where, record.waits)


def test_a_place_of_a_later_attempt_begins_it():
    record = ASKED.after_all([placed(1), step(1, attempt=1), placed(3, where="node-4"), step(1, attempt=3)])

    assert (3, [1], "node-4") == (record.attempt, [each.step for each in record.steps], record.where)


def test_a_place_of_an_earlier_attempt_is_late():
    record = ASKED.after_all([placed(2, where="node-4"), placed(1, where="node-3")])

    assert (2, "node-4") == (record.attempt, record.where)


def test_an_ended_run_is_begun_again_only_where_it_is_asked_for():
    ended = ASKED.after_all([RunFailed(time=2.0, error="no luck")])

    assert ended == ended.after(placed(2))
    assert "queued" == ended.after(RunRequeued(time=3.0)).state


def test_what_is_brought_twice_counts_once():
    brought = [step(1, attempt=1, offset=100), step(2, attempt=1, offset=200)]
    record = ASKED.after_all([*brought, *brought])

    assert ([1, 2], 200, 0) == ([each.step for each in record.steps], record.copied_bytes, record.unreadable_lines)
    assert record == ASKED.after_all(brought).after_all(brought)


def test_the_next_attempt_is_brought_from_its_beginning():
    record = ASKED.after_all([step(1, attempt=1, offset=500), LOST, step(1, attempt=2, offset=100)])

    assert ([1], 100) == ([each.step for each in record.steps], record.copied_bytes)


def test_a_number_without_an_end_is_none():
    many = [RunRequeued(time=1.0)] * 3

    assert MAX_ATTEMPTS == RunRecord(request=ASKED.request, attempt=MAX_ATTEMPTS - 1).after_all(many).attempt


def test_the_events_that_count_are_those_of_the_attempt_that_was_current():
    first, late, second = step(1, attempt=1), step(2, attempt=1), step(1, attempt=2)

    assert [first, LOST, second] == list(counting([first, LOST, late, second], 1))


def test_an_attempt_that_never_began_is_not_counted():
    failed, again = RunFailed(time=2.0, error="Not started."), RunRequeued(time=3.0)
    never = ASKED.after_all([placed(1), failed, again])
    once = ASKED.after_all([placed(1), begun(1), failed, again, placed(2), RunFailed(time=5.0, error="Not started.")])

    assert (2, 0, 1) == (never.attempt, never.begun_attempts, never.shown_attempt)
    assert (2, 1, 2) == (once.attempt, once.begun_attempts, once.shown_attempt)
    assert 2 == once.after_all([again, placed(3), begun(3)]).begun_attempts


def test_earlier_attempts_are_remembered_by_place_and_only_so_many_places():
    tries = [[placed(n, where=f"node-{n % 30}"), begun(n), RunRequeued(time=3.0)] for n in range(1, 61)]
    record = ASKED.after_all([event for events in tries for event in events])

    assert (61, 60) == (record.attempt, record.begun_attempts)
    assert MOST_STAYS + 1 == len(record.earlier)
    assert ("", "") == record.earlier[-1][:2]
