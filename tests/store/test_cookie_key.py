"""The key of the visitors' cookies: who finds none on the disk writes one, and says whether it is there."""

import stat

import pytest

from rankviz.store import durable
from rankviz.store.ownership import KEY_FILE, CookieKey
from tests.support.processes.hostile_disks import fill, small_disk


def key_of(home):
    """What the next start of an app signs by."""
    return CookieKey(home).keys[-1]


def test_it_is_made_once_and_nobody_else_can_read_it(tmp_path):
    home = tmp_path / "home"

    key = CookieKey(home)

    assert key.is_kept()
    assert [key_of(home)] == key.keys
    assert 64 == len(key_of(home))
    assert 0o600 == stat.S_IMODE((home / KEY_FILE).stat().st_mode)
    assert key_of(home) != key_of(tmp_path / "other")


def test_a_key_that_is_given_is_not_written(tmp_path):
    key = CookieKey(tmp_path, "a key that is kept elsewhere")

    assert key.is_kept()
    assert (["a key that is kept elsewhere"], []) == (key.keys, list(tmp_path.iterdir()))


def test_one_that_could_not_be_written_is_written_as_soon_as_it_can_be(tmp_path):
    (tmp_path / "home").write_text("")  # no folder
    key = CookieKey(tmp_path / "home")

    assert not key.is_kept()
    (tmp_path / "home").unlink()
    assert key.is_kept()

    assert [key_of(tmp_path / "home")] == key.keys


def test_a_full_disk_keeps_nothing_half_written():
    with small_disk(1) as folder:
        filler = fill(folder)
        key = CookieKey(folder)

        assert not key.is_kept()
        assert {filler.name, f".{KEY_FILE}.lock"} >= {path.name for path in folder.iterdir()}
        filler.unlink()
        assert key.is_kept()
        assert [key_of(folder)] == key.keys


@pytest.mark.parametrize("content", [b"", b"0" * 15, b"\xff" * 64])
def test_a_file_that_was_not_written_whole_is_no_key(tmp_path, content):
    (tmp_path / KEY_FILE).write_bytes(content)

    key = CookieKey(tmp_path)

    assert 64 == len(key.keys[-1])
    assert key.keys[-1] == key_of(tmp_path)


def test_one_that_cannot_be_read_stays(tmp_path):
    (tmp_path / KEY_FILE).mkdir()

    assert not CookieKey(tmp_path).is_kept()
    assert (tmp_path / KEY_FILE).is_dir()


def test_of_two_apps_that_could_not_write_theirs_the_first_one_is_kept_and_both_are_believed(tmp_path):
    (tmp_path / "home").write_text("")
    first, second = CookieKey(tmp_path / "home"), CookieKey(tmp_path / "home")
    theirs = second.keys[0]
    (tmp_path / "home").unlink()

    assert first.is_kept() and second.is_kept()

    assert [theirs, first.keys[0]] == second.keys
    assert first.keys[0] == key_of(tmp_path / "home")


def test_it_is_on_the_disk_once_it_is_kept(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(durable.os, "fsync", lambda fd: synced.append(fd))

    assert CookieKey(tmp_path).is_kept()

    assert 2 == len(synced)  # the file, and its name in the folder
