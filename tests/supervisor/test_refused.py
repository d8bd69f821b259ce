"""What an engine that cannot be reached does not do: neither start a run nor end one."""

import time

import pytest

from rankviz.core.runs.events import AttemptPlaced, RunRequeued
from rankviz.errors import EngineUnavailableError
from rankviz.supervisor import Supervisor
from tests.support.elsewhere import Elsewhere
from tests.support.workers import COMPLETE_ALL, HANG_IN_EACH, states, sweep, wait_for


class Refusing(Elsewhere):
    """Starts nothing as long as it has a reason."""

    reason = "Its cluster does not answer."

    def start(self, job):
        if self.reason:
            raise EngineUnavailableError(self.reason)
        return super().start(job)


def test_a_run_that_is_refused_again_and_again_stays_one_attempt_and_says_why_once(store, tmp_path):
    (run_id,) = sweep(store, 4)
    engine = Refusing(store, tmp_path / "elsewhere", COMPLETE_ALL)
    supervisor = Supervisor(store, engines=[engine])

    for _ in range(5):
        supervisor.tick()

    record = store.get(run_id)
    assert (1, "Its cluster does not answer.") == (record.attempt, record.waits)
    assert 2 == sum(isinstance(event, AttemptPlaced) for event in store.events(run_id))
    engine.reason = ""
    supervisor.settle()
    supervisor.stop()
    assert (["completed"], 1) == (states(store, [run_id]), store.get(run_id).attempt)
    assert "" == store.get(run_id).waits


class Holding(Elsewhere):
    """Ends nothing while it cannot be reached."""

    reached = False

    def cancel(self, live, unless=lambda: False):
        if not self.reached:
            raise EngineUnavailableError("Its cluster does not answer.")
        return super().cancel(live, unless)


@pytest.mark.parametrize("run_minutes", [None, 0])
def test_a_job_that_cannot_be_ended_now_keeps_nothing_else_waiting(store, tmp_path, run_minutes):
    first, second = sweep(store, 4), sweep(store, 8)
    engine = Holding(store, tmp_path / "elsewhere", HANG_IN_EACH, machines=1)
    supervisor = Supervisor(store, engines=[engine], run_minutes=run_minutes)
    wait_for(lambda: supervisor.tick() or store.get(first[0]).steps)
    if run_minutes is None:
        store.append(first[0], RunRequeued(time=time.time(), attempt=1))  # its job is of an attempt that counts no more

    supervisor.tick()
    supervisor.tick()

    engine.reached = True
    wait_for(lambda: supervisor.tick() or store.get(second[0]).steps)
    supervisor.cancel_runs([*first, *second])
    supervisor.stop()
