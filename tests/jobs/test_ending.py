"""Jobs whose engine takes a while to end them: nothing waits for that, and what becomes of their runs stays right."""

import errno
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rankviz.core.runs.record import RunState
from rankviz.errors import EngineEndingError, EngineUnavailableError, WorkerError
from rankviz.jobs import End, ending
from rankviz.jobs.local import Local
from rankviz.jobs.supervisor import Supervisor
from rankviz.store import RunStore
from rankviz.store.removal import remove
from tests.support.engines.elsewhere import Elsewhere, ends_later
from tests.support.processes.workers import (
    COMPLETE_ALL,
    FIRST_HANGS,
    HANG_IN_EACH,
    each_waits_for,
    lost_reasons,
    states,
    sweep,
    wait_for,
    worker,
)


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
def slowly(store, tmp_path):
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
def test_whoever_cancels_waits_a_while_and_is_told_and_the_run_is_cancelled_later(slowly, store, in_thread):
    (run_id,) = sweep(store, 4)
    supervisor, engine = slowly()
    if in_thread:
        supervisor.start()
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)

    with pytest.raises(EngineEndingError, match="It takes a while"):
        supervisor.cancel(run_id, timeout_seconds=0.1)
    assert ["running"] == states(store, [run_id])
    engine.ends_now = True

    supervisor.settle()
    assert ["cancelled"] == states(store, [run_id])


class Killed(BaseException):
    """The app, while it waits for an engine."""


def test_a_run_is_cancelled_also_where_the_app_is_killed_while_its_job_is_ended(slowly, store):
    (run_id,) = sweep(store, 4)
    supervisor, engine = slowly()
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)

    def cancel(live, unless=lambda: False):
        Elsewhere.cancel(engine, live)
        raise Killed

    engine.cancel = cancel
    with pytest.raises(Killed):
        supervisor.cancel(run_id)
    supervisor.stop()
    later, engine = slowly()
    engine.ends_now = engine.says_by_us = True

    wait_for(lambda: later.tick() or store.get(run_id).state.ended or store.get(run_id).attempt > 1)

    assert ["cancelled"] == states(store, [run_id])


def test_a_run_that_took_too_long_says_so_also_where_its_job_ends_slowly(slowly, store):
    (run_id,) = sweep(store, 4)
    supervisor, engine = slowly(run_minutes=0.001)
    engine.ends_now = True

    wait_for(lambda: supervisor.tick() or store.get(run_id).state.ended)

    assert "took more than 0.001 minutes" in store.get(run_id).error


@pytest.mark.parametrize("begins", ["while it is asked", "afterwards", "while it is asked again"])
def test_a_run_that_begins_while_its_job_is_ended_for_an_unwanted_one_begins_anew(slowly, store, tmp_path, begins):
    first, unwanted, last = sweep(store, 2, 4, 8)
    supervisor, engine = slowly()
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


@pytest.fixture
def clock(monkeypatch):
    """Of turns and of the limit of a run, in seconds; it stands still."""
    now = [1000.0]
    monkeypatch.setattr(ending, "time", SimpleNamespace(time=time.time, monotonic=lambda: now[0]))
    return now


def first_fails(place):
    """A worker that holds each run until a file there has its rank; then the first attempt at r = 4 fails."""
    return worker(
        "for run_id in run_ids:\n"
        "    if begin(run_id):\n"
        "        step(run_id)\n"
        f"        while not os.path.exists(os.path.join({str(place)!r}, run_id.rpartition('-')[2])): time.sleep(0.02)\n"
        "        if (run_id[-2:], attempts[run_id]) == ('r4', '1'):\n"
        "            write(run_id, RunFailed(time=time.time(), error='By itself.'))\n"
        "        else:\n"
        "            complete(run_id)"
    )


