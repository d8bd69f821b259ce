"""Runs in a store, queued and ended."""

from rankviz.core.runs.events import RunCompleted, RunStarted, StepLogged
from rankviz.store import RunStore
from tests.support.runs import questions

STARTED = RunStarted(time=1.0, environment={"device": "cpu"})
DONE = RunCompleted(time=9.0, train_seconds=8.0, peak_memory_bytes=100, peak_memory_kind="process resident")


def step(number: int) -> StepLogged:
    return StepLogged(
        time=1.0 + number, step=number, loss=2.5, learning_rate=1e-3, tokens=80 * number, seconds=number, memory_bytes=7
    )


def one_run(store: RunStore) -> str:
    return store.run_ids(store.create(questions.sweep(ranks=(8,))))[0]
