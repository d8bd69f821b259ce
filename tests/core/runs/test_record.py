"""The record of a run and of a sweep: attempts, stages, shares and answers, from events alone."""

import pytest

from rankviz.core.runs.events import (
    MAX_ANSWER_CHARACTERS,
    MAX_ATTEMPTS,
    Answered,
    AttemptPlaced,
    Evaluated,
    GreedyAnswer,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunRequeued,
    RunStarted,
    StageProgressed,
    StageReached,
    StepLogged,
    stages_of,
)
from rankviz.core.runs.record import RunRecord, StageTime, Sweep
from rankviz.core.runs.request import MAX_SHOWN_ANSWERS
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


def test_a_lost_attempt_is_counted_and_what_it_wrote_counts_no_more():
    record = ASKED.after_all([step(1, attempt=1), step(2, attempt=1), LOST])

    assert ("queued", 2, 1, ()) == (record.state, record.attempt, record.lost_attempts, record.steps)


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


def test_a_place_of_a_later_attempt_begins_it():
    record = ASKED.after_all([placed(1), step(1, attempt=1), placed(3, where="node-4"), step(1, attempt=3)])

    assert (3, [1], "node-4") == (record.attempt, [each.step for each in record.steps], record.where)


def test_an_ended_run_is_begun_again_only_where_it_is_asked_for():
    ended = ASKED.after_all([RunFailed(time=2.0, error="no luck")])

    assert ended == ended.after(placed(2))
    assert "queued" == ended.after(RunRequeued(time=3.0)).state


def test_what_is_brought_twice_counts_once():
    brought = [step(1, attempt=1, offset=100), step(2, attempt=1, offset=200)]
    record = ASKED.after_all([*brought, *brought])

    assert ([1, 2], 200, 0) == ([each.step for each in record.steps], record.copied_bytes, record.unreadable_lines)
    assert record == ASKED.after_all(brought).after_all(brought)


def test_a_number_without_an_end_is_none():
    many = [RunRequeued(time=1.0)] * 3

    assert MAX_ATTEMPTS == RunRecord(request=ASKED.request, attempt=MAX_ATTEMPTS - 1).after_all(many).attempt


def test_an_attempt_that_never_began_is_not_counted():
    failed, again = RunFailed(time=2.0, error="Not started."), RunRequeued(time=3.0)
    never = ASKED.after_all([placed(1), failed, again])
    once = ASKED.after_all([placed(1), begun(1), failed, again, placed(2), RunFailed(time=5.0, error="Not started.")])

    assert (2, 0, 1) == (never.attempt, never.begun_attempts, never.shown_attempt)
    assert (2, 1, 2) == (once.attempt, once.begun_attempts, once.shown_attempt)
    assert 2 == once.after_all([again, placed(3), begun(3)]).begun_attempts


def test_earlier_attempts_are_counted_with_their_time_by_engine():
    tries = [[placed(n), begun(n), RunRequeued(time=3.0)] for n in range(1, 61)]
    record = ASKED.after_all([event for events in tries for event in events])

    assert (61, 60, ["ray"]) == (record.attempt, record.begun_attempts, list(record.earlier_seconds))


def staged(*events, **settings):
    return RunRecord(request=questions.run(**settings)).after_all(events)


def reached(time, stage):
    return StageReached(time=time, stage=stage)


def progressed(time, done, total=None):
    return StageProgressed(time=time, done=done, total=total, unit="examples")


def trained(number):
    return StepLogged(
        time=number, step=number, loss=1.0, learning_rate=1e-4, tokens=100, seconds=number, memory_bytes=1
    )


FINISHED = RunCompleted(time=30.0, train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="x")


def test_the_share_of_a_stage_is_what_it_has_done_of_its_total():
    assert 0.25 == staged(reached(1.0, "evaluating the base"), progressed(2.0, 16, 64)).stage_share
    assert 1.0 == staged(reached(1.0, "evaluating the base"), progressed(2.0, 80, 64)).stage_share
    assert staged(reached(1.0, "importing Unsloth"), progressed(2.0, 900)).stage_share is None
    assert staged(reached(1.0, "evaluating the base")).stage_share is None
    assert staged().stage_share is None


def test_stages_that_have_ended_are_kept_with_their_time():
    begun = (reached(1.0, "loading the base"), RunStarted(time=4.0, environment={}), reached(6.5, "training"))

    assert (StageTime("loading the base", 5.5),) == staged(*begun).ended_stages
    assert (StageTime("loading the base", 5.5), StageTime("training", 23.5)) == staged(*begun, FINISHED).ended_stages
    assert (StageTime("loading the base", 5.5),) == staged(*begun, RunFailed(time=9.0, error="x")).ended_stages