@pytest.mark.parametrize("becomes", ["deleted", "resumed"])
@pytest.mark.parametrize("why", ["cancelled", "too long"])
def test_what_becomes_of_the_run_that_a_job_was_ended_for_is_nothing_of_the_others(
    supervise, store, tmp_path, why, becomes
):
    first, last = sweep(store, 4, 8)
    supervisor, engine = supervise(first_fails(tmp_path), run_minutes=0.01 if why == "too long" else None)
    asked = ends_later(engine)
    wait_for(lambda: supervisor.tick() or store.get(first).steps)
    if why == "cancelled":
        with pytest.raises(EngineEndingError):
            supervisor.cancel(first, timeout_seconds=0.0)
    wait_for(lambda: supervisor.tick() or asked)
    (tmp_path / "r4").touch()
    wait_for(lambda: supervisor.tick() or store.get(first).state.ended)

    if becomes == "deleted":
        remove(supervisor.store, [first])
    else:
        assert supervisor.store.requeue(first)
    wait_for(lambda: b"step" in engine.events(asked[0], asked[0].job.attempts[1], 0))
    Elsewhere.cancel(engine, asked[0])
    (tmp_path / "r8").touch()
    supervisor.settle()

    assert ["completed"] == states(store, [last])
    assert (0, "") == (store.get(last).lost_attempts, store.get(last).lost)


@pytest.mark.parametrize("why", ["cancelled", "too long"])
def test_a_job_is_ended_also_where_there_is_no_room_for_its_log(supervise, store, why):
    (run_id,) = sweep(store, 4)
    supervisor, engine = supervise(HANG_IN_EACH, run_minutes=0.01 if why == "too long" else None)

    def collect(live, *of):
        if engine.live():  # it is not forgotten yet
            raise OSError(errno.ENOSPC, "No space left on device")

    engine.collect = collect
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)
    if why == "cancelled":
        supervisor.cancel(run_id)
    wait_for(lambda: supervisor.tick() or store.get(run_id).state.ended)

    assert ["cancelled" if why == "cancelled" else "failed"] == states(store, [run_id])
    assert not engine.live()


def lost_so_often(store, times):
    """A worker that is killed before it begins anything, in so many jobs; the others complete their runs."""
    tries = store.home.parent / "tries"
    return worker(
        f"tries = open({str(tries)!r}, 'a+'); tries.write('x'); tries.flush()\n"
        f"if tries.tell() <= {times}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "for run_id in run_ids: begin(run_id) and complete(run_id)"
    )


def jobs_of(store):
    return len((store.home.parent / "tries").read_text())


@pytest.fixture(params=["local", "elsewhere"])
def anywhere(request, store, tmp_path):
    def start(command, **settings):
        engines = [Elsewhere(store, tmp_path / "elsewhere", command, 1)] if request.param == "elsewhere" else []
        return Supervisor(store, engines=engines, command=command, poll_seconds=0.02, **settings)

    return start


def test_a_job_that_is_lost_before_its_first_run_costs_that_run_an_attempt_and_the_sweep_goes_on(anywhere, store):
    run_ids = sweep(store, 4, 8, 16)

    supervisor = anywhere(lost_so_often(store, 2), max_attempts=3)
    supervisor.settle()
    supervisor.stop()

    assert ["completed"] * 3 == states(store, run_ids)
    assert [2, 0, 0] == [len(lost_reasons(store, run_id)) for run_id in run_ids]


def test_jobs_that_are_always_lost_before_their_first_run_end(anywhere, store):
    run_ids = sweep(store, 4, 8, 16, 32)

    supervisor = anywhere(lost_so_often(store, 99), max_attempts=2)
    supervisor.settle()
    supervisor.stop()

    assert ["failed"] * 4 == states(store, run_ids)
    assert 4 == jobs_of(store)
    assert store.get(run_ids[3]).error.startswith("Not started: 2 workers in a row completed no run")


def test_a_wish_to_cancel_outlives_the_app_and_the_worker(store):
    (run_id,) = sweep(store, 4)
    store.begin(run_id)
    store.ask_to_cancel(run_id)

    supervisor = Supervisor(RunStore(store.home), command=COMPLETE_ALL, max_attempts=3)
    supervisor.settle()
    supervisor.stop()

    assert (["cancelled"], []) == (states(store, [run_id]), lost_reasons(store, run_id))


class Holding(Elsewhere):
    """Ends nothing."""

    waits = ""

    def live(self):
        return [replace(live, waits=self.waits) for live in super().live()]

    def cancel(self, live, unless=lambda: False):
        raise EngineUnavailableError("Its cluster does not answer.")


