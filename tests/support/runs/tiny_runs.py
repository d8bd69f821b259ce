"""Sweeps on a tiny Llama, run to their end by the true worker."""

from pathlib import Path

from rankviz.core.runs.request import SweepRequest
from rankviz.store import RunStore
from tests.support.processes.workers import Patient
from tests.support.runs import questions


def letters(base: Path, data: Path, *ranks: int, **settings) -> SweepRequest:
    """A sweep in which a tiny Llama learns letters in twelve steps."""
    fixed = {"max_steps": 12, "learning_rates": (1e-2,), "held_out_examples": 16}
    return questions.sweep(base=str(base), data=str(data), ranks=ranks, **fixed, **settings)


def run_to_the_end(store: RunStore, seconds: float = 240) -> None:
    """Everything that is queued, by worker processes of the true command."""
    supervisor = Patient(store)
    supervisor.start()
    supervisor.settle(seconds)
    supervisor.stop()
