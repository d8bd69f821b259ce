"""Runs that come or go together, where whoever publishes or removes them is killed or fails on the way."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rankviz.core.runs.events import RunCancelled
from rankviz.errors import InvalidSettingError
from rankviz.store import RunStore, export_runs, import_runs
from rankviz.store.removal import ABANDONED_SECONDS, remove, tidy
from tests.support.processes.hostile_disks import fill, small_disk
from tests.support.runs import questions

RANKS = (1, 2, 4, 8)
KILLED = """
import os, sys
from pathlib import Path
from rankviz.store import RunStore, import_runs
from rankviz.store.removal import remove
from tests.support.runs import questions

home, call, left, ranks = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), eval(sys.argv[4])
real = getattr(os, call)

def dies(*paths):
    global left
    last = Path(paths[-1])
    if last.parent == home / "runs" and (last.name.startswith((".publishing", ".gone-")) or last.name[0] != "."):
        if left == 0:
            os._exit(9)
        left -= 1
    return real(*paths)

setattr(os, call, dies)
store = RunStore(home)
if sys.argv[5:] == ["remove"]:
    remove(store, [record.run_id for record in store.records()])
elif sys.argv[5:]:
    import_runs(store, Path(sys.argv[5]))
else:
    store.create(questions.sweep(ranks=ranks))
