"""Files of jobs in a runs folder that are damaged or gone: their own runs are tried again, and the others go on."""

import contextlib
import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from rankviz.core.runs.events import RunStarted
from rankviz.engines import Attempt, End, Job, bundle, listing
from rankviz.engines.ray import driver
from rankviz.engines.ray.engine import HOME_FILE, Ray
from rankviz.engines.ray.mirror import Mirror
from rankviz.engines.ray.terms import RESULT, Terms
from rankviz.errors import EngineUnavailableError
from rankviz.supervisor import Supervisor
from tests.support.processes.failing_reads import failing_reads
from tests.support.processes.workers import (
    COMPLETE_ALL,
    HANG_IN_EACH,
    lost_reasons,
    states,
    sweep,
    wait_for,
    waiting_for,
)

SECONDS = 300.0
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def supervise(store):
    started = []

    def start(engine) -> Supervisor:
        supervisor = Supervisor(store, engines=[engine], poll_seconds=0.05, max_attempts=3)
        supervisor.start()
        started.append(supervisor)
        return supervisor

    yield start
    for supervisor in started:
        supervisor.stop()


def packed(store, run_id):
    """The folder of a job that an earlier app has begun."""
    folder = store.home / "ray-jobs" / f"{run_id}-a1"
    bundle.pack(store, Job(attempts=(Attempt(run_id, 1),)), folder, engine="ray")
    store.begin(run_id)
    store.append(run_id, RunStarted(time=1.0, attempt=1, environment={}))
    return folder


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"why": 3}', b'{"later": true}', b"[" * 100_000])
def test_a_result_that_cannot_be_read_is_the_loss_of_its_own_job_only(store, content):
    damaged, whole = sweep(store, 4, 8)
    (packed(store, damaged) / RESULT).write_bytes(content)
    packed(store, whole)

    of_damaged, of_whole = Ray(store).live()

    assert of_damaged.end.lost
    assert f"How its job ended can no longer be read ({damaged}-a1/result.json in ray-jobs)." == of_damaged.end.why
    assert of_whole.end is None


def test_a_damaged_name_of_the_runs_folder_keeps_no_job_from_being_seen(store):
    (run_id,) = sweep(store, 4)
    packed(store, run_id)
    (store.home / HOME_FILE).write_bytes(b"\xff")
    engine = Ray(store, address="127.0.0.1:1")

    assert [None] == [live.end for live in engine.live()]
    engine.release()


@pytest.fixture
def failing(monkeypatch):
    """Files of these names cannot be read now, and are not damaged."""
    names, opens = set(), Path.open

    def fail(path, *args, **settings):
        if path.name in names:
            raise OSError(errno.EMFILE, "Too many open files")
        return opens(path, *args, **settings)

    monkeypatch.setattr(Path, "open", fail)
    return names


@pytest.mark.parametrize("file", [bundle.JOB_FILE, RESULT])
def test_a_job_that_cannot_be_read_now_waits_and_another_one_does_not(store, file):
    unread, other = sweep(store, 4, 8)
    for run_id in (unread, other):
        (packed(store, run_id) / RESULT).write_text('{"exit_code": 0}')

    with failing_reads(store.home / "ray-jobs" / f"{unread}-a1", names=(file,)):
        of_unread, of_other = Ray(store).live()

    assert (None, (Attempt(unread, 1),)) == (of_unread.end, of_unread.job.attempts)
    assert f"({unread}-a1/{file}: Input/output error). Its runs wait" in of_unread.waits
    assert End(exit_code=0) == of_other.end
    assert [End(exit_code=0)] * 2 == [live.end for live in Ray(store).live()]


def test_a_job_that_cannot_be_seen_now_is_there(store, monkeypatch):
    (run_id,) = sweep(store, 4)
    file, stat = packed(store, run_id) / bundle.JOB_FILE, os.stat

    def fails(path, *given, **named):
        if path == file:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return stat(path, *given, **named)

    monkeypatch.setattr(os, "stat", fails)

    assert [run_id] == [live.job.attempts[0].run_id for live in Ray(store).live()]


def test_a_full_disk_is_no_matter_of_one_job(tmp_path):
    def fails(folder):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    with pytest.raises(OSError, match="No space left"):
        listing.each([tmp_path / "r4-a1"], fails)


def test_a_driver_follows_a_job_as_soon_as_it_can_be_read_and_ends_the_slot_of_a_damaged_one(
    store, failing, monkeypatch
):
    whole, damaged = sweep(store, 4, 8)
    folder = packed(store, whole)
    (packed(store, damaged) / bundle.JOB_FILE).write_text("{")
    ended = []
    monkeypatch.setattr(driver, "Follower", lambda folder, terms, cluster: Mirror(folder))
    monkeypatch.setattr(driver.Driver, "_end_slot", lambda self, name: ended.append(name))
    for other in ("_end_strangers", "_scan_always", "_refresh_always"):
        monkeypatch.setattr(driver.Driver, other, lambda self: None)
    monkeypatch.setattr(driver, "Cluster", lambda terms: None)
    failing.add(bundle.JOB_FILE)

    looking = driver.Driver(Terms(address="", namespace="", jobs=store.home / "ray-jobs"))
    assert [] == ended
    unread = looking.of(folder.name)
    failing.clear()

    assert [whole] == looking.of(folder.name).run_ids
    assert [f"{damaged}-a1"] == ended
    assert unread.end().by_us
    assert folder.name == ended[-1]


