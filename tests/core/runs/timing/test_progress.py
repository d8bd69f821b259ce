"""How far a sweep is and how long it still takes, worked out by hand."""

from dataclasses import replace

import pytest

from rankviz.core.runs.events import RunCompleted, RunStarted, StageProgressed, StageReached, StepLogged
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.sweep_time import progress_of, stage_in_words
from tests.support.runs import questions


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


def test_in_the_first_run_evaluating_the_adapter_takes_as_long_as_evaluating_the_base():
    training = record(*loading(), *trained(21.0)[:4], step(10, 30.0, 61.0))

    assert 30 * 3 + 10 == pytest.approx(progress_of(sweep(training), 61.0).seconds_left)


def test_one_step_is_no_pace():
    assert progress_of(sweep(record(*loading(), *trained(21.0)[:4])), 35.0).seconds_left is None


def test_while_a_long_stage_to_come_is_not_known_the_time_left_is_not():
    run = record(*loading()[:3])

    assert progress_of(sweep(run, QUEUED), 5.0).seconds_left is None
    assert "Time left: not known yet." in progress_of(sweep(run, QUEUED), 5.0).sentence


def test_earlier_runs_on_the_machine_say_how_long_the_stages_take():
    importing = record(*loading()[:3])

    left = progress_of(sweep(importing), 5.0, [EARLIER]).seconds_left

    # 3 of 12 s of the import are over; then 5 + 1 + 1, evaluating 10, training 120, evaluating 8, saving 2
    assert 9 + 7 + 10 + 120 + 8 + 2 == pytest.approx(left)


def test_an_earlier_run_of_another_length_says_how_long_a_step_takes():
    importing = record(*loading()[:3], max_steps=10)

    assert 9 + 7 + 10 + 30 + 8 + 2 == pytest.approx(progress_of(sweep(importing), 5.0, [EARLIER]).seconds_left)


def test_an_earlier_run_of_another_base_says_only_how_long_the_import_takes():
    other = replace(EARLIER, request=replace(EARLIER.request, base="another"))
    importing = record(*loading()[:3])

    later = replace(LATER, request=EARLIER.request)  # had its base loaded by an earlier run

    assert progress_of(sweep(importing), 5.0, [other, later]).seconds_left is None
    assert 9 + 7 + 10 + 120 + 8 + 2 == pytest.approx(progress_of(sweep(importing), 5.0, [EARLIER, later]).seconds_left)


def test_the_rest_of_a_stage_follows_from_its_share_and_its_time():
    events = [*loading(), reached(21.0, "evaluating the base"), progressed(25.0, 16, 64)]

    left = progress_of(sweep(record(*events)), 27.0, [EARLIER]).seconds_left

    # a quarter took 4 s, so all takes 16; 6 of them are over
    assert 10 + 120 + 8 + 2 == pytest.approx(left)


def test_a_stage_that_takes_longer_than_usual_counts_as_about_to_end():
    importing = record(*loading()[:3])

    assert 0 + 7 + 10 + 120 + 8 + 2 == pytest.approx(progress_of(sweep(importing), 99.0, [EARLIER]).seconds_left)


def test_a_download_interrupts_loading_which_then_goes_on():
    downloading = [*loading()[:4], reached(15.0, "downloading the base"), progressed(20.0, 50, 200, "bytes")]

    left = progress_of(sweep(record(*downloading)), 20.0, [EARLIER]).seconds_left
    again = progress_of(sweep(record(*downloading, reached(35.0, "loading the base"))), 36.0, [EARLIER]).seconds_left

    # 15 s of download; then loading 5, tokenizing 1, attaching 1 and the run
    assert 15 + 5 + 2 + 10 + 120 + 8 + 2 == pytest.approx(left)
    assert 4 + 2 + 10 + 120 + 8 + 2 == pytest.approx(again)


def test_before_the_whole_is_known_the_time_left_is_that_of_the_stage():
    downloading = [*loading()[:2], reached(2.0, "downloading the base"), progressed(12.0, 50, 200, "bytes")]

    progress = progress_of(sweep(record(*downloading)), 14.0)

    # a quarter took 10 s, so all takes 40; 12 of them are over
    assert progress.seconds_left is None
    assert 28 == pytest.approx(progress.stage_seconds_left)
    assert progress.sentence.endswith("Time left: about 28 s for this stage; the rest is not known yet.")


def test_the_modules_of_an_import_give_a_time_left_until_an_earlier_start_is_known():
    importing = record(*loading()[:3], progressed(8.0, 2000, 5000, "Python modules"))

    # 6 s for two fifths; of the 12 s that it took before, 6 are over
    assert 9 == pytest.approx(progress_of(sweep(importing), 8.0).stage_seconds_left)
    assert 6 == pytest.approx(progress_of(sweep(importing), 8.0, [EARLIER]).stage_seconds_left)


