"""The file that says where to look: what is told arrives, and whatever becomes of it costs a look at all runs alone."""

import errno
import os
import sys
from threading import Thread

import pytest

from rankviz.store.index import FILE, Changes, tell
from tests.support.processes.hostile_disks import fill, small_disk


def test_whoever_begins_to_read_looks_at_all_runs_once(tmp_path):
    tell(tmp_path, ["a"])
    changes = Changes(tmp_path)

    assert [None, set(), set()] == [changes.news() for _ in range(3)]


def test_what_is_told_is_news_once_and_to_every_reader(tmp_path):
    tell(tmp_path, ["a"])
    readers = [Changes(tmp_path), Changes(tmp_path)]
    for reader in readers:
        reader.news()

    tell(tmp_path, ["b", "c"])
    tell(tmp_path, ["b"])

    assert [{"b", "c"}, {"b", "c"}] == [reader.news() for reader in readers]
    assert [set(), set()] == [reader.news() for reader in readers]


def test_where_nothing_was_ever_told_there_is_nothing_new(tmp_path):
    changes = Changes(tmp_path / "nowhere")

    assert [None, set(), set()] == [changes.news() for _ in range(3)]


def test_the_first_word_in_a_folder_is_news(tmp_path):
    changes = Changes(tmp_path)
    changes.news()

    tell(tmp_path, ["a"])

    assert changes.news() is None
    assert set() == changes.news()


@pytest.mark.parametrize("begun_anew", [True, False])
def test_a_file_that_goes_is_a_reason_to_look_at_all_runs_once(tmp_path, begun_anew):
    tell(tmp_path, ["a"])
    changes = Changes(tmp_path)
    changes.news()

    (tmp_path / FILE).unlink()
    if begun_anew:
        tell(tmp_path, ["b", "c", "d"])  # also where the new one is longer than the old one was

    assert [None, set()] == [changes.news() for _ in range(2)]


@pytest.mark.parametrize("name", ["fstat", "pread"])
def test_a_file_that_fails_once_it_is_open_is_a_reason_to_look_at_all_runs(tmp_path, monkeypatch, name):
    """As on a network disk, where another host has put another file in its place."""
    tell(tmp_path, ["a"])
    changes = Changes(tmp_path)
    changes.news()
    tell(tmp_path, ["b"])
    monkeypatch.setattr(os, name, failing(errno.ESTALE))

    assert changes.news() is None
    monkeypatch.undo()

    assert changes.news() is None
    tell(tmp_path, ["c"])
    assert {"c"} == changes.news()


def test_as_long_as_a_file_that_is_there_cannot_be_opened_all_runs_are_looked_at(tmp_path, monkeypatch):
    tell(tmp_path, ["a"])
    changes = Changes(tmp_path)
    monkeypatch.setattr(os, "open", failing(errno.EMFILE))

    assert [None] * 3 == [changes.news() for _ in range(3)]
    monkeypatch.undo()

    assert [None, set()] == [changes.news() for _ in range(2)]


def failing(code):
    def fails(*args):
        raise OSError(code, os.strerror(code))

    return fails


def test_a_long_file_is_begun_anew(tmp_path):
    changes = Changes(tmp_path)
    tell(tmp_path, ["a" * 60], most_bytes=100)
    changes.news()

    tell(tmp_path, ["b" * 60], most_bytes=100)
    assert changes.news() is None

    tell(tmp_path, ["c"], most_bytes=100)
    assert {"c"} == changes.news()
    assert "c\n" == (tmp_path / FILE).read_text()


def test_a_name_counts_once_it_is_there_to_its_end(tmp_path):
    tell(tmp_path, [])
    changes = Changes(tmp_path)
    changes.news()
    news = []

    for byte in b"first\nsecond\n":
        with (tmp_path / FILE).open("ab") as file:
            file.write(bytes([byte]))
        news.append(changes.news())

    assert [{"first"}, {"second"}] == [names for names in news if names]


def test_a_file_cut_at_any_byte_is_a_reason_to_look_at_all_runs(tmp_path):
    whole = b"first\nsecond\n"
    for size in range(len(whole)):
        (tmp_path / FILE).write_bytes(whole)
        changes = Changes(tmp_path)
        changes.news()

        os.truncate(tmp_path / FILE, size)

        assert changes.news() is None
        tell(tmp_path, ["third"])
        assert any(name.endswith("third") for name in changes.news())


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_passed_over(tmp_path, make):
    make(tmp_path / FILE)
    changes = Changes(tmp_path)

    assert [None, set()] == [changes.news() for _ in range(2)]

    if make is os.mkdir:
        for number in range(500):  # so that the folder itself becomes larger
            (tmp_path / FILE / f"{number}".zfill(100)).touch()
        tell(tmp_path, ["a"])
    assert [set(), set()] == [changes.news() for _ in range(2)]


def test_on_a_full_disk_the_file_goes_and_readers_look_at_all_runs():
    with small_disk(1) as folder:
        tell(folder, ["a"])
        changes = Changes(folder)
        changes.news()
        os.truncate(folder / FILE, 4096)
        changes.news()
        fill(folder)

        tell(folder, ["b" * 90])

        assert changes.news() is None
        assert not (folder / FILE).exists()


def test_nothing_is_lost_between_writers_that_begin_the_file_anew(tmp_path):
    """Each writer notes what it has written before it tells, as a journal is written before; a reader that looks at all
    runs sees what was noted by then."""
    written, seen, changes = [], set(), Changes(tmp_path)

    def write(writer: int) -> None:
        for number in range(300):
            written.append(f"{writer}-{number}")
            tell(tmp_path, [f"{writer}-{number}"], most_bytes=80)

    def look() -> None:
        named = changes.news()
        seen.update(tuple(written) if named is None else named)

    writers = [Thread(target=write, args=(writer,)) for writer in range(4)]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            look()
    finally:
        sys.setswitchinterval(usual)
    look()

    assert {f"{writer}-{number}" for writer in range(4) for number in range(300)} == seen
