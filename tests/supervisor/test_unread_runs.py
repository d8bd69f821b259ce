"""A run whose files stay unreadable holds up nobody: neither others' runs, nor a cancel, nor the limit on time."""

import errno
import logging
import os
from contextlib import contextmanager

import pytest

from rankviz.core.runs.events import AttemptPlaced, RunRequeued, StageReached
from rankviz.errors import EngineUnavailableError
from rankviz.jobs import bundle
from rankviz.jobs.local import Local
from rankviz.jobs.supervisor import Supervisor, ending
from rankviz.machine import disk
from rankviz.store import RunStore
from rankviz.store.ownership import Destination, write_destination
from tests.support.engines.elsewhere import Elsewhere
from tests.support.processes.failing_reads import failing_reads
from tests.support.processes.workers import COMPLETE_ALL, states, sweep, wait_for, waiting_for

LATER = StageReached(time=3.0, stage="loading", attempt=1)


def begun(supervisor, store, *run_ids):
    wait_for(lambda: supervisor.tick() or all(store.get(run_id).steps for run_id in run_ids))


def unread(store, run_id, code=errno.EIO):
    """Within it, the run's journal cannot be read, and there is something new in it."""
    store.append(run_id, LATER)
    return failing_reads(store.run_dir(run_id), code)


@contextmanager
def failing_reads_of_a_job(live):
    """Within it, what the job wrote of its first run cannot be read."""
    since = bundle.since

    def fails(folder, run_id, offset):
        if run_id == live.job.attempts[0].run_id:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return since(folder, run_id, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "since", fails)
        yield


def ends_of(engine):
    return [live.end is not None for live in engine.live()]


@pytest.fixture
def at_once(monkeypatch):
    """Nothing that cannot be read is waited for."""
    monkeypatch.setattr(ending, "DONE_SECONDS", 0.0)


def test_others_runs_start_and_are_cancelled_while_the_journal_of_one_cannot_be_read(supervise, store):
    (bad,) = sweep(store, 4)
    supervisor, engine = supervise()
    begun(supervisor, store, bad)
    (other,) = sweep(store, 8)

    with unread(store, bad):
        wait_for(lambda: supervisor.tick() or store.get(other).steps)
        supervisor.cancel(other)
        assert ["cancelled"] == states(store, [other])
        wait_for(lambda: len(engine.live()) == 1)

    supervisor.tick()
    assert ["running"] == states(store, [bad])


