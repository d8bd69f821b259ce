"""Cancel works at once, from anywhere, and leaves no process."""

import errno
import json

import psutil
import pytest

from rankviz.core.runs.record import RunState
from rankviz.errors import EngineUnavailableError
from rankviz.jobs.process import lock_file
from rankviz.jobs.supervisor import Supervisor
from rankviz.store import RunStore
from tests.support.processes.workers import (
    COMPLETE_ALL,
    HANG_IN_EACH,
    Patient,
    lives,
    processes_of,
    states,
    supervise,
    sweep,
    wait_for,
    waiting_for,
    worker,
)
from tests.support.runs import questions


def test_cancel_of_a_running_run_leaves_no_process_and_the_others_go_on(store):
    run_ids = sweep(store, 4, 8)
    hang_at_rank_4_with_a_child = worker(
        "for run_id in run_ids:\n"
        "    begin(run_id)\n"
        "    if run_id.endswith('r4'):\n"
        "        subprocess.Popen(['sleep', '61']); step(run_id); time.sleep(600)\n"
        "    complete(run_id)"
    )
    supervisor = supervise(store, hang_at_rank_4_with_a_child)
    wait_for(lambda: store.get(run_ids[0]).steps)
    leader = psutil.Process(store.get(run_ids[0]).environment["pid"])
    group = [leader, *leader.children(recursive=True)]

    supervisor.cancel(run_ids[0])

    assert 2 == len(group)
    assert not any(map(lives, group))
    assert RunState.CANCELLED is store.get(run_ids[0]).state
    supervisor.settle()
    supervisor.stop()
    assert ["cancelled", "completed"] == states(store, run_ids)


def test_cancel_of_a_sweep_ends_the_running_and_the_queued(store):
    sweep_id = store.create(questions.sweep(ranks=(4, 8, 16)))
    run_ids = store.run_ids(sweep_id)
    supervisor = supervise(store, HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)

    supervisor.cancel(sweep_id)
    supervisor.settle()
    supervisor.stop()

    assert ["cancelled"] * 3 == states(store, run_ids)
    assert 0 == len(store.get(run_ids[1]).steps)
    assert [] == processes_of(store.home)


def test_a_worker_deaf_to_sigterm_is_killed_within_the_grace(store):
    run_ids = sweep(store, 4)
    deaf = worker("signal.signal(signal.SIGTERM, signal.SIG_IGN); begin(run_ids[0]); step(run_ids[0]); time.sleep(600)")
    supervisor = supervise(store, deaf, grace_seconds=0.3)
    wait_for(lambda: store.get(run_ids[0]).steps)

    supervisor.cancel(run_ids[0])
    supervisor.stop()

    assert ["cancelled"] == states(store, run_ids)
    assert [] == processes_of(store.home)


def test_a_queued_run_can_be_cancelled_without_harm_to_the_running_one(store):
    run_ids = sweep(store, 4, 8)
    go = store.home / "go"
    waits = waiting_for(go)
    supervisor = supervise(store, waits)
    wait_for(lambda: store.get(run_ids[0]).steps)

    supervisor.cancel(run_ids[1])
    go.touch()
    supervisor.settle()
    supervisor.stop()

    assert ["completed", "cancelled"] == states(store, run_ids)


def test_a_run_whose_mark_cannot_be_written_holds_up_no_other_cancel(store, monkeypatch):
    first, bad = sweep(store, 4, 8)
    supervisor = Supervisor(store, command=HANG_IN_EACH)
    wait_for(lambda: supervisor.tick() or store.get(first).steps)
    (other,) = sweep(store, 16)
    begin = RunStore.begin

    def fails(self, run_id):
        if run_id == bad:
            raise OSError(errno.EIO, "Input/output error")
        return begin(self, run_id)

    with monkeypatch.context() as patch:
        patch.setattr(RunStore, "begin", fails)
        with pytest.raises(EngineUnavailableError, match=r"Input/output error.* The wish to cancel is kept"):
            supervisor.cancel_runs([bad, other])
        assert ["running", "queued", "cancelled"] == states(store, [first, bad, other])

    supervisor.tick()
    assert ["running", "cancelled"] == states(store, [first, bad])
    supervisor.cancel(first)
    supervisor.stop()


def test_cancelling_what_has_ended_changes_nothing(store):
    run_ids = sweep(store, 4)
    supervisor = supervise(store, COMPLETE_ALL)
    supervisor.settle()

    supervisor.cancel(run_ids[0])
    supervisor.stop()

    assert ["completed"] == states(store, run_ids)


def test_another_process_asks_the_supervisor_to_cancel(store):
    run_ids = sweep(store, 4)
    supervisor = supervise(store, HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)

    Patient(RunStore(store.home), command=HANG_IN_EACH).cancel(run_ids[0])
    supervisor.stop()

    assert ["cancelled"] == states(store, run_ids)
    assert [] == processes_of(store.home)


def test_cancel_works_where_nobody_supervises(store):
    run_ids = sweep(store, 4, 8)
    supervisor = supervise(store, HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)
    supervisor.stop()

    Patient(RunStore(store.home), command=HANG_IN_EACH).cancel(run_ids[0])

    assert ["cancelled", "queued"] == states(store, run_ids)
    assert [] == processes_of(store.home)


def test_a_restarted_supervisor_can_cancel_the_worker_it_found(store):
    run_ids = sweep(store, 4)
    first = supervise(store, HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)
    first.stop()

    second = supervise(RunStore(store.home), HANG_IN_EACH)
    second.cancel(run_ids[0])
    second.stop()

    assert ["cancelled"] == states(store, run_ids)
    assert [] == processes_of(store.home)


def test_a_worker_launched_by_a_supervisor_that_died_before_noting_its_pid_is_found_by_its_lock(store):
    run_ids = sweep(store, 4)
    first = supervise(store, HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)
    first.stop()
    lock_file(store.home).write_text(json.dumps({"pid": None, "run_ids": run_ids}))

    Patient(RunStore(store.home), command=HANG_IN_EACH).cancel(run_ids[0])

    assert ["cancelled"] == states(store, run_ids)
    assert [] == processes_of(store.home)
