"""Jobs whose engine takes a while to end them: nothing waits for that, and what becomes of their runs stays right."""

from dataclasses import replace

import pytest

from rankviz.errors import EngineEndingError
from rankviz.jobs import End
from rankviz.jobs.supervisor import Supervisor
from rankviz.store import RunStore
from tests.support.engines.elsewhere import Elsewhere, ends_later
from tests.support.processes.workers import HANG_IN_EACH, each_waits_for, states, sweep, wait_for
from tests.support.runs import questions


class Slow(Elsewhere):
    """Ends a job once `ends_now` is set, and says so when it is asked again. Until then that takes a while."""

    ends_now = False
    says_by_us = False

    def live(self):
        by_us = End(by_us=True) if self.says_by_us else None
        return [replace(each, end=by_us or each.end) if each.end else each for each in super().live()]

    def cancel(self, live, unless=lambda: False):
        if unless():
            return None
        if not self.ends_now:
            raise EngineEndingError("It takes a while.")
        if next(each for each in self.live() if each.job.name == live.job.name).end is None:
            super().cancel(live)
            raise EngineEndingError("It has only just ended.")
        return super().cancel(live)


@pytest.fixture
def supervise(store, tmp_path):
    started = []

    def start(**settings):
        here = RunStore(store.home)
        engine = Slow(here, tmp_path / "elsewhere", HANG_IN_EACH)
        supervisor = Supervisor(here, engines=[engine], poll_seconds=0.02, **settings)
        started.append(supervisor)
        return supervisor, engine

    yield start
    for supervisor in started:
        supervisor.stop()
        for live in supervisor.engines[0].live():
            Elsewhere.cancel(supervisor.engines[0], live)


@pytest.mark.parametrize("in_thread", [True, False])
def test_whoever_cancels_waits_a_while_and_is_told_and_the_run_is_cancelled_later(supervise, store, in_thread):
    (run_id,) = sweep(store, 4)
    supervisor, engine = supervise()
    if in_thread:
        supervisor.start()
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)

    with pytest.raises(EngineEndingError, match="It takes a while"):
        supervisor.cancel(run_id, timeout_seconds=0.1)
    assert ["running"] == states(store, [run_id])
    engine.ends_now = True

    supervisor.settle()
    assert ["cancelled"] == states(store, [run_id])


def test_a_run_is_cancelled_while_whoever_asks_for_it_waits(supervise, store):
    (run_id,) = sweep(store, 4)
    supervisor, engine = supervise()
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)
    engine.ends_now = True

    supervisor.cancel(run_id)

    assert ["cancelled"] == states(store, [run_id])


class Killed(BaseException):
    """The app, while it waits for an engine."""


def test_a_run_is_cancelled_also_where_the_app_is_killed_while_its_job_is_ended(supervise, store):
    (run_id,) = sweep(store, 4)
    supervisor, engine = supervise()
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)

    def cancel(live, unless=lambda: False):
        Elsewhere.cancel(engine, live)
        raise Killed

    engine.cancel = cancel
    with pytest.raises(Killed):
        supervisor.cancel(run_id)
    supervisor.stop()
    later, engine = supervise()
    engine.ends_now = engine.says_by_us = True

    wait_for(lambda: later.tick() or store.get(run_id).state.ended or store.get(run_id).attempt > 1)

    assert ["cancelled"] == states(store, [run_id])


def test_jobs_that_end_slowly_keep_no_other_from_being_ended(supervise, store):
    sweep_id = store.create(questions.sweep(ranks=tuple(range(1, 7))))
    run_ids = store.run_ids(sweep_id)
    supervisor, engine = supervise()
    wait_for(lambda: supervisor.tick() or sum(bool(store.get(run_id).steps) for run_id in run_ids) == 2)
    slow, other = (live.job.name for live in engine.live())
    cancelled = []
    cancel = engine.cancel

    def watched(live, unless=lambda: False):
        cancelled.append(live.job.name)
        return cancel(live, unless)

    engine.cancel = watched
    with pytest.raises(EngineEndingError):
        supervisor.cancel(sweep_id, timeout_seconds=0)

    assert {slow, other} == set(cancelled)


def test_a_run_that_took_too_long_says_so_also_where_its_job_ends_slowly(supervise, store):
    (run_id,) = sweep(store, 4)
    supervisor, engine = supervise(run_minutes=0.001)
    engine.ends_now = True

    wait_for(lambda: supervisor.tick() or store.get(run_id).state.ended)

    assert "took more than 0.001 minutes" in store.get(run_id).error


@pytest.mark.parametrize("for_another", [False, True])
def test_a_run_that_took_too_long_says_so_also_after_a_restart(supervise, store, for_another):
    """What had begun in a job that was ended for another run of it begins anew instead."""
    first, second = sweep(store, 4, 8)
    supervisor, engine = supervise()
    wait_for(lambda: supervisor.tick() or store.get(first).steps)
    if for_another:
        supervisor.cancel(second)
    supervisor.stop()
    Elsewhere.cancel(engine, *engine.live())
    later, engine = supervise(run_minutes=60)
    engine.says_by_us = True

    wait_for(lambda: later.tick() or store.get(first).state.ended or store.get(first).attempt > 1)

    assert for_another != ("took more than 60 minutes" in store.get(first).error)
    assert for_another == (store.get(first).attempt > 1)


@pytest.mark.parametrize("begins", ["while it is asked", "afterwards", "while it is asked again"])
def test_a_run_that_begins_while_its_job_is_ended_for_an_unwanted_one_begins_anew(supervise, store, tmp_path, begins):
    first, unwanted, last = sweep(store, 2, 4, 8)
    supervisor, engine = supervise()
    engine._command = each_waits_for(tmp_path)
    wait_for(lambda: supervisor.tick() or store.get(first).steps)
    supervisor.cancel(unwanted)
    asked = []

    def cancel(live, unless=lambda: False):
        if asked and begins == "while it is asked again":
            (tmp_path / "r4").touch()
            wait_for(unless)
        if unless():
            return None
        asked.append(live)
        if begins == "while it is asked again":
            raise EngineEndingError("It takes a while.")
        (tmp_path / "r4").touch()
        if begins == "afterwards":
            raise EngineEndingError("It takes a while.")
        wait_for(lambda: unless() and store.get(last).steps)
        return Elsewhere.cancel(engine, live)

    engine.cancel = cancel
    (tmp_path / "r2").touch()
    wait_for(lambda: supervisor.tick() or asked)
    if begins != "while it is asked":
        wait_for(lambda: supervisor.tick() or store.get(last).steps)
        Elsewhere.cancel(engine, asked[0])
    (tmp_path / "r8").touch()
    supervisor.settle()

    assert ["completed", "cancelled", "completed"] == states(store, [first, unwanted, last])
    assert (0, "") == (store.get(last).lost_attempts, store.get(last).lost)


def test_a_run_that_begins_while_its_job_is_ended_for_one_that_took_too_long_begins_anew(supervise, store, tmp_path):
    """That one completes meanwhile."""
    slow, last = sweep(store, 4, 8)
    supervisor, engine = supervise(run_minutes=0.001)
    engine._command = each_waits_for(tmp_path)
    asked = ends_later(engine)
    wait_for(lambda: supervisor.tick() or asked)
    (tmp_path / "r4").touch()
    wait_for(lambda: b"step" in engine.events(asked[0], asked[0].job.attempts[1], 0))
    Elsewhere.cancel(engine, asked[0])
    (tmp_path / "r8").touch()
    supervisor.settle()

    assert ["completed", "completed"] == states(store, [slow, last])
