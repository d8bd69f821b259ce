"""A run whose files stay unreadable holds up nobody: neither others' runs, nor a cancel, nor the limit on time."""

import contextlib
import errno

import pytest

from rankviz.core.runs.events import StageReached
from rankviz.errors import RunUnreadError
from rankviz.jobs import ending
from rankviz.jobs.local import Local
from rankviz.jobs.supervisor import Supervisor
from rankviz.store import RunStore
from tests.support.processes.failing_reads import failing_reads
from tests.support.processes.workers import COMPLETE_ALL, states, sweep, wait_for, waiting_for

LATER = StageReached(time=3.0, stage="loading", attempt=1)


def begun(supervisor, store, *run_ids):
    wait_for(lambda: supervisor.tick() or all(store.get(run_id).steps for run_id in run_ids))


def unread(store, run_id, code=errno.EIO):
    """Within it, the run's journal cannot be read, and there is something new in it."""
    store.append(run_id, LATER)
    return failing_reads(store.run_dir(run_id), code)


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


UNREAD = ("events.jsonl", "request.json")


def tick_in_vain(supervisor, store, code=errno.EMFILE):
    with failing_reads(store.runs_dir, code, UNREAD), contextlib.suppress(OSError):
        supervisor.tick()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("anew", [False, True])
def test_a_job_goes_on_while_the_journal_of_its_run_cannot_be_read(supervise, store, code, anew):
    (run_id,) = sweep(store, 4)
    supervisor, engine = supervise()
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)
    if anew:
        supervisor.stop()
        supervisor, engine = supervise()
    store.append(run_id, StageReached(time=3.0, stage="loading", attempt=1))

    tick_in_vain(supervisor, store, code)
    supervisor.tick()

    assert [None] == [live.end for live in engine.live()]
    assert ["running"] == states(store, [run_id])


def test_a_job_goes_on_where_a_supervisor_that_takes_over_cannot_see_it_yet(supervise, store):
    (run_id,) = sweep(store, 4)
    supervisor, _ = supervise()
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)
    supervisor.stop()
    later, engine = supervise()

    def unread():
        raise RunUnreadError("another", "Input/output error")

    engine.live = unread
    later.tick()
    assert (["running"], 1) == (states(store, [run_id]), store.get(run_id).attempt)
    del engine.live
    later.tick()

    assert (["running"], 1) == (states(store, [run_id]), store.get(run_id).attempt)
