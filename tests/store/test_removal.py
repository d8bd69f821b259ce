"""What goes with a run, and what a killed app has left."""

import json
import os
import time

import pytest

from rankviz.core.runs.events import RunCancelled, StageReached
from rankviz.errors import InvalidSettingError
from rankviz.store import RunStore, durable
from rankviz.store.removal import ABANDONED_SECONDS, deleted_folders, remove, tidy
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


def test_nothing_is_deleted_where_one_run_has_not_ended_unless_it_is_known_to_have(store):
    ended, running = run_ids = store.run_ids(store.create(questions.sweep(ranks=(4, 8))))
    store.append(ended, RunCancelled(time=1.0))

    with pytest.raises(InvalidSettingError, match=f"'{running}' has not ended. Cancel it first"):
        remove(store, [*run_ids, "gone"])
    assert set(run_ids) == store.ids()
    remove(store, run_ids, ended=[running])
    assert set() == store.ids()


def test_with_all_runs_that_name_a_copy_it_is_deleted_too(store, rows):
    one, two = (store.run_ids(store.create(questions.sweep(ranks=(4,)), data=rows("rows")))[0] for _ in range(2))
    unnamed = store.copy_path(rows("unnamed"))
    durable.copy(rows("unnamed"), unnamed)

    assert [store.run_dir(one)] == deleted_folders(store, [one])
    assert [*map(store.run_dir, (one, two)), store.copy_path(rows("rows")).parent] == deleted_folders(store, [one, two])


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
    store.create(questions.sweep(ranks=(8,)), "carl", data=rows("rows"))
    if not is_read:
        request = store.run_dir(bens) / "request.json"
        request.write_text(json.dumps({**json.loads(request.read_text()), "learning_rate": "of a later version"}))
    for run_id in anns:
        store.append(run_id, RunCancelled(time=1.0))

    remove(RunStore(store.home), anns)

    assert (False, True) == (kept.parent.exists(), store.copy_path(rows("rows"), "carl").is_file())


def test_what_killed_writes_have_left_goes_once_it_is_old(store, rows):
    store.create(questions.sweep(ranks=(4,)), "ann", data=rows("rows"))
    copies = store.copy_path(rows("rows"), "ann").parent
    files = [store.runs_dir / ".publishing", store.home / "cookie.key", copies / "mine.jsonl"]
    left = [durable.aside_of(file) for file in files] + [store.runs_dir / ".gone-of-a-removal" / "request.json"]
    left[-1].parent.mkdir()
    for path in left:
        path.touch()
    make_old(*left[1:], left[-1].parent)

    tidy(store)

    assert [True, False, False, False] == [path.exists() for path in left]


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


def test_the_data_of_an_unreadable_run_or_an_unknown_owner_and_what_is_no_copy_stay(store, rows):
    kept = store.copy_path(rows("rows"))
    durable.copy(rows("rows"), kept)
    (run_id,) = store.run_ids(store.create(questions.sweep(ranks=(4,)), data=rows("rows")))
    request = store.run_dir(run_id) / "request.json"
    request.write_text(json.dumps({**json.loads(request.read_text()), "learning_rate": "of a later version"}))
    (anns,) = store.run_ids(store.create(questions.sweep(ranks=(4,)), "ann", data=rows("ann's")))
    (store.run_dir(anns) / "owner.json").write_text("{")
    others = [
        store.copy_path(rows("ann's"), "ann").parent,
        store.home / "data" / "mine",
        store.home / "visitors" / "0123456789abcdef" / "evidence",
    ]
    others += [store.runs_dir / name for name in (".mine", ".5E374C42", "5e374c42", ".aside")]
    for folder in others:
        folder.mkdir(parents=True, exist_ok=True)
    make_old(kept.parent, *others)

    store = RunStore(store.home)
    tidy(store)

    assert {run_id, anns} == store.unreadable().keys()
    assert kept.exists()
    assert [] == [folder for folder in others if not folder.is_dir()]


def test_what_another_app_removes_meanwhile_is_removed_once(store):
    first, second = store.run_ids(store.create(questions.sweep(ranks=(4, 8)), "ann"))
    for run_id in (first, second):
        store.append(run_id, RunCancelled(time=1.0))
    remove(RunStore(store.home), [first])

    remove(store, [first, second])

    assert [] == store.records() == list(store.runs_dir.glob(".gone-*"))
