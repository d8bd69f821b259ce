"""What is written down of jobs and cannot be read: it costs its own runs, and no others."""

import errno
import json
import os
import shutil
import time

import pytest

from rankviz.errors import EngineError
from rankviz.jobs.hf_jobs import returning
from rankviz.jobs.prices import FORGOTTEN, HOME_FILE, LEFT_SECONDS, RENTED, SPENT, Papers, Rented, purse
from tests.support.engines.hub_jobs import only_job, sweep
from tests.support.processes.workers import HANG_IN_EACH, states, wait_for, waiting_for

GONE = "the file is not there"
RENTED_JOB = Rented(account="alice", flavor="l4x1", usd_per_minute=0.01, timeout_seconds=600, sweep_id="s", owner="ann")


@pytest.mark.parametrize("file", [RENTED, "job.json"])
@pytest.mark.parametrize("content", ["", "[]", "{}", '{"account": 1}', "[" * 5000, None, GONE])
def test_a_job_that_cannot_be_read_ends_its_runs_with_where_to_look_and_no_others(supervise, store, hub, file, content):
    lost = sweep(store, 2, 4, flavor="l4x1", spend="2")
    first = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(lost[0]).steps)
    first.stop()
    path = store.home / "hf-jobs" / f"{lost[0]}-a1" / file
    known = json.loads(path.read_text())
    path.write_text(json.dumps({**known, "timeout_seconds": -1, "attempts": 3}) if content is None else content)
    if content is GONE:
        path.unlink()
    other = sweep(store, 8)

    supervisor = supervise()
    supervisor.settle()

    assert ["failed", "failed", "completed"] == states(store, [*lost, *other])
    for run_id in lost:
        assert f"({lost[0]}-a1/{file}). Look at https://huggingface.co/settings/jobs" in store.get(run_id).error
    first_job, _ = hub.jobs.values()
    wait_for(lambda: first_job.stage == "CANCELED")
    bill = supervisor.engines[0].bill(store.get(lost[0]).request.sweep_id)
    assert (bill.jobs, bill.usd, bill.is_whole) != (1, 0.0, True)
    wait_for(lambda: supervisor.engines[0].papers.missing() == {})
    assert supervisor.engines[0].bill(store.get(lost[0]).request.sweep_id).most_usd > 0


def test_papers_that_cannot_be_read_just_now_are_not_taken_for_damaged(tmp_path, monkeypatch):
    papers, folder = Papers(tmp_path), tmp_path / "hf-jobs" / "r4-a1"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text('{"kind": "finetune", "attempts": ["r4@1"]}')
    papers.write(folder, RENTED_JOB)

    def fail(*args, **settings):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as failing:
        failing.setattr("pathlib.Path.open", fail)
        with pytest.raises(OSError, match="Too many open files"):
            papers.trouble(folder)

    assert "" == papers.trouble(folder)


def test_where_what_was_spent_cannot_be_read_runs_wait_and_say_so(supervise, store, hub):
    (run_id,) = sweep(store, 4)
    file = store.home / "hf-jobs" / SPENT
    file.parent.mkdir(parents=True)
    file.write_text("{")

    supervisor = supervise()
    wait_for(lambda: "What jobs have cost cannot be read" in store.get(run_id).waits)
    assert {} == hub.jobs
    file.unlink()
    supervisor.settle()

    assert ["completed"] == states(store, [run_id])


@pytest.mark.parametrize("name", ["{}.bak", "{}-a2", "{}7", "copy-of-{}"])
@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_copy_that_somebody_made_of_a_folder_is_no_job(supervise, store, hub, tmp_path, name, is_damaged):
    (run_id,) = sweep(store, 4)
    first = supervise(waiting_for(tmp_path / "go"))
    wait_for(lambda: store.get(run_id).steps)
    first.stop()
    (folder,) = first.engines[0].papers.folders()
    copy = folder.with_name(name.format(folder.name))
    shutil.copytree(folder, copy)
    if is_damaged:
        (copy / RENTED).write_text("")
    (tmp_path / "go").touch()

    supervisor = supervise(waiting_for(tmp_path / "go"))
    supervisor.settle()

    engine = supervisor.engines[0]
    assert (["completed"], {}) == (states(store, [run_id]), supervisor.away)
    assert ({folder.name}, {}) == (engine.papers.forgotten(), engine.papers.missing())
    bill = engine.bill(store.get(run_id).request.sweep_id)
    assert (1, True) == (bill.jobs, bill.is_whole)
    assert copy.is_dir()