def test_a_driver_drops_its_jobs_where_somebody_removed_the_folder_of_all(tmp_path, monkeypatch):
    dropped = threading.Event()
    looking = driver.Driver.__new__(driver.Driver)
    looking._terms, looking._lock = Terms(address="", namespace="", jobs=tmp_path / "gone"), threading.Lock()
    looking._followers, looking._unreadable = {"r4-a1": SimpleNamespace(drop=dropped.set)}, set()

    looking._scan()

    assert dropped.wait(60.0)


def test_a_folder_of_jobs_that_cannot_be_listed_just_now_is_not_taken_for_empty(store, monkeypatch):
    """As Path.glob takes it from Python 3.13 on."""
    (run_id,) = sweep(store, 4)
    packed(store, run_id)

    def fail(*args):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as failing:
        failing.setattr("os.scandir", fail)
        failing.setattr("os.listdir", fail)
        with pytest.raises(OSError, match="Too many open files"):
            Ray(store).live()

    assert [run_id] == [live.job.attempts[0].run_id for live in Ray(store).live()]


def test_a_driver_looks_again_where_the_folder_of_all_jobs_could_not_be_read(monkeypatch):
    looks = iter([OSError(errno.EMFILE, "Too many open files"), KeyboardInterrupt()])

    def scan(self):
        raise next(looks)

    monkeypatch.setattr(driver.Driver, "_scan", scan)

    with pytest.raises(KeyboardInterrupt):
        driver.Driver.__new__(driver.Driver)._scan_always()


@pytest.mark.parametrize("content", [b"", b"{", None])
def test_a_damaged_journal_is_not_that_of_a_run_that_has_ended(store, content):
    (run_id,) = sweep(store, 4)
    folder = packed(store, run_id)
    mirror = Mirror(folder)
    journal = bundle.journal(folder, run_id)
    journal.unlink() if content is None else journal.write_bytes(content)

    assert not mirror.is_complete()


def test_runs_whose_journals_are_gone_are_tried_again(tmp_path, two_slots, store, supervise):
    """One journal was removed before a driver looked, one while its run was going."""
    before, meanwhile = sweep(store, 4), sweep(store, 8)
    bundle.journal(packed(store, *before), *before).unlink()
    go = tmp_path / "go"
    supervisor = supervise(two_slots.engine(store, waiting_for(go)))
    wait_for(lambda: store.get(*meanwhile).steps)

    bundle.journal(store.home / "ray-jobs" / f"{meanwhile[0]}-a1", *meanwhile).unlink()
    wait_for(lambda: store.get(*meanwhile).attempt == 2)
    go.touch()
    supervisor.settle(SECONDS)

    assert ["completed"] * 2 == states(store, [*before, *meanwhile])
    reason = "A file of the job in ray-jobs was removed while it ran (events.jsonl)."
    assert [[reason], [reason]] == [lost_reasons(store, run_id) for run_id in (*before, *meanwhile)]


def test_a_job_that_cannot_be_read_now_is_ended_where_its_run_is_cancelled(two_slots, store, supervise):
    (run_id,) = sweep(store, 4)
    first = supervise(two_slots.engine(store, HANG_IN_EACH))
    wait_for(lambda: store.get(run_id).steps)
    first.stop()
    file = store.home / "ray-jobs" / f"{run_id}-a1" / bundle.JOB_FILE
    hidden = file.rename(file.with_name("hidden"))
    file.symlink_to("/proc/self/mem")  # reading its beginning fails with EIO, also in the driver

    supervisor = supervise(two_slots.engine(store, HANG_IN_EACH))
    wait_for(lambda: "cannot be read now" in store.get(run_id).waits)
    assert hidden.exists() and two_slots.slots()
    with contextlib.suppress(EngineUnavailableError):  # the wish is kept while the driver connects
        supervisor.cancel(run_id, SECONDS)

    wait_for(lambda: states(store, [run_id]) == ["cancelled"])
    wait_for(lambda: not two_slots.slots())


def test_the_slot_of_a_job_that_cannot_be_read_any_more_ends(two_slots, store, supervise):
    (run_id,) = sweep(store, 4)
    first = supervise(two_slots.engine(store, HANG_IN_EACH))
    wait_for(lambda: store.get(run_id).steps)
    first.stop()

    (store.home / "ray-jobs" / f"{run_id}-a1" / bundle.JOB_FILE).write_text("{")
    supervise(two_slots.engine(store, COMPLETE_ALL))

    wait_for(lambda: store.get(run_id).state.ended)
    assert ["failed"] == states(store, [run_id])
    wait_for(lambda: not two_slots.slots())