def test_the_first_run_of_a_worker_loads_the_base_and_evaluates_it():
    assert [
        "reading the data",
        "getting the base",
        "importing Unsloth",
        "loading the base",
        "tokenizing the data",
        "attaching the adapter",
        "evaluating the base",
        "writing 4 held-out answers",
        "preparing the training rows",
        "training",
        "evaluating the adapter",
        "writing 4 held-out answers",
        "saving the adapter",
    ] == list(stages_of(questions.run(shown_answers=4), loads=True))


def test_a_later_run_with_truncated_adapters_goes_through_each_of_them():
    run = questions.run(r=8, cut_ranks=(4, 2), exact_match_examples=10, held_out_examples=64)

    assert [
        "attaching the adapter",
        "preparing the training rows",
        "training",
        "evaluating the adapter",
        "answering 10 held-out prompts",
        "saving the adapter",
        "decomposing the adapter",
        "truncating to r = 4",
        "answering 10 held-out prompts",
        "truncating to r = 2",
        "answering 10 held-out prompts",
    ] == list(stages_of(run, loads=False))


def measured(*events, max_steps=40):
    return RunRecord(request=questions.run(max_steps=max_steps)).after_all(events)


def timed(number, seconds):
    return StepLogged(
        time=seconds, step=number, loss=1.0, learning_rate=1e-4, tokens=100, seconds=seconds, memory_bytes=1
    )


def started(at=0.0):
    return RunStarted(time=at, environment={})


COMPLETE = measured(
    started(10.0),
    timed(40, 80.0),
    RunCompleted(time=110.0, train_seconds=80.0, peak_memory_bytes=1, peak_memory_kind="x"),
)


FAILED = measured(started(200.0), timed(4, 8.0), RunFailed(time=230.0, error="no memory"))


CANCELLED = measured(RunCancelled(time=300.0))


RUNNING = measured(started(400.0), timed(1, 3.0), timed(10, 30.0))


QUEUED = measured()


def sweep(*runs):
    return Sweep(sweep_id="s", runs=runs)


def test_what_has_ended_counts_whole_however_it_ended():
    assert 0.25 == sweep(COMPLETE, QUEUED, QUEUED, QUEUED).share_done
    assert (40 + 40 + 10) / 120 == sweep(COMPLETE, FAILED, RUNNING).share_done
    assert 0.0 == sweep(QUEUED).share_done


def test_only_what_failed_or_was_cancelled_can_be_run_again():
    assert (FAILED, CANCELLED) == sweep(COMPLETE, FAILED, CANCELLED, RUNNING, QUEUED).resumable
    assert RUNNING is sweep(COMPLETE, RUNNING).running
    assert sweep(COMPLETE, QUEUED).running is None


def test_waiting_between_runs_is_no_time_of_the_runs():
    assert 100.0 + 30.0 == sweep(COMPLETE, FAILED, CANCELLED, RUNNING).seconds_in_runs


def with_steps(*ends):
    """A run whose steps ended after so many seconds of training."""
    return measured(*(timed(number, end) for number, end in enumerate(ends, start=1)))


def test_the_first_step_compiles_so_its_time_stands_apart_from_that_of_the_others():
    run = with_steps(30.0, 32.0, 33.0, 37.0)

    assert (30.0, 2.0) == (run.first_step_seconds, run.step_seconds)


def evaluated(loss=1.0, **counts):
    return Evaluated(time=1.0, when="after", loss=loss, tokens=8, examples=3, seconds=1.0, **counts)


def test_accuracies_are_shares_of_what_was_counted():
    counted = evaluated(correct_tokens=6, example_exact_matches=(1, None, 0, 1, 0))

    assert (0.75, 4, 0.5) == (counted.token_accuracy, counted.answered, counted.exact_match)


def answer(place, text, prompt="p", ended=True):
    return GreedyAnswer(place=place, prompt=prompt, reference="ref", text=text, ended=ended)


def answered(when, *answers):
    return Answered(time=1.0, when=when, answers=answers, seconds=2.0)


def answering(*events):
    return RunRecord(request=questions.run()).after_all(events)


def test_answers_before_and_after_stand_side_by_side_by_place():
    run = answering(
        answered("before", answer(3, "b3"), answer(1, "b1")), answered("after", answer(1, "a1"), answer(3, "a3"))
    )

    assert [(1, "b1", "a1"), (3, "b3", "a3")] == [
        (each.place, each.before.text, each.after.text) for each in run.answers
    ]
    assert ("p", "ref") == (run.answers[0].prompt, run.answers[0].reference)


def test_answers_from_elsewhere_are_bounded_and_can_be_shown():
    many = tuple(answer(i, "x" * 5000, prompt="half \ud83d of a pair") for i in range(MAX_SHOWN_ANSWERS + 5))

    shown = answering(answered("after", *many)).answers

    assert MAX_SHOWN_ANSWERS == len(shown)
    assert MAX_ANSWER_CHARACTERS == len(shown[0].after.text)
    assert "half ? of a pair" == shown[0].prompt
