"""Uploads make room where those of all visitors fill their place."""

import os
import time

import pytest

from rankviz.errors import LimitError
from rankviz.store.temp import FRESH_SECONDS
from rankviz.visitor import Visitor

MB = 10**6


@pytest.fixture
def upload(temp):
    """upload(visitor, name, size, age): a file that a visitor uploaded so many seconds after it stays by all means."""

    def make(visitor, name, size, age):
        path = temp.page / f"hash-of-{name}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        os.utime(path, (time.time() - FRESH_SECONDS - age,) * 2)
        if visitor:
            temp.own(path, visitor)
        return path

    return make


def there(*paths):
    return [path.name for path in paths if path.exists()]


def test_the_oldest_of_who_has_most_goes_first_whoever_came_first(temp, upload):
    small = upload("anna", "small", 200_000, age=500)
    old, new = upload("ben", "old", 400_000, age=60), upload("ben", "new", 400_000, age=30)

    left = temp.require_room(1, coming_bytes=300_000)

    assert ["small", "new"] == there(small, old, new)
    assert 100_000 == left


def test_as_much_goes_as_is_needed_until_nobody_has_more_than_others(temp, upload):
    anna, carl = upload("anna", "a", 250_000, age=500), upload("carl", "c", 100_000, age=900)
    bens = [upload("ben", f"b{age}", 200_000, age=age) for age in (90, 60, 30)]

    temp.require_room(1, coming_bytes=700_000)

    assert ["c", "b30"] == there(anna, carl, *bens)


def test_what_has_just_come_stays_and_counts_for_its_visitor(temp, upload):
    old, just_come = upload("ben", "old", 300_000, age=60), upload("ben", "just come", 400_000, age=-FRESH_SECONDS)
    anna = upload("anna", "a", 300_000, age=500)

    temp.require_room(1, coming_bytes=200_000)
    assert ["just come", "a"] == there(old, just_come, anna)

    with pytest.raises(LimitError, match="all of the 1 MB that this server has for them"):
        temp.require_room(1, coming_bytes=700_000)
    assert ["just come", "a"] == there(old, just_come, anna)


def test_downloads_go_before_uploads(temp, upload, tmp_path):
    (tmp_path / "d.zip").write_bytes(b"x" * 300_000)
    download = temp.keep_download(tmp_path / "d.zip", Visitor("anna"))
    ben = upload("ben", "b", 700_000, age=60)

    temp.require_room(1, coming_bytes=200_000)

    assert ["b"] == there(download, ben)


def test_the_same_content_by_another_name_stays(temp, upload):
    old = upload("anna", "a", 600_000, age=60)
    same = old.with_name("b")
    same.write_bytes(b"x" * 400_000)
    temp.own(same, "ben")

    temp.require_room(1, coming_bytes=500_000)

    assert ["b"] == there(old, same)


def test_who_still_reads_an_upload_reads_on(temp, upload):
    path = upload("anna", "a", 900_000, age=60)

    with path.open("rb") as file:
        temp.require_room(1, coming_bytes=500_000)
        assert not path.exists()
        assert 900_000 == len(file.read())


def test_nothing_outside_of_the_uploads_makes_room(temp, upload, tmp_path):
    outside = tmp_path / "outside" / "rows.csv"
    outside.parent.mkdir()
    outside.write_bytes(b"x" * MB)
    os.utime(outside, (1, 1))
    temp.own(outside, "anna")
    link = temp.page / "hash" / "link"
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    temp.own(link, "anna")
    upload("ben", "just come", MB + 1, age=-FRESH_SECONDS)

    with pytest.raises(LimitError):
        temp.require_room(1)

    assert outside.exists()


def test_a_file_that_is_nobodys_keeps_nobody_out(temp, upload):
    nobodys, anna = upload("", "nobody's", 700_000, age=60), upload("anna", "a", 300_000, age=500)

    temp.require_room(1, coming_bytes=500_000)

    assert ["a"] == there(nobodys, anna)
