"""Of runs that have ended little is kept in memory; their steps are read from the journal when somebody asks."""

import os
import shutil
import tracemalloc

import pytest

from rankviz.core.runs.events import (
    Answered,
    Evaluated,
    GreedyAnswer,
    RunFailed,
)
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.run_time import FEW, thinned, times_of
from rankviz.errors import RunNotFoundError
from rankviz.store import RunStore
from tests.store.memory.test_current import finish, queued, step
from tests.store.written_runs import DONE, STARTED
from tests.support.processes.opened_files import opened_files


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


def test_the_latest_events_of_an_ended_run_are_read_from_its_journal(store):
    (run_id,) = queued(store, 4)
    finish(store, run_id)

    assert (STARTED, DONE) == store.latest(run_id)


def test_a_record_has_its_own_steps_after_the_run_was_asked_for_again(store):
    (run_id,) = queued(store, 4)
    for event in (STARTED, step(1), step(2), RunFailed(time=2.0, error="It failed.")):
        store.append(run_id, event)
    failed = store.get(run_id)

    store.requeue(run_id)
    store.append(run_id, step(1))

    assert (step(1), step(2)) == failed.steps
    assert (step(1),) == tuple(each for each in store.get(run_id).steps)


def test_of_a_run_that_was_deleted_or_cut_no_steps_can_be_read(store):
    deleted, cut = queued(store, 4, 8)
    finish(store, deleted)
    finish(store, cut)
    steps = [store.get(run_id).steps for run_id in (deleted, cut)]

    shutil.rmtree(store.run_dir(deleted))
    os.truncate(store.run_dir(cut) / "events.jsonl", 100)

    for each in steps:
        with pytest.raises(RunNotFoundError):
            list(each)


def test_a_long_run_that_has_ended_takes_a_few_kilobytes(store):
    run_ids = queued(store, 1, 2, 4, 8)
    long = "word " * 100
    answers = tuple(
        GreedyAnswer(place=place, prompt=long, reference=long, text=long, ended=True) for place in range(20)
    )
    lists = {"example_losses": (1.5,) * 900, "example_tokens": (2,) * 900}
    for run_id in run_ids:
        evaluated = Evaluated(time=2.0, when="after", loss=1.5, tokens=1800, examples=900, seconds=1.0, **lists)
        answered = Answered(time=2.5, when="after", answers=answers, seconds=1.0)
        for event in (STARTED, *map(step, range(1, 2001)), evaluated, answered, DONE):
            store.append(run_id, event)
    reader = RunStore(store.home)

    tracemalloc.start()
    reader.record(run_ids[0])
    before = tracemalloc.get_traced_memory()[0]
    for run_id in run_ids[1:]:
        reader.record(run_id)
    each = (tracemalloc.get_traced_memory()[0] - before) / len(run_ids[1:])
    tracemalloc.stop()

    assert each < 20_000
    assert answers == reader.get(run_ids[1]).answered_after.answers


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
        times, lasts = times_of(run), run.steps[-1:]

    assert [] == opened
    assert [(each.step, each.loss, each.learning_rate) for each in thinned(whole.steps, FEW)] == drawn
    assert (1.0, 40, 0.5) == measured
    assert (times_of(whole), whole.steps[-1:]) == (times, lasts)