def test_it_is_said_once_that_a_run_cannot_be_read(supervise, store, caplog):
    (bad,) = sweep(store, 4)
    supervisor, _ = supervise()
    begun(supervisor, store, bad)

    with unread(store, bad), caplog.at_level(logging.WARNING):
        for _ in range(5):
            supervisor.tick()

    assert 1 == sum("Input/output error" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("is_full", [False, True])
def test_runs_without_a_job_are_settled_though_another_of_them_cannot_be_read(store, monkeypatch, is_full):
    if is_full:
        monkeypatch.setattr(disk, "LEAST_FREE_BYTES", 2**80)
    bad, other = sweep(store, 4, 8)
    for run_id in (bad, other):
        store.begin(run_id)
        store.append(run_id, LATER)
    here = RunStore(store.home)
    assert ["running"] * 2 == states(here, [bad, other])
    supervisor = Supervisor(here)

    with unread(store, bad):
        supervisor.tick()
        assert ["failed"] == states(here, [other])

    supervisor.tick()
    supervisor.stop()
    assert ["failed"] == states(here, [bad])


def test_a_limit_on_time_holds_for_a_run_that_cannot_be_read(supervise, store, at_once):
    (bad,) = sweep(store, 4)
    supervisor, engine = supervise(run_minutes=0.001)
    wait_for(lambda: supervisor.tick() or store.get(bad).place.job)

    with failing_reads(store.run_dir(bad)):
        wait_for(lambda: supervisor.tick() or ends_of(engine) == [True])

    wait_for(lambda: supervisor.tick() or store.get(bad).state.ended)
    assert "took more than 0.001 minutes" in store.get(bad).error


def test_a_wish_to_cancel_a_run_that_cannot_be_read_is_kept_and_its_job_is_ended(supervise, store, monkeypatch):
    (bad,) = sweep(store, 4)
    supervisor, engine = supervise()
    begun(supervisor, store, bad)

    with unread(store, bad):
        with pytest.raises(EngineUnavailableError, match=r"Input/output error.* The wish to cancel is kept"):
            supervisor.cancel(bad)
        supervisor.tick()
        assert [False] == ends_of(engine)
        monkeypatch.setattr(ending, "DONE_SECONDS", 0.0)
        wait_for(lambda: supervisor.tick() or ends_of(engine) == [True])

    wait_for(lambda: supervisor.tick() or store.get(bad).state.ended)
    assert ["cancelled"] == states(store, [bad])


def test_a_job_is_not_ended_for_a_run_that_waits_in_it_and_cannot_be_read(supervise, store, at_once):
    first, bad = sweep(store, 4, 8)
    supervisor, engine = supervise(machines=1)
    begun(supervisor, store, first)

    with failing_reads(store.run_dir(bad)):
        with pytest.raises(EngineUnavailableError, match="The wish to cancel is kept"):
            supervisor.cancel(bad)
        supervisor.tick()
        assert ([False], ["running"]) == (ends_of(engine), states(store, [first]))

    wait_for(lambda: supervisor.tick() or store.get(bad).state.ended)
    assert ["running", "cancelled"] == states(store, [first, bad])


def test_the_rest_of_a_sweep_is_cancelled_though_a_run_of_it_cannot_be_read(supervise, store):
    first, bad, last = sweep(store, 4, 8, 16)
    supervisor, _ = supervise(machines=1)
    begun(supervisor, store, first)

    store.append(bad, AttemptPlaced(time=3.0, attempt=1, engine="elsewhere", where="another machine"))

    with failing_reads(store.run_dir(bad)), pytest.raises(EngineUnavailableError, match="cannot be read now"):
        supervisor.cancel_runs([first, bad, last])

    supervisor.tick()
    assert ["cancelled", "cancelled"] == states(store, [first, last])
    supervisor.settle()
    assert ["cancelled"] == states(store, [bad])


def test_a_job_whose_own_files_cannot_be_read_is_cancelled_after_a_while(supervise, store, monkeypatch):
    (run_id,) = sweep(store, 4)
    supervisor, engine = supervise()
    begun(supervisor, store, run_id)
    (live,) = engine.live()

    with failing_reads_of_a_job(live):
        with pytest.raises(EngineUnavailableError, match="its job is ended all the same after 60 s"):
            supervisor.cancel(run_id, timeout_seconds=0.0)
        assert {} == supervisor.away
        monkeypatch.setattr(ending, "DONE_SECONDS", 0.0)
        supervisor.tick()

    assert ([], ["cancelled"]) == (ends_of(engine), states(store, [run_id]))


def test_a_limit_on_time_holds_for_a_job_whose_own_files_cannot_be_read(supervise, store, at_once):
    (run_id,) = sweep(store, 4)
    supervisor, engine = supervise(run_minutes=0.01)
    begun(supervisor, store, run_id)
    (live,) = engine.live()

    with failing_reads_of_a_job(live):
        wait_for(lambda: supervisor.tick() or store.get(run_id).state.ended)

    assert "took more than 0.01 minutes" in store.get(run_id).error


def test_a_place_of_this_machine_becomes_free_though_a_run_that_ended_there_cannot_be_read(store, tmp_path, at_once):
    (bad,) = sweep(store, 4)
    here = RunStore(store.home)
    supervisor = Supervisor(here, command=waiting_for(tmp_path / "go"))
    begun(supervisor, store, bad)
    (other,) = sweep(store, 8)

    with unread(store, bad):
        (tmp_path / "go").touch()
        wait_for(lambda: supervisor.tick() or store.get(other).state.ended)
        assert ["completed"] == states(here, [other])

    supervisor.settle()
    supervisor.stop()
    assert ["completed"] == states(store, [bad])


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_sweep_whose_journal_cannot_be_read_as_it_starts_waits_and_runs(supervise, store, when):
    run_ids = sweep(store, 4, 8)

    class Stumbling(Elsewhere):
        starts = 0

        def start(self, job):
            self.starts += 1
            live = super().start(job)
            if when == "after":
                failing.__enter__()
            return live

    failing = failing_reads(store.run_dir(run_ids[1]))
    supervisor, engine = supervise(COMPLETE_ALL, make=Stumbling, machines=1)
    assert ["queued"] * 2 == states(supervisor.store, run_ids)
    store.append(run_ids[1], RunRequeued(time=1.0))
    if when == "before":
        failing.__enter__()
    for _ in range(3):
        supervisor.tick()
    failing.__exit__(None, None, None)

    assert int(when == "after") == engine.starts
    assert 1 == sum(isinstance(event, AttemptPlaced) and not event.job for event in store.events(run_ids[0]))
    supervisor.settle()
    assert (["completed"] * 2, 1) == (states(store, run_ids), engine.starts)
    assert [1, 2] == [store.get(run_id).attempt for run_id in run_ids]


def test_a_sweep_waits_and_says_why_while_too_many_files_are_open_to_start_it(store):
    (run_id,) = sweep(store, 4)

    class Busy(Local):
        is_busy = True

        def start(self, job):
            if self.is_busy:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().start(job)

    engine = Busy(store.home, commands={"finetune": COMPLETE_ALL})
    supervisor = Supervisor(store, engines=[engine])
    supervisor.tick()
    record = store.get(run_id)
    assert ("queued", "The worker could not be started: [Errno 24] Too many open files") == (record.state, record.waits)

    engine.is_busy = False
    supervisor.settle()
    supervisor.stop()
    assert (["completed"], "") == (states(store, [run_id]), store.get(run_id).waits)


def test_runs_of_no_engine_fail_though_one_of_them_cannot_be_read(store):
    bad, other = sweep(store, 4, 8)
    for run_id in (bad, other):
        write_destination(store.run_dir(run_id), Destination("gone"))
    here = RunStore(store.home)
    supervisor = Supervisor(here)
    assert ["queued"] * 2 == states(here, [bad, other])
    store.append(bad, RunRequeued(time=1.0))

    with failing_reads(store.run_dir(bad)):
        supervisor.tick()
        assert ["failed"] == states(here, [other])

    supervisor.settle()
    supervisor.stop()
    assert "There is no engine" in store.get(bad).error
