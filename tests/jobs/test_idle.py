"""A supervisor among many runs of which nothing was written reads nothing; `make bench bounds` says how long it takes.
Counted in files opened, since a test cannot rely on the clock."""

import os
from collections.abc import Sequence

import pytest

from rankviz.core.runs.events import RunCompleted, RunStarted, StepLogged
from rankviz.jobs import Attempt, Engine, Job, Live
from rankviz.jobs.supervisor import Supervisor
from rankviz.store import RunStore
from tests.support.processes.opened_files import opened_files
from tests.support.runs import questions

STARTED = RunStarted(time=1.0, environment={"device": "cpu"})
STEP = StepLogged(time=2.0, step=1, loss=2.5, learning_rate=1e-3, tokens=80, seconds=1.0, memory_bytes=7)
DONE = RunCompleted(time=9.0, train_seconds=8.0, peak_memory_bytes=100, peak_memory_kind="process resident")


class Held(Engine):
    """Has room for no more, and its jobs only live."""

    name = "local"
    shares_disk = True

    def __init__(self, run_ids: Sequence[str]):
        self.jobs = [Live(job=Job(attempts=(Attempt(run_id, 1),)), handle=run_id) for run_id in run_ids]

    def room(self) -> int:
        return 0

    def live(self) -> Sequence[Live]:
        return self.jobs


def sweep(store: RunStore, runs: int) -> list[str]:
    return store.run_ids(store.create(questions.sweep(ranks=range(1, runs + 1))))


@pytest.fixture
def busy(store):
    """A store with finished, running and queued runs, the running ones, and a supervisor that has looked at them."""
    for run_id in sweep(store, 5):
        for event in (STARTED, STEP, DONE):
            store.append(run_id, event)
    running = sweep(store, 3)
    for run_id in running:
        store.begin(run_id)
        store.append(run_id, STARTED)
    for _ in range(4):
        sweep(store, 10)
    for folder in store.runs_dir.glob("2*"):
        os.utime(folder, (0, 0))  # long ago
    supervisor = Supervisor(store, engines=[Held(running)])
    supervisor.tick()
    supervisor.tick()
    yield store, running, supervisor
    supervisor.stop()


def test_a_look_at_runs_of_which_nothing_was_written_opens_no_file(busy):
    store, _, supervisor = busy

    with opened_files(store.runs_dir) as opened:
        supervisor.tick()

    assert [] == opened


def test_a_look_reads_the_journal_of_the_run_that_goes_on_alone(busy):
    store, running, supervisor = busy
    RunStore(store.home).append(running[1], STEP)

    with opened_files(store.runs_dir) as opened:
        supervisor.tick()

    assert [f"{running[1]}/events.jsonl"] == opened


def test_a_wish_to_cancel_among_many_runs_is_seen_at_the_next_look(busy):
    store, _, supervisor = busy
    last = store.records()[-1].run_id
    RunStore(store.home).ask_to_cancel(last)

    supervisor.tick()

    assert "cancelled" == store.get(last).state
