"""The cache of a shared page, and that of others, which is left alone."""

import pytest

from rankviz.hub import reach
from tests.support.web.hub_cache import put, repositories

HOUR = 3600
"""In seconds."""


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", "")
    monkeypatch.delenv("HF_HUB_CACHE")


def test_a_place_that_the_owner_gave_stays_and_is_theirs(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "theirs"))
    put(tmp_path / "theirs", "someone/model", 1000)

    reach.use_own(tmp_path)
    reach.make_room(tmp_path, (), lambda: False)

    assert not reach.is_own(tmp_path)
    assert ["someone/model"] == repositories(tmp_path / "theirs")


def test_what_was_used_longest_ago_goes_first_with_all_that_was_fetched_of_it(tmp_path):
    reach.use_own(tmp_path)
    put(tmp_path / "hub", "a/new", 1000, age=2 * HOUR)
    old = put(tmp_path / "hub", "b/old", 1000, age=3 * HOUR)
    put(tmp_path / "hub", "c/older", 1000, age=4 * HOUR)
    put(tmp_path / "hub", "d/waited-for", 1000, age=5 * HOUR)
    (old / "blobs" / "half.incomplete").write_bytes(b"x" * 500)

    reach.make_room(tmp_path, {"D/Waited-For"}, lambda: len(repositories(tmp_path / "hub")) <= 2)

    assert ["a/new", "d/waited-for"] == repositories(tmp_path / "hub")


def test_what_was_used_in_the_last_hour_stays(tmp_path):
    reach.use_own(tmp_path)
    put(tmp_path / "hub", "a/loading", 1000)
    put(tmp_path / "hub", "b/old", 1000, age=2 * HOUR)

    reach.make_room(tmp_path, (), lambda: False)

    assert ["a/loading"] == repositories(tmp_path / "hub")
