"""Asking again for a run, while others ask, delete or begin it."""

import threading
import time

import pytest

from rankviz.core.runs.events import RunCancelled, RunStarted
from rankviz.core.runs.record import RunState
from rankviz.errors import RunNotFoundError
from rankviz.store import RunStore
from rankviz.store.removal import remove
from tests.support.runs import questions

TOGETHER = 8


@pytest.fixture
def cancelled(store):
    """A cancelled run's id."""
    (run_id,) = store.run_ids(store.create(questions.sweep(ranks=(4,))))
    assert store.begin(run_id)
    store.append(run_id, RunCancelled(time=time.time()))
    return run_id


def at_once(*calls):
    """What each returned, all of them begun at the same moment."""
    gate, answers = threading.Barrier(len(calls)), [None] * len(calls)

    def call(place):
        gate.wait()
        answers[place] = calls[place]()

    threads = [threading.Thread(target=call, args=[place]) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_of_many_who_ask_at_once_one_queues_the_run(store, cancelled):
    stores = [RunStore(store.home) for _ in range(TOGETHER)]

    answers = at_once(*(lambda each=each: each.requeue(cancelled) for each in stores))

    assert [False] * (TOGETHER - 1) + [True] == sorted(answers)
    assert 1 == (store.run_dir(cancelled) / "events.jsonl").read_text().count("RunRequeued")
    assert (RunState.QUEUED, 2) == (store.get(cancelled).state, store.get(cancelled).attempt)


def test_a_run_that_a_worker_has_begun_meanwhile_keeps_its_beginning_and_its_adapter(store, cancelled):
    assert store.requeue(cancelled)
    assert store.begin(cancelled)
    store.append(cancelled, RunStarted(time=time.time(), environment={}))
    (store.run_dir(cancelled) / "adapter").mkdir()

    assert not RunStore(store.home).requeue(cancelled)

    assert store.has_begun(cancelled)
    assert (store.run_dir(cancelled) / "adapter").is_dir()
    assert RunState.RUNNING is store.get(cancelled).state


def test_a_run_that_another_app_deleted_is_not_queued_and_one_that_is_queued_is_not_deleted(store, cancelled):
    elsewhere = RunStore(store.home)
    assert RunState.CANCELLED is elsewhere.get(cancelled).state

    remove(store, [cancelled])

    assert not elsewhere.requeue(cancelled)
    assert not store.run_dir(cancelled).exists()


def test_nothing_is_added_to_a_sweep_that_was_deleted_meanwhile(store, cancelled):
    first = store.get(cancelled).request
    remove(store, [cancelled])

    with pytest.raises(RunNotFoundError):
        store.add(first)

    assert [] == store.all()