def test_a_job_that_cannot_be_read_and_whose_runs_were_deleted_keeps_nobody_waiting(supervise, store, hub, logins):
    logins.give("", "hf_alice")
    (lost,) = sweep(store, 4, owner="", spend="2")
    first = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(lost).steps)
    first.stop()
    sweep_id = store.get(lost).request.sweep_id
    (store.home / "hf-jobs" / f"{lost}-a1" / RENTED).write_text("")
    shutil.rmtree(store.run_dir(lost))
    (other,) = sweep(store, 2)

    supervisor = supervise()
    supervisor.settle()

    assert (["completed"], {}) == (states(store, [other]), supervisor.away)
    first_job, _ = hub.jobs.values()
    wait_for(lambda: first_job.stage == "CANCELED")
    assert supervisor.engines[0].bill(sweep_id).most_usd > 0


def test_what_is_written_down_of_a_job_is_on_the_disk_before_it_counts(supervise, store, hub, monkeypatch):
    synced, replaced, unsynced = set(), set(), set()
    sync, replace = os.fsync, os.replace

    def note_sync(descriptor):
        sync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def note_replace(source, target):
        if os.path.isfile(source):
            replaced.add(os.path.basename(target))
            if os.stat(source).st_ino not in synced:
                unsynced.add(str(target))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    (run_id,) = sweep(store, 4)
    supervise().settle()

    limit = f"limit-{purse(store.get(run_id).request.sweep_id, 'ann')}"
    assert {RENTED, FORGOTTEN, SPENT, limit, HOME_FILE} <= replaced
    assert set() == {target for target in unsynced if "worker.log" not in target}
    assert only_job(hub).stage == "COMPLETED"


def test_a_folder_that_has_gone_is_not_made_again_by_what_comes_late(store):
    papers = Papers(store.home)
    folder = papers.folder("r4@1")

    with pytest.raises(FileNotFoundError):
        papers.write(folder, RENTED_JOB)

    assert not folder.exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"\n", b"a b"])
def test_a_name_of_the_runs_folder_that_cannot_be_read_is_made_anew(store, content):
    store.home.mkdir(parents=True, exist_ok=True)
    (store.home / HOME_FILE).write_bytes(content)

    label = Papers(store.home).labels_of_home()["home"]

    assert 16 == len(label)
    assert label == Papers(store.home).labels_of_home()["home"]


@pytest.mark.parametrize(
    "number, error", [(errno.ENOTEMPTY, EngineError), (errno.EEXIST, EngineError), (errno.ENOSPC, OSError)]
)
def test_a_job_is_here_already_only_where_its_folder_is(store, monkeypatch, number, error):
    papers = Papers(store.home)

    def rename(*paths):
        raise OSError(number, "no")

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(error), papers.making(papers.folder("run@1")) as aside:
        aside.mkdir(parents=True)
    assert [] == list(papers.place.iterdir())


def test_what_was_half_made_by_somebody_who_was_killed_is_removed(store):
    papers = Papers(store.home)
    old, new, job = (papers.place / name for name in (".01234567", ".89abcdef", "run-a1"))
    for folder in (old, new, job):
        folder.mkdir(parents=True)
    written = papers.place / ".fedcba98"
    written.touch()
    for folder in (old, job, written):
        os.utime(folder, (0, time.time() - LEFT_SECONDS - 60))

    returning.settle(papers, store)

    assert {new, job} == set(papers.place.iterdir())
