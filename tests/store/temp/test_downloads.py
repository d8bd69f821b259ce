"""Files that are written for a visitor to download: what each visitor has at once, and what gives way."""

import os
import time

import pytest

from rankviz.errors import LimitError
from rankviz.store.temp import KEPT, is_download
from rankviz.visitor import Visitor

ANNA, BEN, CARL = Visitor("anna"), Visitor("ben"), Visitor("carl")
MB = 10**6


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


def test_a_download_is_a_file_of_its_name_in_a_folder_that_nobody_can_guess(temp, made):
    path = made(ANNA, 7)

    assert is_download(path)
    assert "1.zip" == path.name
    assert 7 == path.stat().st_size
    assert 32 < len(path.parent.name)


def test_only_the_newest_few_of_a_visitor_stay(temp, made):
    bens = made(BEN)
    annas = [made(ANNA) for _ in range(KEPT + 2)]

    assert annas[-KEPT:] == there(annas)
    assert bens.exists()
    assert KEPT + 1 == len(list(temp.page.iterdir()))


def test_after_a_login_those_from_before_are_among_them(made):
    before, after = [made(ANNA) for _ in range(KEPT)], made(Visitor("hf:1", also=ANNA.id))

    assert [*before[1:], after] == there([*before, after])


def test_they_are_no_more_bytes_than_a_visitor_may_have(made):
    small, medium, last = made(ANNA, 10, 100), made(ANNA, 60, 100), made(ANNA, 35, 100)

    assert [medium, last] == there([small, medium, last])


def test_a_full_server_removes_the_oldest_downloads_of_whoever_asked_for_them(temp, made):
    first, second, third = made(ANNA, MB // 2), made(BEN, MB // 4), made(CARL, MB // 4)

    left = temp.require_room(1, coming_bytes=MB // 3)

    assert [second, third] == there([first, second, third])
    assert MB - MB // 3 - MB // 2 == left


def test_no_download_is_removed_in_vain(temp, made):
    path = made(ANNA, 1000)

    with pytest.raises(LimitError, match="take all of the 1 MB"):
        temp.require_room(1, coming_bytes=2 * MB)

    assert path.exists()
