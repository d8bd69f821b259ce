"""Runs as they stand when they have ended, written without a worker; and what a view's HTML says."""

import re

from rankviz.api import Api
from rankviz.core.runs.events import (
    AdapterAttached,
    AdapterSaved,
    Evaluated,
    RunCompleted,
    RunStarted,
    StageReached,
    StepLogged,
)
from tests.support.questions import sweep


def text_of(markup: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", markup).split())


def finished(api: Api, losses: dict[int, float], *, seeds: tuple[int, ...] = (0,)):
    """A sweep whose runs have all completed with these held-out losses, 10 s and 2 GiB each."""
    sweep_id = api.store.create(sweep(ranks=tuple(losses), max_steps=2, seeds=seeds))
    for run in api.store.sweep(sweep_id).runs:
        r, loss = run.request.r, losses[run.request.r] + 0.1 * run.request.seed
        for event in (
            RunStarted(time=1.0, environment={"device": "cpu", "device_name": "a CPU", "cpu_count": 2}),
            StageReached(time=2.0, stage="evaluating the base"),
            AdapterAttached(time=3.0, trainable_parameters=305_280 * r),
            Evaluated(time=4.0, when="before", loss=7.5, tokens=100, examples=64, seconds=1.0),
            StepLogged(time=5.0, step=1, loss=5.0, learning_rate=1e-3, tokens=50, seconds=5.0, memory_bytes=2**30),
            StepLogged(time=6.0, step=2, loss=4.0, learning_rate=0.0, tokens=100, seconds=10.0, memory_bytes=2**30),
            Evaluated(time=7.0, when="after", loss=loss, tokens=100, examples=64, seconds=1.0),
            AdapterSaved(time=8.0, path="adapter", file_bytes=1_000_000 * r),
            RunCompleted(
                time=9.0, train_seconds=10.0, peak_memory_bytes=2 * 2**30, peak_memory_kind="process resident"
            ),
        ):
            api.store.append(run.run_id, event)
    return api.store.sweep(sweep_id)
