"""What a run's journal adds up to."""

from rankviz.core.runs.events import StepLogged
from rankviz.core.runs.record import RunRecord
from tests.support import questions


def record(*ends: float) -> RunRecord:
    """A run whose steps ended after so many seconds of training."""
    steps = [
        StepLogged(time=0.0, step=step, loss=1.0, learning_rate=0.1, tokens=step, seconds=end, memory_bytes=1)
        for step, end in enumerate(ends, start=1)
    ]
    return RunRecord(request=questions.run()).after_all(steps)


def test_the_first_step_compiles_so_its_time_stands_apart_from_that_of_the_others():
    run = record(30.0, 32.0, 33.0, 37.0)

    assert (30.0, 2.0) == (run.first_step_seconds, run.step_seconds)


def test_before_there_are_steps_their_times_are_not_known():
    assert (None, None) == (record().first_step_seconds, record().step_seconds)
    assert (30.0, None) == (record(30.0).first_step_seconds, record(30.0).step_seconds)