"""


@pytest.fixture
def killed(tmp_path):
    """killed(call, after, *what): the store of an app that was killed at a call of os about runs, after so many, while
    it queued a sweep, imported a zip ("runs.zip") or removed all runs ("remove")."""

    def kill(call, after, *what):
        arguments = [str(tmp_path / "home"), call, str(after), repr(RANKS), *map(str, what)]
        ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True)
        assert 9 == ended.returncode, ended.stderr
        return RunStore(tmp_path / "home")

    return kill


@pytest.fixture
def ended(tmp_path):
    """A store with an ended sweep."""
    store = RunStore(tmp_path / "home")
    for run_id in store.run_ids(store.create(questions.sweep(ranks=RANKS))):
        store.append(run_id, RunCancelled(time=1.0))
    return store


def ranks_of(store):
    return [record.request.r for record in store.records()]


def names_in(store):
    return sorted(
        each.name for each in store.runs_dir.iterdir() if each.name.startswith((".new-", ".gone-", ".publishing"))
    )


@pytest.mark.parametrize("after", range(len(RANKS)))
def test_a_sweep_whose_app_was_killed_between_two_runs_is_whole_once_the_next_app_starts(killed, after):
    store = killed("rename", after)
    assert after == len(ranks_of(store))
    for aside in store.runs_dir.glob(".new-*"):
        os.utime(aside, (0, ABANDONED_SECONDS))

    tidy(store)

    assert list(RANKS) == ranks_of(store) == ranks_of(RunStore(store.home))
    assert [] == names_in(store)


def test_nobody_beside_it_takes_up_half_a_sweep(killed):
    store = killed("rename", 2)
    beside = RunStore(store.home)
    assert 2 == len(beside.unended())

    with beside.publishing():  # as a supervisor does before it looks
        assert list(RANKS) == [record.request.r for record in beside.unended()]


def test_what_had_come_when_the_app_was_killed_is_left_alone(killed):
    store = killed("unlink", 0)
    assert list(RANKS) == ranks_of(store)

    store.create(questions.sweep(ranks=(16,)))

    assert [*RANKS, 16] == ranks_of(store)
    assert [] == names_in(store)


def test_an_import_whose_app_was_killed_is_here_as_a_whole(killed, tmp_path):
    elsewhere = RunStore(tmp_path / "elsewhere")
    sweep_id = elsewhere.create(questions.sweep(ranks=RANKS))
    for run_id in elsewhere.run_ids(sweep_id):
        elsewhere.append(run_id, RunCancelled(time=1.0))
    zipped = export_runs([elsewhere], [sweep_id], tmp_path / "runs.zip")

    store = killed("rename", 2, zipped)
    with pytest.raises(InvalidSettingError, match="is here already"):
        import_runs(store, zipped)

    assert elsewhere.run_ids(sweep_id) == store.run_ids(sweep_id)


@pytest.mark.parametrize("call, after", [*(("rename", after) for after in range(len(RANKS))), ("unlink", 0)])
@pytest.mark.parametrize("next_is", ["a start", "a change"])
def test_a_sweep_whose_app_was_killed_while_it_deleted_it_has_gone_as_a_whole(ended, killed, call, after, next_is):
    store = killed(call, after, "remove")
    assert RANKS[after if call == "rename" else len(RANKS) :] == tuple(ranks_of(store))

    if next_is == "a change":
        store.create(questions.sweep(ranks=(16,)))
        assert [16] == ranks_of(store) == ranks_of(ended)
    tidy(store)

    assert ([16] if next_is == "a change" else []) == ranks_of(store) == ranks_of(RunStore(store.home))
    assert [] == names_in(store)


def test_of_a_sweep_whose_app_was_killed_before_it_deleted_the_first_run_all_stays(ended, killed):
    store = killed("replace", 0, "remove")

    tidy(store)

    assert list(RANKS) == ranks_of(store) == ranks_of(RunStore(store.home))


def test_what_is_half_deleted_is_not_resumed(ended, killed):
    *_, last = [record.run_id for record in ended.records()]
    store = killed("rename", 2, "remove")

    assert store.record(last) and not store.requeue(last)

    assert [] == ranks_of(store)


def test_what_is_just_going_is_not_taken_for_what_was_left(ended, monkeypatch):
    """It comes back where one of it cannot be set aside."""
    run_ids, rename, glob = [record.run_id for record in ended.records()], os.rename, Path.glob
    looking, going = threading.Event(), threading.Event()

    def fails(source, target):
        if source == ended.run_dir(run_ids[2]):
            going.set()
            tidier.join(1.0)
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    def waits(folder, pattern):
        if pattern == ".gone-*":
            looking.set()
            going.wait(1.0)
        return glob(folder, pattern)

    tidier = threading.Thread(target=tidy, args=(RunStore(ended.home),))
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", fails)
        patched.setattr(Path, "glob", waits)
        tidier.start()
        looking.wait()
        with pytest.raises(OSError, match="Input/output"):
            remove(ended, run_ids)
        tidier.join()

    assert all((ended.run_dir(run_id) / "request.json").exists() for run_id in run_ids)


def test_a_sweep_is_deleted_from_a_full_disk():
    with small_disk(1) as folder:
        store = RunStore(folder / "home")
        run_ids = store.run_ids(store.create(questions.sweep(ranks=RANKS)))
        for run_id in run_ids:
            store.append(run_id, RunCancelled(time=1.0))
        fill(folder)

        remove(store, run_ids)

        assert [] == ranks_of(store) == names_in(store)


@pytest.mark.parametrize("text", [b"", b"\n", b".new-gone\nx", b".gone-new\nx", b".gone-new\n", b"\0\xff\n\0"])
def test_a_broken_list_of_what_is_on_its_way_takes_nothing_with_it(tmp_path, text):
    store = RunStore(tmp_path)
    store.create(questions.sweep(ranks=RANKS))
    (store.runs_dir / ".publishing").write_bytes(text)

    store.create(questions.sweep(ranks=(16,)))

    assert [*RANKS, 16] == ranks_of(store)
    assert [] == names_in(store)


def test_a_file_system_that_cannot_sync_folders_takes_runs_all_the_same(tmp_path, monkeypatch):
    sync = os.fsync

    def refusing(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(fd)

    monkeypatch.setattr(os, "fsync", refusing)
    store = RunStore(tmp_path)

    for _ in range(2):
        assert len(RANKS) == len(store.run_ids(store.create(questions.sweep(ranks=RANKS))))