@pytest.mark.parametrize("waits", ["", "Its cluster does not answer."])
def test_who_cancels_while_an_engine_is_away_leaves_a_wish_and_is_told_what_is_true(store, tmp_path, caplog, waits):
    (run_id,) = sweep(store, 4)
    engine = Holding(RunStore(store.home), tmp_path / "elsewhere", HANG_IN_EACH)
    supervisor = Supervisor(RunStore(store.home), engines=[engine], poll_seconds=0.02)
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)
    engine.waits = waits
    supervisor.tick()

    with pytest.raises(WorkerError, match="is asked to cancel it, and has not done so yet") as error:
        Supervisor(store, engines=[engine]).cancel(run_id, timeout_seconds=0.1)
    assert str(error.value).endswith(waits or "It goes on trying, unless it is stopped or hangs.")
    with pytest.raises(EngineUnavailableError, match=r"does not answer. The wish to cancel is kept"):
        supervisor.cancel(run_id)
    for _ in range(5):
        supervisor.tick()

    assert (["running"], "") == (states(store, [run_id]), store.cancel_word(run_id))
    assert 1 == caplog.text.count("does not answer")
    supervisor.stop()
    Elsewhere.cancel(engine, Elsewhere.live(engine)[0])


def test_a_run_that_takes_too_long_fails_with_the_limit_and_the_rest_of_its_sweep_goes_on(store, clock):
    run_ids = sweep(store, 4, 8)
    hangs_at_rank_4 = worker(
        "for run_id in run_ids:\n"
        "    if begin(run_id):\n"
        "        step(run_id)\n"
        "        if run_id.endswith('r4'): time.sleep(600)\n"
        "        complete(run_id)"
    )

    supervisor = Supervisor(store, command=hangs_at_rank_4, run_minutes=0.05)
    wait_for(lambda: supervisor.tick() or store.get(run_ids[0]).steps)
    supervisor.tick()  # by now it is seen to run
    clock[0] += 3.5
    supervisor.settle()
    supervisor.stop()

    assert ["failed", "completed"] == states(store, run_ids)
    assert store.get(run_ids[0]).error.startswith(
        "This run took more than 0.05 minutes, the most that this server allows. Use fewer steps, less gradient "
        "accumulation, "
    )


def test_a_place_that_the_owner_of_the_runs_pays_for_has_no_limit_of_this_server(store):
    class Paid(Local):
        is_limited = False

    (run_id,) = sweep(store, 4)
    slow = worker("begin(run_ids[0]); step(run_ids[0]); time.sleep(1.5); complete(run_ids[0])")

    supervisor = Supervisor(store, engines=[Paid(store.home, commands={"finetune": slow})], run_minutes=0.005)
    supervisor.start()
    supervisor.settle()
    supervisor.stop()

    assert RunState.COMPLETED is store.get(run_id).state


@pytest.fixture
def at_the_first(supervise, store):
    """Two runs of a sweep, whose job holds the first, with supervisor and engine."""
    first, last = sweep(store, 4, 8)
    supervisor, engine = supervise(FIRST_HANGS)
    wait_for(lambda: supervisor.tick() or store.get(first).steps)
    return first, last, supervisor, engine


def test_a_run_that_is_resumed_while_its_sweep_is_being_cancelled_is_not_cancelled_again(at_the_first, store):
    first, last, supervisor, engine = at_the_first
    asked = []

    def cancel(live, unless=lambda: False):
        asked.append(live)
        if len(asked) == 1:
            assert supervisor.store.requeue(last)  # by its owner, on another page
        if len(asked) < 3:
            raise EngineEndingError("It takes a while.")
        return Elsewhere.cancel(engine, live, unless)

    engine.cancel = cancel
    supervisor.cancel_runs([first, last])
    assert ["cancelled", "queued"] == states(store, [first, last])

    supervisor.settle()
    assert ["cancelled", "completed"] == states(store, [first, last])


def test_a_run_that_is_deleted_while_its_sweep_is_being_cancelled_is_in_nobody_s_way(at_the_first, store):
    first, last, supervisor, engine = at_the_first
    asked = []

    def cancel(live, unless=lambda: False):
        asked.append(live)
        if len(asked) == 1:
            remove(supervisor.store, [last])  # by its owner, on another page
            raise EngineEndingError("It takes a while.")
        return Elsewhere.cancel(engine, live, unless)

    engine.cancel = cancel
    supervisor.cancel_runs([first, last])

    assert ["cancelled"] == states(store, [first])
