"""Temporary files: what is kept, for whom, until when, and what makes room."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from rankviz.errors import LimitError
from rankviz.store.temp import FRESH_SECONDS, KEPT, KEPT_COPIES, TempHome
from rankviz.visitor import HOST, NOBODY, Visitor

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