@pytest.mark.parametrize("stage", ["checking and unpacking the download", "importing Transformers"])
def test_each_stage_of_a_first_start_interrupts_getting_the_base(stage):
    begun = record(*loading()[:2], reached(2.0, "downloading the base"), reached(9.0, stage))

    # the import 12, loading 5, tokenizing 1, attaching 1, and the run; how long this stage takes is not known
    assert progress_of(sweep(begun), 9.0, [EARLIER]).seconds_left is None
    downloading = replace(begun, stage_progress=progressed(10.0, 1, 2))
    assert 1 + 1 + 12 + 5 + 2 + 10 + 120 + 8 + 2 == pytest.approx(
        progress_of(sweep(downloading), 10.0, [EARLIER]).seconds_left
    )


def test_truncating_takes_an_evaluation_and_its_recovery_steps():
    run = record(*loading(), *trained(21.0)[:-1], reached(161.0, "decomposing the adapter"), r=64, cut_ranks=(8, 4))

    # nothing is known of decomposing; r = 8 is evaluated (8), r = 4 is trained 2 steps (of 3 s) and evaluated
    assert 8 + 2 * 3 + 8 == pytest.approx(progress_of(sweep(run), 162.0).seconds_left)

    truncated = [reached(163.0, "truncating to r = 8"), reached(172.0, "truncating to r = 4")]
    later = replace(run.after_all(truncated), request=run.request)

    assert 2 * 3 + 8 - 5 == pytest.approx(progress_of(sweep(later), 177.0).seconds_left)


def test_answers_take_as_long_as_those_of_the_base():
    begun = [*loading(), reached(21.0, "evaluating the base"), reached(31.0, "writing 3 held-out answers")]
    later = [event for event in trained(36.0, first=False) if not isinstance(event, RunCompleted)][:3]

    training = record(*begun, *later, step(10, 30.0, 66.0), shown_answers=4)

    assert 30 * 3 + 10 + 5 == pytest.approx(progress_of(sweep(training), 66.0).seconds_left)


def test_between_two_runs_the_time_left_is_that_of_those_that_wait():
    assert 1 + 120 + 8 + 2 == pytest.approx(progress_of(sweep(DONE, QUEUED), 170.0).seconds_left)


def test_a_sweep_that_waits_or_has_ended_has_no_time_left_to_tell():
    assert progress_of(sweep(QUEUED), 9.0, [EARLIER]).seconds_left is None
    assert progress_of(sweep(DONE, LATER), 300.0).seconds_left is None
    assert "" == progress_of(sweep(QUEUED), 9.0).sentence


def test_the_share_of_a_sweep_is_that_of_its_time():
    done = record(*loading(1000.0), *trained(1021.0))
    training = record(*loading(1161.0), *trained(1182.0)[:3], step(10, 30.0, 1222.0))
    progress = progress_of(sweep(done, training), 1222.0)

    # 161 s of the first run and 61 of the second are over; 30 steps of 3 s, evaluating and saving are left
    assert 222 / (222 + 90 + 8 + 2) == pytest.approx(progress.share)
    assert 1.0 == progress_of(sweep(DONE), 999.0).share
    assert progress_of(sweep(QUEUED), 9.0).share is None


def test_a_sweep_that_has_not_ended_has_at_least_a_second_left():
    saving = record(*loading(), *trained(21.0)[:-1])

    assert 1.0 == progress_of(sweep(saving), 999.0).seconds_left


def test_where_a_sweep_is_reads_as_a_sentence():
    events = [*loading(), reached(21.0, "evaluating the base"), progressed(25.0, 16, 64)]

    assert (
        "Run 2 of 2: evaluating the base, 16 of 64 examples (6.0 s so far). Time left: about 2 min."
        == progress_of(sweep(EARLIER, record(*events)), 27.0).sentence
    )


def test_a_stage_says_what_it_has_done():
    assert "downloading the base, 34.0 MB of 98.8 MB" == stage_in_words(
        record(reached(1.0, "downloading the base"), progressed(2.0, 34_000_000, 98_800_000, "bytes"))
    )
    assert "downloading the base, 34.0 MB" == stage_in_words(
        record(reached(1.0, "downloading the base"), progressed(2.0, 34_000_000, None, "bytes"))
    )
    assert "importing Unsloth, 1,900 of about 5,000 Python modules" == stage_in_words(
        record(reached(1.0, "importing Unsloth"), progressed(2.0, 1900, 5000, "Python modules"))
    )
    assert "importing Unsloth, 1,900 Python modules" == stage_in_words(
        record(reached(1.0, "importing Unsloth"), progressed(2.0, 1900, None, "Python modules"))
    )
    assert "training, step 10 of 40" == stage_in_words(record(reached(1.0, "training"), step(10, 30.0, 30.0)))
    assert "loading the base" == stage_in_words(record(reached(1.0, "loading the base")))


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


def test_a_sweep_takes_at_least_as_long_as_the_run_that_ends_last():
    just_begun = record(RunStarted(time=221.0, environment={}), reached(221.0, "attaching the adapter"))

    assert 1 + 40 * 2.5 + 10 == pytest.approx(
        progress_of(sweep(DONE, running_since(200.0), just_begun), 221.0).seconds_left
    )
