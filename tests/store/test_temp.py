"""Temporary files and removed runs: what is kept, for whom, until when, and what makes room."""

import json
import os
import tempfile
import time
from pathlib import Path

import pytest

from rankviz.core.runs.events import RunCancelled, StageReached
from rankviz.errors import InvalidSettingError, LimitError
from rankviz.store import RunStore, durable
from rankviz.store.removal import ABANDONED_SECONDS, deleted_folders, remove, tidy
from rankviz.store.temp import FRESH_SECONDS, KEPT, KEPT_COPIES, TempHome
from rankviz.visitor import HOST, NOBODY, Visitor
from tests.support.processes.opened_files import failing_reads
from tests.support.runs import questions

ANNA, BEN, CARL = Visitor("anna"), Visitor("ben"), Visitor("carl")
HOUR, MB = 3600, 10**6


@pytest.fixture
def temp(tmp_path, monkeypatch):
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    home = TempHome(tmp_path / "home")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(home.folder / "page"))
    return home


def upload(temp, name, owner, size=10, age=0.0):
    """A file that a visitor, or nobody, uploaded so many seconds before it may make room."""
    path = temp.page / f"hash-of-{name}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    if age:
        os.utime(path, (time.time() - FRESH_SECONDS - age,) * 2)
    if owner:
        temp.own(path, owner.id)
    return path


def make_old(path: Path, seconds: float) -> None:
    for each in (*path.rglob("*"), path):
        os.utime(each, (time.time() - seconds,) * 2)


def test_nothing_else_is_used_up(temp, tmp_path):
    (tmp_path / "written").write_text("x")
    of_machine = tmp_path / "mine.zip"
    of_machine.write_text("x")
    temp.own(of_machine, "anna")
    download, of_ben = temp.keep_download(tmp_path / "written", ANNA), upload(temp, "runs.zip", BEN)

    for path in (of_machine, download, of_ben):
        for visitor in (ANNA, NOBODY, HOST):
            temp.remove_upload(path, visitor)
        assert path.is_file()
    assert temp.owns(of_ben, BEN)


def test_gradio_keeps_its_files_here_or_in_a_folder_of_their_own_where_it_was_told_to(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    monkeypatch.delenv("GRADIO_TEMP_DIR")
    temp = TempHome(tmp_path)

    temp.use_for_gradio()
    assert tmp_path / "tmp" / "page" == temp.page
    temp.use_for_gradio()
    assert tmp_path / "tmp" / "page" == temp.page
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path / "elsewhere")
    temp.use_for_gradio()
    temp.use_for_gradio()
    assert tmp_path / "elsewhere" == temp.page.parent
    assert temp.page.is_dir()


def test_where_home_cannot_be_written_gradio_and_work_use_the_systems_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    (tmp_path / "home").touch()
    temp, default = TempHome(tmp_path / "home"), Path(tempfile.gettempdir())

    temp.use_for_gradio()
    assert default / "gradio" == temp.page
    with temp.work() as folder:
        assert default == folder.parent
    temp.use_for_gradio(always=True)  # on a shared page nobody uploads into a folder of all
    assert tmp_path / "home" / "tmp" / "page" == temp.page


def test_what_is_old_goes_and_what_is_new_stays(temp, tmp_path):
    old, new = upload(temp, "old.zip", ANNA), upload(temp, "new.zip", ANNA)
    (alone := temp.page / "alone").touch()
    make_old(temp.folder, 3 * HOUR)
    os.utime(new)

    TempHome(tmp_path / "another").clean(0.0, time.time())  # whose page this is not
    assert old.exists()
    temp.clean(2 * HOUR, time.time())

    assert (False, True, False) == (old.exists(), new.exists(), alone.exists())
    assert (False, True) == (temp.owns(old, ANNA), temp.owns(new, ANNA))
    assert 1 == len([path for path in (temp.folder / "owners").rglob("*") if path.is_file()])


