"""A job is ended for one of its runs, and its engine does that late, or does not say so: what becomes of that run, and
of another one that the job has begun meanwhile."""

import errno
import os

import pytest

from rankviz.errors import EngineEndingError, EngineUnavailableError
from rankviz.jobs.supervisor import ending
from rankviz.store.removal import remove
from tests.support.engines.elsewhere import Elsewhere, ends_later
from tests.support.processes.workers import HANG_IN_EACH, states, sweep, wait_for, worker


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


def test_a_run_that_took_too_long_says_so_also_where_the_answer_of_its_engine_was_lost(supervise, store):
    (run_id,) = sweep(store, 4)
    supervisor, engine = supervise(HANG_IN_EACH, run_minutes=0.01)

    def cancel(live, unless=lambda: False):
        if not unless():
            Elsewhere.cancel(engine, live)
        raise EngineUnavailableError("The answer was lost.")

    engine.cancel = cancel
    wait_for(lambda: supervisor.tick() or store.get(run_id).state.ended or store.get(run_id).attempt > 1)

    assert "took more than 0.01 minutes" in store.get(run_id).error


def test_of_a_run_that_took_too_long_its_log_is_here(supervise, store):
    (run_id,) = sweep(store, 4)
    says = "(store.run_dir(run_ids[0]) / 'worker.log').write_text('Step by step.')\n"
    supervisor, _ = supervise(worker(says + "begin(run_ids[0])\nstep(run_ids[0])\ntime.sleep(600)"), run_minutes=0.01)

    wait_for(lambda: supervisor.tick() or store.get(run_id).state.ended)

    assert "Step by step." in store.get(run_id).log_tail


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


def test_a_job_that_is_cancelled_is_ended_also_where_there_is_no_room_for_its_steps(supervise, store, monkeypatch):
    (run_id,) = sweep(store, 4)
    goes_on = "begin(run_ids[0])\nfor number in range(1, 10**6):\n    step(run_ids[0], number)\n    time.sleep(0.02)"
    supervisor, engine = supervise(worker(goes_on))
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)
    journal, kept = (store.run_dir(run_id) / name for name in ("events.jsonl", "kept"))
    os.link(journal, kept)
    os.symlink("/dev/full", journal.with_name("full"))
    os.replace(journal.with_name("full"), journal)
    (live,) = engine.live()
    wait_for(lambda: len(engine.events(live, live.job.attempts[0], kept.stat().st_size)) > 0)

    with pytest.raises(EngineEndingError, match=r"The disk is full\..* its job is ended all the same after 60 s\."):
        supervisor.cancel(run_id, timeout_seconds=0.0)
    monkeypatch.setattr(ending, "DONE_SECONDS", 0.0)
    supervisor.cancel(run_id)
    assert not engine.live()

    os.replace(kept, journal)
    supervisor.settle()
    assert ["cancelled"] == states(store, [run_id])
