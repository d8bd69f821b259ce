"""What cannot be read for a moment: it stays as it was known last, and is read as soon as that is possible."""

import errno
import os

import pytest

from rankviz.core.runs.events import Evaluated, RunCancelled, StageReached
from rankviz.errors import RunNotFoundError, RunUnreadError
from rankviz.machine import disk
from rankviz.store import RunStore, journal
from rankviz.store.index import viewing
from tests.store.memory.test_current import step
from tests.store.written_runs import STARTED
from tests.support.processes.failing_reads import failing_reads
from tests.support.runs import questions

LATER = StageReached(time=3.0, stage="loading")


@pytest.fixture
def run_id(store):
    return store.run_ids(store.create(questions.sweep(ranks=(4,))))[0]


def listed(store):
    return {record.run_id: record.state.value for record in store.all()}


def too_many_open(path):
    raise OSError(errno.EMFILE, "Too many open files")


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


@pytest.mark.parametrize("name", ["events.jsonl", "request.json"])
def test_a_run_that_could_not_be_read_at_first_is_listed_as_soon_as_it_can_be(store, run_id, name):
    store.append(run_id, STARTED)
    fresh = RunStore(store.home)

    with failing_reads(store.home, names=(name,)):
        assert {} == listed(fresh)
        assert "Input/output error" in fresh.unreadable()[run_id]
        with pytest.raises(RunUnreadError, match="Input/output error"):
            fresh.record(run_id)
        with viewing(), pytest.raises(RunNotFoundError):
            fresh.record(run_id)

    assert {run_id: "running"} == listed(fresh)


@pytest.mark.parametrize("name", ["events.jsonl", "request.json"])
def test_a_run_of_a_sweep_that_could_not_be_read_is_among_the_others_as_soon_as_it_can_be(store, name):
    sweep_id = store.create(questions.sweep(ranks=(4, 8)))
    first, second = store.run_ids(sweep_id)
    store.append(second, STARTED)
    fresh = RunStore(store.home)

    with failing_reads(store.run_dir(second), names=(name,)):
        assert [first] == [run.run_id for run in fresh.sweep(sweep_id).runs]

    assert [first, second] == [run.run_id for run in fresh.sweep(sweep_id).runs]


def test_a_sweep_is_found_once_the_folder_can_be_listed(store, monkeypatch):
    sweep_id = store.create(questions.sweep(ranks=(4,)))
    fresh = RunStore(store.home)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", too_many_open)
        with pytest.raises(OSError, match="Too many"):
            fresh.sweep(sweep_id)

    assert 1 == len(fresh.sweep(sweep_id).runs)


@pytest.mark.parametrize("is_known", [True, False])
def test_the_queue_stays_while_a_run_cannot_be_read(store, run_id, is_known):
    store.append(run_id, STARTED)
    here = RunStore(store.home)
    if is_known:
        here.all()
    store.append(run_id, LATER)

    with failing_reads(store.home):
        here.all()
        assert here.turns() == here.turns()

    before = here.turns()
    store.append(run_id, RunCancelled(time=4.0))
    assert before < here.turns()


def test_a_run_is_in_the_queue_again_once_it_is_known_whether_somebody_took_it_up(store, run_id, monkeypatch):
    store.begin(run_id)
    for event in (STARTED, RunCancelled(time=3.0)):
        store.append(run_id, event)
    other = RunStore(store.home)
    assert {run_id: "cancelled"} == listed(other)
    store.requeue(run_id)

    with monkeypatch.context() as patch:
        patch.setattr("rankviz.store.index.is_there", too_many_open)
        before = other.turns()
        assert () == tuple(other.unended())
        assert {run_id: "cancelled"} == listed(other)

    assert before < other.turns()
    assert [run_id] == [record.run_id for record in other.unended()]


def test_what_was_told_while_the_folder_could_not_be_listed_is_not_forgotten(store, run_id, monkeypatch):
    other = RunStore(store.home)
    assert {run_id: "queued"} == listed(store)
    other.append(run_id, STARTED)
    (new,) = other.run_ids(other.create(questions.sweep(ranks=(8,))))

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", too_many_open)
        with pytest.raises(OSError, match="Too many"):
            store.all()

    assert {run_id: "running", new: "queued"} == listed(store)


def test_what_is_left_on_the_disk_cannot_be_read_now_and_later_it_can(store, run_id):
    losses = tuple(map(float, range(100)))
    evaluated = Evaluated(
        time=4.0, when="after", loss=2.0, tokens=100, examples=100, seconds=1.0, example_losses=losses
    )
    steps = step(1), step(2), step(3)
    for event in (STARTED, *steps, evaluated, RunCancelled(time=5.0)):
        store.append(run_id, event)
    record = store.get(run_id)

    with failing_reads(store.home):
        for left in (record.steps, record.loss_after.example_losses):
            with pytest.raises(RunUnreadError, match="Input/output error"):
                tuple(left)

    assert (steps, losses) == (tuple(record.steps), tuple(record.loss_after.example_losses))


def test_a_journal_that_breaks_off_while_it_is_read_is_read_again_from_there(store, run_id, monkeypatch):
    assert {run_id: "queued"} == listed(store)
    for event in (STARTED, LATER):
        store.append(run_id, event)
    lines = journal.whole_lines

    def breaks_off(file):
        yield next(lines(file))
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "whole_lines", breaks_off)
        assert {run_id: "queued"} == listed(store)

    assert {run_id: "running"} == listed(store)
    assert ["RunStarted", "StageReached"] == [type(event).__name__ for event in store.latest(run_id)]
