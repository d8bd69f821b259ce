"""What goes with a run, and what a killed app has left."""

import json
import os
import subprocess
import sys
import time

import pytest

from rankviz.core.runs.events import RunCancelled, StageReached
from rankviz.store import RunStore, durable
from rankviz.store.removal import ABANDONED_SECONDS, remove, tidy
from tests.support.processes.opened_files import failing_reads
from tests.support.runs import questions


@pytest.fixture
def rows(tmp_path):
    """rows(text): a data file."""

    def write(text):
        path = tmp_path / "mine.jsonl"
        path.write_text(text)
        return path

    return write


def make_old(*folders):
    for folder in folders:
        os.utime(folder, (time.time() - ABANDONED_SECONDS - 60,) * 2)


def test_a_copy_goes_with_the_last_run_of_its_owner_whoever_else_has_the_same_rows(store, rows):
    anns, bens = (
        store.run_ids(store.create(questions.sweep(ranks=(4,)), owner, data=rows("rows"))) for owner in ("ann", "ben")
    )
    for run_id in anns:
        store.append(run_id, RunCancelled(time=1.0))

    remove(RunStore(store.home), anns)

    assert not store.copy_path(rows("rows"), "ann").parent.exists()
    assert store.copy_path(rows("rows"), "ben").is_file() and store.get(bens[0])


@pytest.mark.parametrize("owner", ["", "ann"])
def test_copies_of_data_that_no_run_names_go_once_they_are_old(store, rows, owner):
    named, old, new = (store.copy_path(rows(text), owner) for text in ("named", "old", "new"))
    store.create(questions.sweep(ranks=(4,)), owner, data=rows("named"))
    for text in ("old", "new"):
        durable.copy(rows(text), store.copy_path(rows(text), owner))
    make_old(named.parent, old.parent)

    tidy(store)

    assert (True, False, True) == (named.exists(), old.parent.exists(), new.exists())


@pytest.mark.parametrize("is_read", [True, False])
def test_a_copy_goes_with_the_last_run_of_its_owner_whoever_else_names_it(store, rows, is_read):
    anns = store.run_ids(store.create(questions.sweep(ranks=(4,)), "ann", data=rows("rows")))
    kept = store.copy_path(rows("rows"), "ann")
    (bens,) = store.run_ids(store.create(questions.sweep(ranks=(8,), data=str(kept)), "ben"))
    if not is_read:
        request = store.run_dir(bens) / "request.json"
        request.write_text(json.dumps({**json.loads(request.read_text()), "learning_rate": "of a later version"}))
    for run_id in anns:
        store.append(run_id, RunCancelled(time=1.0))

    remove(RunStore(store.home), anns)

    assert not kept.parent.exists()


def test_what_a_run_names_whose_owner_is_not_known_stays(store, rows):
    (run_id,) = store.run_ids(store.create(questions.sweep(ranks=(4,)), "ann", data=rows("rows")))
    kept = store.copy_path(rows("rows"), "ann")
    (store.run_dir(run_id) / "owner.json").write_text("{")
    make_old(kept.parent)

    tidy(RunStore(store.home))

    assert kept.exists()


def test_what_killed_writes_have_left_goes_once_it_is_old(store, rows):
    store.create(questions.sweep(ranks=(4,)), "ann", data=rows("rows"))
    copies = store.copy_path(rows("rows"), "ann").parent
    files = [store.runs_dir / ".publishing", store.home / "cookie.key", copies / "mine.jsonl"]
    before = set(store.home.rglob("*"))
    for code in (f"replace_durably(Path({str(file)!r}), 'x')" for file in files):
        kill_before_it_is_in_place(f"from rankviz.store.durable import replace_durably; {code}")
    left = sorted(set(store.home.rglob("*")) - before)
    assert 3 == len(left)
    make_old(*left[1:])

    tidy(store)

    assert [True, False, False] == [path.exists() for path in left]


def kill_before_it_is_in_place(code):
    killing = "import os; from pathlib import Path; os.replace = lambda *_: os.kill(os.getpid(), 9)"
    assert -9 == subprocess.run([sys.executable, "-c", f"{killing}; {code}"]).returncode


@pytest.mark.parametrize("name", ["request.json", "events.jsonl"])
def test_the_data_of_a_run_that_cannot_be_read_just_now_stays_where_another_run_of_it_goes(store, rows, name):
    data = rows("shared")
    going, staying = (store.run_ids(store.create(questions.sweep(ranks=(rank,)), data=data))[0] for rank in (4, 8))
    store.append(going, RunCancelled(time=1.0))
    store.append(staying, StageReached(time=1.0, stage="loading"))
    fresh = RunStore(store.home)

    with failing_reads(store.run_dir(staying), names=(name,)):
        remove(fresh, [going])

    assert os.path.exists(fresh.get(staying).request.data)
    assert not fresh.run_dir(going).exists()


def test_the_data_of_an_unreadable_run_and_what_is_no_copy_stay(store, rows):
    kept = store.copy_path(rows("rows"))
    durable.copy(rows("rows"), kept)
    (run_id,) = store.run_ids(store.create(questions.sweep(ranks=(4,)), data=rows("rows")))
    request = store.run_dir(run_id) / "request.json"
    request.write_text(json.dumps({**json.loads(request.read_text()), "learning_rate": "of a later version"}))
    others = [store.home / "data" / "mine", store.home / "visitors" / "0123456789abcdef" / "evidence"]
    others += [store.runs_dir / name for name in (".mine", ".5E374C42", "5e374c42", ".aside")]
    for folder in others:
        folder.mkdir(parents=True)
    make_old(kept.parent, *others)

    store = RunStore(store.home)
    tidy(store)

    assert [run_id] == list(store.unreadable())
    assert kept.exists()
    assert [] == [folder for folder in others if not folder.is_dir()]


def test_what_another_app_removes_meanwhile_is_removed_once(store):
    first, second = store.run_ids(store.create(questions.sweep(ranks=(4, 8)), "ann"))
    for run_id in (first, second):
        store.append(run_id, RunCancelled(time=1.0))
    remove(RunStore(store.home), [first])
    left = store.runs_dir / f".gone-{second}"  # of an app that was killed while it removed a run of this name
    left.mkdir()
    (left / "request.json").touch()
    make_old(left)

    remove(store, [first, second])
    tidy(store)

    assert [] == store.records() == list(store.runs_dir.glob(".gone-*"))
