"""The one home of temporary files: what is kept in it, for whom, and until when."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import pytest

from rankviz.errors import LimitError
from rankviz.paths import IMPORT_ROOT
from rankviz.store.temp import KEPT_COPIES, TempHome
from rankviz.visitor import HOST, NOBODY, Visitor
from tests.support.processes.workers import wait_for

ANNA, BEN = Visitor("anna"), Visitor("ben")
HOUR = 3600


@pytest.fixture
def temp(tmp_path, monkeypatch):
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    home = TempHome(tmp_path / "home")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(home.folder / "page"))
    return home


def upload(temp: TempHome, name: str, owner: Visitor, size: int = 10) -> Path:
    path = temp.page / f"hash-of-{name}" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * size)
    temp.own(path, owner.id)
    return path


def make_old(path: Path, seconds: float) -> None:
    for each in (*path.rglob("*"), path):
        os.utime(each, (time.time() - seconds,) * 2)


def test_an_upload_that_is_used_up_goes_and_counts_no_more(temp):
    used, kept = upload(temp, "runs.zip", ANNA), upload(temp, "data.jsonl", ANNA)

    temp.remove_upload(used, ANNA)
    temp.remove_upload(used, ANNA)

    assert (False, True) == (used.parent.exists(), kept.exists())
    assert (1, 10) == temp.usage(ANNA)
    assert not temp.owns(used, ANNA)


def test_what_another_has_uploaded_too_stays_theirs(temp):
    used = upload(temp, "runs.zip", ANNA)
    temp.own(used, "ben")

    temp.remove_upload(used, Visitor("anna", also="carl"))

    assert (False, True) == (temp.owns(used, ANNA), temp.owns(used, BEN))
    assert used.exists()
    assert [0, 1] == [temp.usage(visitor).files for visitor in (ANNA, BEN)]
    temp.remove_upload(used, Visitor("login", also="ben"))
    assert not used.exists()


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


def test_gradio_gets_a_place_whose_name_is_the_same_wherever_one_stands(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "elsewhere")
    monkeypatch.chdir(tmp_path)

    TempHome(tmp_path / "home").use_for_gradio()

    assert tmp_path / "elsewhere" == Path(os.environ["GRADIO_TEMP_DIR"]).parent


def test_where_nothing_can_be_written_gradio_has_its_own_place_unless_this_one_may_come_later(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    (tmp_path / "home").write_text("")
    temp = TempHome(tmp_path / "home")

    temp.use_for_gradio()
    assert "" == os.environ["GRADIO_TEMP_DIR"]
    temp.use_for_gradio(always=True)
    assert tmp_path / "home" / "tmp" / "page" == temp.page


def test_what_is_old_goes_elsewhere_too_and_nothing_of_others_there(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(elsewhere))
    temp = TempHome(tmp_path / "home")
    temp.use_for_gradio()
    old, new = upload(temp, "old.zip", ANNA), upload(temp, "new.zip", ANNA)
    others = elsewhere / "of-another-program" / "file"
    others.parent.mkdir()
    others.touch()
    for path in (old.parent, others.parent):
        make_old(path, 3 * HOUR)

    temp.clean(2 * HOUR)
    TempHome(tmp_path / "another").clean(0)

    assert (False, True, True) == (old.exists(), new.exists(), others.exists())


def test_a_clock_that_jumps_ahead_removes_no_upload(temp, monkeypatch):
    path, real = upload(temp, "a.zip", ANNA), time.time
    temp.keep_clean(24 * HOUR, every_seconds=0.01)

    monkeypatch.setattr(time, "time", lambda: real() + 48 * HOUR)
    for name in ("first", "second"):  # once the second has gone, all was looked at after the clock had jumped
        left = temp.folder / "work" / name
        left.mkdir()
        wait_for(lambda left=left: not left.exists())

    assert path.exists()
    temp.clean = lambda *_: Event().wait()  # so that the thread works no more


def test_an_upload_is_of_who_uploaded_it(temp):
    path = upload(temp, "a.zip", ANNA)

    assert temp.owns(path, ANNA)
    assert temp.owns(path, Visitor("hf:1", also="anna"))
    assert not temp.owns(path, BEN)
    assert not temp.owns(path, NOBODY)


def test_the_same_file_of_two_visitors_is_of_both(temp):
    path = upload(temp, "a.zip", ANNA)
    temp.own(path, BEN.id)

    assert temp.owns(path, ANNA) and temp.owns(path, BEN)


def test_a_link_among_the_uploads_is_what_it_leads_to(temp, tmp_path):
    (tmp_path / "secret").touch()
    path = temp.page / "hash" / "link"
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "secret")
    temp.own(path, ANNA.id)

    assert not temp.owns(path, ANNA)


def test_what_a_visitor_uploaded_is_counted_without_downloads_and_what_is_gone(temp, tmp_path):
    upload(temp, "a.zip", ANNA, 100)
    upload(temp, "b.zip", ANNA, 20).unlink()
    upload(temp, "c.zip", BEN, 3)
    (tmp_path / "d.zip").write_bytes(b"x")
    temp.keep_download(tmp_path / "d.zip", ANNA)

    assert (1, 100) == temp.usage(ANNA)


def test_nothing_more_is_taken_where_the_room_is_full(temp):
    temp.require_room(1)
    upload(temp, "a.zip", ANNA, 1_000_001)

    with pytest.raises(LimitError, match="all of the 1 MB that this server has for them"):
        temp.require_room(1)
    temp.require_room(2)
    temp.require_room(None)


def test_what_is_old_goes_and_what_is_new_stays(temp):
    old, new = upload(temp, "old.zip", ANNA), upload(temp, "new.zip", ANNA)
    make_old(temp.folder, 3 * HOUR)
    os.utime(new)

    temp.clean(2 * HOUR)

    assert (False, True) == (old.exists(), new.exists())
    assert (False, True) == (temp.owns(old, ANNA), temp.owns(new, ANNA))


def test_a_folder_of_work_is_removed_with_the_block(temp):
    with temp.work() as folder:
        (folder / "unpacked").write_bytes(b"x")
        assert folder.is_relative_to(temp.folder / "work")

    assert not folder.exists()


def test_work_of_an_app_that_was_killed_goes_at_the_next_start_and_that_of_one_that_lives_stays(temp):
    code = (
        "import time; from pathlib import Path; from rankviz.store.temp import TempHome\n"
        f"with TempHome(Path({str(temp.folder.parent)!r})).work() as f: print(f, flush=True); time.sleep(300)"
    )
    environment = {**os.environ, "PYTHONPATH": str(IMPORT_ROOT)}
    app = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    left = Path(app.stdout.readline().strip())

    with temp.work() as mine:
        temp.clean(HOUR)
        assert left.is_dir() and mine.is_dir()
        os.kill(app.pid, signal.SIGKILL)
        app.wait()
        temp.clean(HOUR)
        assert not left.parent.exists()
        assert mine.is_dir()


def test_a_folder_beside_that_of_an_app_stays_since_it_is_somebody_elses(temp):
    theirs = temp.folder / "work" / "projects" / "thesis.tex"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("years")

    temp.clean(HOUR)

    assert "years" == theirs.read_text()


def test_where_nothing_can_be_written_work_has_a_folder_of_the_system(tmp_path):
    (tmp_path / "home").write_text("a file")

    with TempHome(tmp_path / "home").work() as folder:
        assert folder.is_dir()
        assert not folder.is_relative_to(tmp_path / "home")


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
