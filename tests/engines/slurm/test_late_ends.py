"""Slurm ends a job some time after it was asked to: what becomes of its runs, also where another app sees that."""

import threading
from types import SimpleNamespace

import pytest

from rankviz.store import RunStore
from rankviz.supervisor import stopwatch
from tests.support.processes.workers import HANG_IN_EACH, Patient, each_waits_for, states, sweep, wait_for


@pytest.fixture
def supervise(store, cluster):
    """Supervisors that look when they are told to; all are stopped."""
    started = []

    def start(command, **settings) -> Patient:
        here = RunStore(store.home)
        engine = cluster.engine(here, command)
        started.append(Patient(here, engines=[engine], poll_seconds=0.05, max_attempts=2, **settings))
        return started[-1]

    yield start
    for supervisor in started:
        supervisor.stop()


@pytest.mark.parametrize("is_listed", [True, False])
def test_a_run_that_took_too_long_says_so_also_after_a_restart(store, cluster, supervise, is_listed):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(HANG_IN_EACH, run_minutes=0.01)
    wait_for(lambda: supervisor.tick() or (cluster.jobs and cluster.jobs[0].state == "CANCELLED"))
    supervisor.stop()
    wait_for(lambda: cluster.jobs[0].has_ended)
    if not is_listed:
        cluster.forget_ended()

    later = supervise(HANG_IN_EACH, run_minutes=60)
    wait_for(lambda: later.tick() or store.get(run_id).state.ended or store.get(run_id).attempt > 1)

    assert "took more than 60 minutes" in store.get(run_id).error


@pytest.mark.parametrize("why", ["unwanted", "unwanted, and a restart", "too long"])
def test_what_a_job_has_begun_before_slurm_ends_it_begins_anew(store, cluster, supervise, tmp_path, monkeypatch, why):
    first, ended_for, last = sweep(store, 2, 4, 8)
    now, asked, ends = [0.0], [], threading.Event()
    monkeypatch.setattr(stopwatch, "time", SimpleNamespace(monotonic=lambda: now[0]))
    command = each_waits_for(tmp_path)
    supervisor = supervise(command, run_minutes=1)

    def scancel(answer):
        asked.append(answer)
        ends.wait()
        return answer()

    cluster.faults["scancel"] = scancel
    wait_for(lambda: supervisor.tick() or store.get(first).steps)
    if why != "too long":
        supervisor.cancel(ended_for)
    (tmp_path / "r2").touch()
    wait_for(lambda: supervisor.tick() or store.get(first).state.ended)
    if why == "too long":
        wait_for(lambda: supervisor.tick() or store.get(ended_for).steps)
        supervisor.tick()
        now[0] = 61.0
    wait_for(lambda: supervisor.tick() or asked)
    (tmp_path / "r4").touch()
    wait_for(lambda: supervisor.tick() or store.get(last).steps)
    if why == "unwanted, and a restart":
        supervisor.stop()
        supervisor = supervise(command)
    ends.set()
    wait_for(lambda: cluster.jobs[0].has_ended)
    (tmp_path / "r8").touch()
    supervisor.settle()

    assert ["completed", "completed" if why == "too long" else "cancelled"] == states(store, [first, ended_for])
    assert (["completed"], 0, "") == (states(store, [last]), store.get(last).lost_attempts, store.get(last).lost)
