"""What a journal says of stages, and the order in which a run goes through them."""

from rankviz.core.runs.events import (
    TRAINING,
    RunCompleted,
    RunFailed,
    RunStarted,
    StageProgressed,
    StageReached,
    StepLogged,
    stages_of,
)
from rankviz.core.runs.record import RunRecord, StageTime
from tests.support.runs import questions


def record(*events, **settings):
    return RunRecord(request=questions.run(**settings)).after_all(events)


def reached(time, stage):
    return StageReached(time=time, stage=stage)


def progressed(time, done, total=None):
    return StageProgressed(time=time, done=done, total=total, unit="examples")


def step(number):
    return StepLogged(
        time=number, step=number, loss=1.0, learning_rate=1e-4, tokens=100, seconds=number, memory_bytes=1
    )


COMPLETED = RunCompleted(time=30.0, train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="x")


def test_the_share_of_a_stage_is_what_it_has_done_of_its_total():
    assert 0.25 == record(reached(1.0, "evaluating the base"), progressed(2.0, 16, 64)).stage_share
    assert 1.0 == record(reached(1.0, "evaluating the base"), progressed(2.0, 80, 64)).stage_share
    assert record(reached(1.0, "importing Unsloth"), progressed(2.0, 900)).stage_share is None
    assert record(reached(1.0, "evaluating the base")).stage_share is None
    assert record().stage_share is None


def test_the_share_of_training_is_that_of_its_steps():
    assert 0.0 == record(reached(1.0, TRAINING), max_steps=40).stage_share
    assert 0.25 == record(reached(1.0, TRAINING), step(10), max_steps=40).stage_share


def test_a_new_stage_begins_without_the_progress_of_the_one_before():
    run = record(reached(1.0, "loading the base"), progressed(2.0, 1, 2), reached(6.5, "tokenizing the data"))

    assert "tokenizing the data" == run.stage
    assert 6.5 == run.stage_began_at
    assert run.stage_progress is None


def test_stages_that_have_ended_are_kept_with_their_time():
    begun = (reached(1.0, "loading the base"), RunStarted(time=4.0, environment={}), reached(6.5, "training"))

    assert (StageTime("loading the base", 5.5),) == record(*begun).ended_stages
    assert (StageTime("loading the base", 5.5), StageTime("training", 23.5)) == record(*begun, COMPLETED).ended_stages
    assert (StageTime("loading the base", 5.5),) == record(*begun, RunFailed(time=9.0, error="x")).ended_stages


def test_a_clock_that_was_set_back_gives_no_stage_a_time_below_0():
    assert (StageTime("loading the base", 0.0),) == record(
        reached(9.0, "loading the base"), reached(1.0, "x")
    ).ended_stages


def test_a_journal_without_stages_has_none():
    run = record(RunStarted(time=4.0, environment={}), step(1), COMPLETED)

    assert () == run.ended_stages
    assert run.stage_began_at is None


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
