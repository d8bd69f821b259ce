"""What an engine that cannot be reached does not do: neither start a run nor end one."""

import time
from types import SimpleNamespace

import pytest

from rankviz.core.runs.events import AttemptPlaced, RunRequeued
from rankviz.errors import EngineUnavailableError
from rankviz.jobs.supervisor import Supervisor, jobs
from rankviz.store.ownership import Destination
from tests.support.engines.elsewhere import Elsewhere
from tests.support.processes.workers import COMPLETE_ALL, HANG_IN_EACH, states, sweep, wait_for
from tests.support.runs import questions


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


class Wordy(Refusing):
    """Gives another reason each time."""

    asked = 0

    def start(self, job):
        self.asked += 1
        self.reason = self.reason and f"It does not answer (request {self.asked})."
        return super().start(job)


def test_a_reason_in_other_words_each_time_is_written_down_more_and_more_rarely(store, tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(jobs, "time", SimpleNamespace(time=time.time, monotonic=lambda: clock[0]))
    (run_id,) = sweep(store, 4)
    engine = Wordy(store, tmp_path / "elsewhere", COMPLETE_ALL)
    supervisor = Supervisor(store, engines=[engine])

    for _ in range(1000):
        supervisor.tick()
        clock[0] += 1.0

    assert 1000 == engine.asked
    assert store.get(run_id).waits.startswith("It does not answer (request ")
    # The place, 8 reasons, then after 1, 2, 4, ... 256 s, and in the rest of 1,000 s again after 256 s.
    assert 1 + 8 + 9 + 1 == sum(isinstance(event, AttemptPlaced) for event in store.events(run_id))
    engine.reason = ""
    wait_for(lambda: supervisor.tick() or states(store, [run_id]) == ["completed"])
    supervisor.stop()
    assert "" == store.get(run_id).waits


class Broken(Elsewhere):
    """With a mistake in its code."""

    name = "broken"
    where = ""

    def live(self):
        return self._or_stumble("live", super().live)

    def room(self):
        return self._or_stumble("room", super().room)

    def start(self, job):
        return self._or_stumble("start", lambda: super(Broken, self).start(job))

    def _or_stumble(self, where, answer):
        if self.where == where:
            raise ZeroDivisionError
        return answer()


@pytest.mark.parametrize("where", ["live", "room", "start"])
def test_an_engine_with_a_mistake_keeps_the_runs_of_no_other_waiting_and_is_in_the_log_once(
    store, tmp_path, caplog, where
):
    broken = Broken(store, tmp_path / "broken", COMPLETE_ALL)
    broken.where = where
    supervisor = Supervisor(store, engines=[Elsewhere(store, tmp_path / "elsewhere", COMPLETE_ALL), broken])
    (there,) = store.run_ids(store.create(questions.sweep(ranks=(8,)), destination=Destination("broken")))
    (here,) = sweep(store, 4)

    wait_for(lambda: supervisor.tick() or states(store, [here]) == ["completed"])

    assert ["queued"] == states(store, [there])
    assert "The engine broken has an error (ZeroDivisionError)" in supervisor.away["broken"]
    assert 1 == caplog.text.count("Traceback")
    broken.where = ""
    wait_for(lambda: supervisor.tick() or states(store, [there]) == ["completed"])
    supervisor.stop()


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
    # Its time limit may end it before its first step.
    wait_for(lambda: supervisor.tick() or store.get(second[0]).started_at)
    supervisor.cancel_runs([*first, *second])
    supervisor.stop()
