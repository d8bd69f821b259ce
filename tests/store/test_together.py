"""Runs that come together, where whoever publishes them is killed or fails on the way."""

import errno
import os
import stat
import subprocess
import sys

import pytest

from rankviz.core.runs.events import RunCancelled
from rankviz.errors import InvalidSettingError
from rankviz.store import RunStore, export_runs, import_runs
from rankviz.store.removal import ABANDONED_SECONDS, tidy
from tests.support.runs import questions

RANKS = (1, 2, 4, 8)
KILLED = """
import os, sys
from pathlib import Path
from rankviz.store import RunStore, import_runs
from tests.support.runs import questions

home, call, left, ranks = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), eval(sys.argv[4])
real = getattr(os, call)

def dies(*paths):
    global left
    last = Path(paths[-1])
    if last.parent == home / "runs" and (last.name == ".publishing" or not last.name.startswith(".")):
        if left == 0:
            os._exit(9)
        left -= 1
    return real(*paths)

setattr(os, call, dies)
store = RunStore(home)
if sys.argv[5:]:
    import_runs(store, Path(sys.argv[5]))
else:
    store.create(questions.sweep(ranks=ranks))
"""


@pytest.fixture
def killed(tmp_path):
    """killed(call, after, *zips): the store of an app that was killed at a call of os about runs, after so many, while
    it queued a sweep or imported a zip."""

    def kill(call, after, *zips):
        arguments = [str(tmp_path / "home"), call, str(after), repr(RANKS), *map(str, zips)]
        ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True)
        assert 9 == ended.returncode, ended.stderr
        return RunStore(tmp_path / "home")

    return kill


def ranks_of(store):
    return [record.request.r for record in store.records()]


def names_in(store):
    return sorted(each.name for each in store.runs_dir.iterdir() if each.name.startswith((".new-", ".publishing")))


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


def test_of_a_sweep_one_of_whose_runs_cannot_be_renamed_none_comes(tmp_path, monkeypatch):
    store, rename = RunStore(tmp_path), os.rename

    def fails(source, target):
        if str(target).endswith("-r4") and target.parent == store.runs_dir:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", fails)
        with pytest.raises(OSError, match="Input/output"):
            store.create(questions.sweep(ranks=RANKS))

    assert [] == ranks_of(store) == names_in(store)
    store.create(questions.sweep(ranks=RANKS))
    assert list(RANKS) == ranks_of(store)


@pytest.mark.parametrize("text", [b"", b"\n", b".new-gone\nx", b"\0\xff\n\0"])
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
