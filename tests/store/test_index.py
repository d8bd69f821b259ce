"""The index of a folder of runs: it is what the journals say, it is read once, and it takes little memory."""

import errno
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from rankviz.core.runs.events import Evaluated, RunCancelled, RunFailed
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.run_time import FEW, thinned
from rankviz.errors import RunNotFoundError, RunUnreadError
from rankviz.machine import disk
from rankviz.store import RunStore, journal
from rankviz.store.journal import OnDisk
from rankviz.store.removal import remove
from rankviz.store.runs import viewing
from tests.store.written_runs import DONE, STARTED, step
from tests.support.processes.opened_files import failing_reads, opened_files
from tests.support.processes.slow_store import READ, SlowStore
from tests.support.runs import questions

COUNT = 20_000
LOSSES = tuple(2.0 + place / 7 for place in range(COUNT))


def queued(store: RunStore, *ranks: int) -> list[str]:
    return store.run_ids(store.create(questions.sweep(ranks=ranks)))


def finish(store: RunStore, run_id: str, steps: int = 3) -> None:
    for event in (STARTED, *map(step, range(1, steps + 1)), DONE):
        store.append(run_id, event)


@pytest.fixture
def filled(store):
    """A store with two runs that have finished, one that runs and two that wait; and their names."""
    run_ids = queued(store, 1, 2, 4, 8, 16)
    for run_id in run_ids[:2]:
        finish(store, run_id)
    store.begin(run_ids[2])
    store.append(run_ids[2], STARTED)
    store.records()
    return store, run_ids


def states(store: RunStore) -> list[str]:
    return [record.state.value for record in store.records()]


@pytest.fixture
def run_id(store):
    return queued(store, 4)[0]


def listed(store: RunStore) -> dict[str, str]:
    return {record.run_id: record.state.value for record in store.all()}


def test_a_list_of_runs_of_which_nothing_was_written_opens_no_file(filled):
    store, run_ids = filled
    for run_id in run_ids:
        os.utime(store.run_dir(run_id), (0, 0))  # long ago
    store.records()

    with opened_files(store.runs_dir) as opened:
        for look in (store.records, store.all, store.unended, store.begun_and_cancelled, store.turns):
            look()
        store.unreadable()

    assert [] == opened
    assert 1 == len({id(record.request.training) for record in store.records()})


def test_every_change_by_another_process_is_seen_at_once(filled):
    store, run_ids = filled
    other = RunStore(store.home)
    turns, soon = [store.turns()], time.time() + 9

    def passes() -> bool:
        turns.append(store.turns())
        return turns[-1] > turns[-2]

    os.utime(store.run_dir(run_ids[2]), (1, 1))  # long ago
    store.records()
    other.append(run_ids[2], DONE)
    assert passes() and [*["completed"] * 3, "queued", "queued"] == states(store)
    other.begin(run_ids[3])
    assert passes() and [run_ids[3]] == [record.run_id for record in store.begun_and_cancelled()[0]]
    other.append(run_ids[3], RunFailed(time=2.0, error="It failed."))
    assert passes() and [] == store.begun_and_cancelled()[0]
    other.requeue_all([run_ids[3]])
    assert passes() and run_ids[3:] == [record.run_id for record in store.unended()]
    os.utime(store.run_dir(run_ids[4]), (soon, soon))
    store.records()
    other.ask_to_cancel(run_ids[4])
    os.utime(store.run_dir(run_ids[4]), (soon, soon))  # as within one tick of the disk's clock
    assert passes() and [run_ids[4]] == store.begun_and_cancelled()[1]
    other.append(run_ids[4], RunCancelled(time=3.0))
    assert passes() and [] == store.begun_and_cancelled()[1]
    (added,) = queued(other, 32)
    assert passes() and added == store.records()[-1].run_id
    remove(other, [run_ids[0]])
    assert passes() and run_ids[0] not in {record.run_id for record in store.records()}


def test_a_view_is_made_of_the_newest_runs_while_the_others_are_read(store):
    sweeps = [store.create(questions.sweep(ranks=tuple(range(1, 51)))) for _ in range(3)]
    oldest_first = sorted(run_id for sweep_id in sweeps for run_id in store.run_ids(sweep_id))
    slow = SlowStore(store.home)

    with slow.being_read(), viewing():
        seen = [record.run_id for record in slow.records()]
        assert set(oldest_first[-READ:]) == set(seen)
        assert len(oldest_first) == slow.reading[1]


def test_the_steps_of_an_ended_run_are_read_from_its_journal(store):
    (run_id,) = queued(store, 4)
    finish(store, run_id, steps=30)

    steps = store.get(run_id).steps

    assert tuple(map(step, range(1, 31))) == steps
    assert (30, step(1), step(30), step(7)) == (len(steps), steps[0], steps[-1], steps[6])
    assert (step(29), step(30)) == steps[-2:]
    with opened_files(store.runs_dir) as opened:
        assert (30, step(1), step(30)) == (len(steps), steps[0], steps[-1])
    assert [] == opened


def test_tables_charts_and_estimates_of_ended_runs_read_no_journal(store):
    (run_id,) = queued(store, 4)
    values = tuple([1, 0] * 20)
    after = Evaluated(
        time=8.0, when="after", loss=2.0, tokens=100, examples=40, seconds=1.0, example_exact_matches=values
    )
    for event in (STARTED, *map(step, range(1, 101)), after, DONE):
        store.append(run_id, event)
    whole = RunRecord(request=store.get(run_id).request).after_all(store.events(run_id))

    with opened_files(store.runs_dir) as opened:
        run = store.get(run_id)
        drawn = [(each.step, each.loss, each.learning_rate) for each in thinned(run.steps, FEW)]
        measured = run.step_seconds, run.loss_after.answered, run.loss_after.exact_match
        lasts = run.steps[-1:]

    assert not any("events" in name for name in opened)
    assert [(each.step, each.loss, each.learning_rate) for each in thinned(whole.steps, FEW)] == drawn
    assert (1.0, 40, 0.5) == measured
    assert whole.steps[-1:] == lasts


