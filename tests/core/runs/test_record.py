"""What journals add up to: a run's times, how far a sweep has got, what can be run again."""

from rankviz.core.runs.events import Evaluated, RunCancelled, RunCompleted, RunFailed, RunStarted, StepLogged
from rankviz.core.runs.record import RunRecord, Sweep
from tests.support.runs import questions


def record(*events, max_steps=40):
    return RunRecord(request=questions.run(max_steps=max_steps)).after_all(events)


def step(number, seconds):
    return StepLogged(
        time=seconds, step=number, loss=1.0, learning_rate=1e-4, tokens=100, seconds=seconds, memory_bytes=1
    )


def started(at=0.0):
    return RunStarted(time=at, environment={})


DONE = record(
    started(10.0),
    step(40, 80.0),
    RunCompleted(time=110.0, train_seconds=80.0, peak_memory_bytes=1, peak_memory_kind="x"),
)
FAILED = record(started(200.0), step(4, 8.0), RunFailed(time=230.0, error="no memory"))
CANCELLED = record(RunCancelled(time=300.0))
RUNNING = record(started(400.0), step(1, 3.0), step(10, 30.0))
QUEUED = record()


def sweep(*runs):
    return Sweep(sweep_id="s", runs=runs)


def test_what_has_ended_counts_whole_however_it_ended():
    assert 0.25 == sweep(DONE, QUEUED, QUEUED, QUEUED).share_done
    assert (40 + 40 + 10) / 120 == sweep(DONE, FAILED, RUNNING).share_done
    assert 0.0 == sweep(QUEUED).share_done


def test_only_what_failed_or_was_cancelled_can_be_run_again():
    assert (FAILED, CANCELLED) == sweep(DONE, FAILED, CANCELLED, RUNNING, QUEUED).resumable
    assert RUNNING is sweep(DONE, RUNNING).running
    assert sweep(DONE, QUEUED).running is None


def test_waiting_between_runs_is_no_time_of_the_runs():
    assert 100.0 + 30.0 == sweep(DONE, FAILED, CANCELLED, RUNNING).seconds_in_runs


def with_steps(*ends):
    """A run whose steps ended after so many seconds of training."""
    return record(*(step(number, end) for number, end in enumerate(ends, start=1)))


def test_the_first_step_compiles_so_its_time_stands_apart_from_that_of_the_others():
    run = with_steps(30.0, 32.0, 33.0, 37.0)

    assert (30.0, 2.0) == (run.first_step_seconds, run.step_seconds)


def test_before_there_are_steps_their_times_are_not_known():
    assert (None, None) == (with_steps().first_step_seconds, with_steps().step_seconds)
    assert (30.0, None) == (with_steps(30.0).first_step_seconds, with_steps(30.0).step_seconds)


def evaluated(loss=1.0, **counts):
    return Evaluated(time=1.0, when="after", loss=loss, tokens=8, examples=3, seconds=1.0, **counts)


def test_accuracies_are_shares_of_what_was_counted():
    counted = evaluated(correct_tokens=6, example_exact_matches=(1, None, 0, 1, 0))

    assert (0.75, 4, 0.5) == (counted.token_accuracy, counted.answered, counted.exact_match)


def test_what_was_not_counted_is_not_known_and_not_zero():
    assert (None, 0, None) == (evaluated().token_accuracy, evaluated().answered, evaluated().exact_match)
    assert 0 == evaluated(correct_tokens=0).token_accuracy
    assert 0 == evaluated(example_exact_matches=(0, 0)).exact_match


def test_of_a_diverged_run_no_accuracy_is_known():
    diverged = evaluated(float("nan"), correct_tokens=0, example_exact_matches=(0, 0))

    assert (None, None) == (diverged.token_accuracy, diverged.exact_match)
