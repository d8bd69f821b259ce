"""A folder is read for the first time: views are made of what has been read, and all others wait for the rest."""

import math
import time
from threading import Event, Thread

import pytest

from rankviz.errors import RunNotFoundError
from rankviz.store import RunStore
from rankviz.store.index import HELD_SECONDS, FirstRead, Reading, viewing
from rankviz.store.journal import JournalReader
from tests.support.processes.slow_store import READ, SlowStore
from tests.support.processes.workers import wait_for
from tests.support.runs import questions


@pytest.fixture
def many(store):
    """The names of many runs, the oldest first."""
    sweeps = [store.create(questions.sweep(ranks=range(1, 51))) for _ in range(3)]
    return sorted(run_id for sweep_id in sweeps for run_id in store.run_ids(sweep_id))


@pytest.fixture
def slow(many, store):
    """A store that another thread reads for the first time, and has not read all of."""
    slow = SlowStore(store.home)
    with slow.being_read():
        yield slow


def ids(records) -> list[str]:
    return [record.run_id for record in records]


def test_a_view_is_made_of_the_newest_runs_while_the_others_are_read(slow, many):
    with viewing():
        seen = ids(slow.records())

    assert set(many[-READ:]) == set(seen)
    assert len(many) == slow.reading.total


def test_a_view_of_a_sweep_has_all_its_runs_though_they_are_not_read_yet(slow, many):
    oldest = many[0].rpartition("-")[0].rpartition("-")[0]

    with viewing():
        assert 50 == len(slow.sweep(oldest).runs)
        with pytest.raises(RunNotFoundError):
            slow.sweep("no-such-sweep")


def test_whoever_does_not_only_look_gets_all_runs_once_they_are_read(slow, many):
    seen = []
    waiting = Thread(target=lambda: seen.append(ids(slow.records())))
    waiting.start()
    with viewing():
        slow.records()
    assert [] == seen

    slow.goes_on.set()
    waiting.join()

    assert [sorted(many)] == [sorted(each) for each in seen]
    assert slow.reading is None


def test_a_view_waits_where_it_is_told_to(slow, many):
    with viewing():
        Thread(target=slow.goes_on.set).start()
        slow.wait_until_read()

        assert len(many) == len(slow.records())


def test_a_store_that_nobody_else_reads_gives_a_view_all_runs(store, many):
    with viewing():
        assert len(many) == len(RunStore(store.home).records())


def test_others_have_the_lock_now_and_then_while_somebody_reads():
    first, has_been_had = FirstRead(), Event()

    def look_at(run_id: str) -> None:
        if not has_been_had.is_set():
            time.sleep(1.1 * HELD_SECONDS)

    def read() -> None:
        with first.lock:
            first.read([str(number) for number in range(100_000)], look_at)

    reader = Thread(target=read)
    reader.start()
    while first.reading is None:
        time.sleep(0.001)
    with first.lock:
        assert first.reading.done < first.reading.total
        has_been_had.set()
    reader.join()


def test_a_read_that_fails_lets_others_begin_anew():
    first = FirstRead()

    def fail(run_id: str) -> None:
        raise MemoryError

    with first.lock, pytest.raises(MemoryError):
        first.read(["run"], fail)

    assert (None, False) == (first.reading, first.is_done)
    with first.lock:
        first.wait()


def test_others_look_while_runs_that_came_together_are_read(store):
    slow, has_been_seen, pauses = LongJournals(store.home), Event(), Event()
    slow.records()
    pause = slow._current._first.pause

    def until_seen(reading: Reading) -> None:
        pauses.set()
        while not has_been_seen.is_set():
            pause(reading)

    slow._current._first.pause = until_seen
    came = set(store.run_ids(store.create(questions.sweep(ranks=range(1, 51)))))
    reader = Thread(target=slow.records)
    reader.start()
    wait_for(lambda: pauses.is_set() or not reader.is_alive())

    with viewing():
        seen = set(ids(slow.records()))

    has_been_seen.set()
    reader.join()
    assert seen < came
    assert came == set(ids(slow.records()))


class LongJournals(RunStore):
    """Each is read for so long that others have a pause."""

    def _open(self, run_id: str) -> JournalReader:
        time.sleep(1.1 * HELD_SECONDS)
        return super()._open(run_id)


def test_a_later_read_without_a_pause_is_none_that_others_see(monkeypatch):
    monkeypatch.setattr("rankviz.store.index.HELD_SECONDS", math.inf)
    first, seen = FirstRead(), []

    with first.lock:
        for _ in range(2):
            first.read(["a", "b"], lambda run_id: seen.append(first.reading))

    assert [(0, 2), (0, 2), None, None] == seen and first.is_done