def evaluated(losses=LOSSES, **changes):
    whole = {"loss": 2.5, "tokens": 2 * len(losses), "examples": len(losses), "seconds": 1.0, "correct_tokens": 0}
    lists = {"example_losses": losses, "example_tokens": (2,) * len(losses)}
    matches = {"example_exact_matches": (1, 0, None, 1) * (len(losses) // 4)}
    return Evaluated(time=1.0, when="after", **{**whole, **lists, **matches, **changes})


def test_long_lists_of_an_ended_run_are_exact_and_few_are_in_memory(store):
    run_ids = queued(store, *range(1, 11))
    for run_id in run_ids:
        store.append(run_id, evaluated())
        store.append(run_id, RunCancelled(time=2.0))

    for record in map(store.get, run_ids):
        after = record.loss_after
        assert isinstance(after.example_losses, OnDisk)
        assert (LOSSES, COUNT, LOSSES[-3:]) == (
            tuple(after.example_losses),
            len(after.example_losses),
            after.example_losses[-3:],
        )
        assert (2 / 3, 15_000) == (after.exact_match, after.answered)
    assert 8 == journal._read_again.cache_info().currsize


def test_a_journal_that_many_ask_for_at_once_is_read_once(store, monkeypatch):
    (run_id,) = queued(store, 1)
    store.append(run_id, evaluated())
    store.append(run_id, RunCancelled(time=2.0))
    losses, parse, reads = store.get(run_id).loss_after.example_losses, journal.parse_lines, []

    def slow(data):
        reads.append(time.sleep(0.2))
        return parse(data)

    monkeypatch.setattr(journal, "parse_lines", slow)
    journal._read_again.cache_clear()
    with ThreadPoolExecutor(8) as threads:
        assert [LOSSES] * 8 == list(threads.map(tuple, [losses] * 8))
    assert 1 == len(reads)


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.ESTALE, errno.EACCES])
def test_a_run_whose_journal_cannot_be_read_is_listed_as_it_was_and_its_news_come_later(store, run_id, code):
    store.begin(run_id)
    store.append(run_id, STARTED)
    assert {run_id: "running"} == listed(store)
    store.append(run_id, RunCancelled(time=3.0))

    with failing_reads(store.home, code):
        assert {run_id: "running"} == listed(store)
        with pytest.raises(RunUnreadError) as caught:  # who acts on it must not act on what is old
            store.record(run_id)
        with viewing():
            assert "running" == store.record(run_id).state.value

    assert f"Run {run_id!r} cannot be read now ({os.strerror(code)}). Try again later." == disk.explain(caught.value)
    assert {run_id: "cancelled"} == listed(store)


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
@pytest.mark.parametrize("name", ["events.jsonl", "request.json"])
def test_a_run_that_could_not_be_read_at_first_is_listed_as_soon_as_it_can_be(store, run_id, name, code):
    store.append(run_id, STARTED)
    fresh = RunStore(store.home)

    with failing_reads(store.home, code, names=(name,)):
        assert {} == listed(fresh)
        assert os.strerror(code) in fresh.unreadable()[run_id]
        with pytest.raises(RunUnreadError if code == errno.EIO else RunNotFoundError, match=run_id):
            fresh.record(run_id)
        with viewing(), pytest.raises(RunNotFoundError):
            fresh.record(run_id)

    assert {run_id: "running"} == listed(fresh)


@pytest.mark.parametrize("name", ["", "begun", "cancel"])
def test_news_of_a_run_are_listed_though_its_folder_or_a_mark_could_not_be_looked_at(store, run_id, monkeypatch, name):
    store.begin(run_id)
    store.ask_to_cancel(run_id)
    known = [run_id] == [each.run_id for each in store.begun_and_cancelled()[0]] == store.begun_and_cancelled()[1]
    stat = os.stat

    def stale(path, *args, **options):
        if str(path) == str(store.run_dir(run_id) / name):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return stat(path, *args, **options)

    store.append(run_id, STARTED)
    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "stat", stale)
        assert (
            known
            and [run_id] == [run.run_id for run in store.begun_and_cancelled()[0]] == store.begun_and_cancelled()[1]
        )
    store.append(run_id, RunCancelled(time=3.0))

    assert {run_id: "cancelled"} == listed(store)
    assert not store.unended()


def test_looking_for_what_others_wrote_takes_a_twentieth_of_the_time_where_it_takes_long(store, run_id, monkeypatch):
    clock, spent = [time.monotonic() + 10], iter(range(99))
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "thread_time", lambda: 0.053 * next(spent))
    assert [run_id] == list(listed(store))  # which took 0.003 s that are always allowed, and 0.05 s
    others = queued(RunStore(store.home), 8)

    for seconds, seen in ((0.9, []), (0.2, others)):
        clock[0] += seconds
        assert {run_id, *seen} == listed(store).keys()


def test_a_list_on_a_disk_that_has_it_no_longer_is_an_error_that_says_so(store, run_id):
    finish(store, run_id)
    steps, folder = store.get(run_id).steps, store.run_dir(run_id)

    with failing_reads(store.home), pytest.raises(RunUnreadError, match=run_id):
        tuple(steps)
    for harm in (partial(os.truncate, folder / "events.jsonl", 9), partial(shutil.rmtree, folder)):
        harm()
        with pytest.raises(RunNotFoundError, match=run_id):
            tuple(steps)
