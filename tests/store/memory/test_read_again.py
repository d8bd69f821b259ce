"""What is read once more: one thread reads a key, and different keys are read at the same time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event

import pytest

from rankviz.store.journal import JournalReader, ReadAgain
from tests.store.memory.test_current import finish, queued, step
from tests.support.processes.workers import wait_for

SECONDS = 60


def test_while_one_long_journal_is_read_others_are_read_too(store, monkeypatch):
    both = queued(store, 4, 8)
    for run_id in both:
        finish(store, run_id, steps=30)
    steps = [store.get(run_id).steps for run_id in both]
    at_once, read = Barrier(len(both)), JournalReader.read

    def held(reader):
        at_once.wait(SECONDS)
        return read(reader)

    monkeypatch.setattr(JournalReader, "read", held)
    with ThreadPoolExecutor() as pool:
        assert [tuple(map(step, range(1, 31)))] * 2 == [*pool.map(tuple, steps)]


def test_what_several_ask_for_at_once_is_read_once():
    begun, go_on, kept = [], Event(), ReadAgain(len, 10)

    def read():
        begun.append("read")
        assert go_on.wait(SECONDS)
        return "text"

    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(kept.of, "key", read) for _ in range(4)]
        wait_for(lambda: begun)
        go_on.set()
        assert ["text"] * 4 == [each.result() for each in asked]
    assert ["read"] == begun


def test_what_could_not_be_read_is_read_by_who_asks_next():
    kept = ReadAgain(len, 10)

    with pytest.raises(OSError):
        kept.of("key", Path("/nowhere/at/all").read_text)

    assert "text" == kept.of("key", lambda: "text")


def test_the_latest_stay_up_to_a_size_and_one_alone_whatever_it_has():
    kept, read = ReadAgain(len, 10), []

    def ask(key, size):
        kept.of(key, lambda: read.append(key) or "x" * size)

    for key, size in (("a", 5), ("b", 5), ("a", 5), ("c", 5), ("a", 5), ("b", 5), ("large", 50), ("large", 50)):
        ask(key, size)

    assert ["a", "b", "c", "b", "large"] == read