def test_work_of_an_app_that_was_killed_goes_once_it_is_old_and_nothing_of_others(temp):
    with temp.work() as mine:
        names = (mine.name, "work-left", "work-unreadable", "projects")
        for name in names[1:]:
            (temp.folder / "work" / name).mkdir()
            make_old(temp.folder / "work" / name, 3 * HOUR)
        (temp.folder / "work" / "work-unreadable" / "link").symlink_to("nowhere")

        temp.clean(2 * HOUR, time.time())

        assert [True, False, True, True] == [(temp.folder / "work" / name).exists() for name in names]


def copy_of(temp: TempHome, number: int, age: float) -> Path:
    path = Path(f"{temp.copies}{number}") / "adapter" / "adapter_model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 10**6)
    make_old(path.parents[1], age)
    return path


def test_of_the_adapters_from_the_hub_the_newest_few_stay_and_uploads_are_no_such(temp):
    kept = upload(temp, "mine.zip", ANNA)
    make_old(kept.parent, 10 * HOUR)
    copies = [copy_of(temp, number, age=60 * number) for number in range(KEPT_COPIES + 2)]

    temp.drop_copies()

    assert [True] * KEPT_COPIES + [False] * 2 == [path.is_file() for path in copies]
    assert kept.is_file()


@pytest.fixture
def made(temp, tmp_path):
    """made(visitor, size): a new download, newer than all that were made before."""
    count = 0

    def make(visitor, size=10, most_bytes=float("inf")):
        nonlocal count
        count += 1
        (written := tmp_path / f"{count}.zip").write_bytes(b"x" * size)
        path = temp.keep_download(written, visitor, most_bytes)
        os.utime(path.parent, (time.time() - 1000 + count,) * 2)
        return path

    return make


def there(paths):
    return [path for path in paths if path.exists()]


def test_only_the_newest_few_of_a_visitor_stay(temp, made):
    bens = made(BEN)
    annas = [made(ANNA) for _ in range(KEPT + 2)]

    assert annas[-KEPT:] == there(annas)
    assert bens.exists()
    assert KEPT + 1 == len(list(temp.page.iterdir()))


def test_the_oldest_uploads_make_room_and_what_has_just_come_stays(temp):
    files = [upload(temp, "old", BEN, 300_000, age=60), upload(temp, "older", ANNA, 200_000, age=500)]
    files.append(upload(temp, "just come", BEN, 400_000))

    assert 0 == temp.require_room(1, coming_bytes=300_000)
    assert [files[0], files[2]] == there(files)
    with pytest.raises(LimitError, match="all of the 1 MB that this server has for them"):
        temp.require_room(1, coming_bytes=700_000)
    assert [files[0], files[2]] == there(files)
    assert 299_999 == temp.require_room(1, coming_bytes=300_001)  # one byte too many takes the oldest
    assert [files[2]] == there(files)


def test_newer_downloads_make_room_before_older_uploads(temp, made):
    older = upload(temp, "older", ANNA, 400_000, age=500)
    downloads = [made(BEN, 300_000), made(CARL, 200_000)]

    assert 0 <= temp.require_room(1, coming_bytes=400_000)
    assert [older, downloads[1]] == there([older, *downloads])


def test_nothing_outside_of_the_uploads_makes_room(temp, tmp_path):
    outside = tmp_path / "outside" / "rows.csv"
    outside.parent.mkdir()
    outside.write_bytes(b"x" * MB)
    os.utime(outside, (1, 1))
    temp.own(outside, ANNA.id)
    link = temp.page / "hash" / "link"
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    temp.own(link, ANNA.id)
    upload(temp, "just come", BEN, MB + 1)

    with pytest.raises(LimitError):
        temp.require_room(1)

    assert outside.exists()


@pytest.fixture
def rows(tmp_path):
    """rows(text): a data file."""

    def write(text):
        path = tmp_path / "mine.jsonl"
        path.write_text(text)
        return path

    return write


def abandon(*folders):
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
    abandon(named.parent, old.parent)

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
    abandon(*left[1:], left[-1].parent)

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
    abandon(kept.parent, *others)

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
