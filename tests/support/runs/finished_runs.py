"""Runs as they stand when they have ended, written without a worker; and what a view's HTML says."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rankviz.api import Api
from rankviz.core.runs.events import (
    AdapterAttached,
    AdapterSaved,
    Evaluated,
    RunCompleted,
    RunEvent,
    RunStarted,
    StageReached,
    StepLogged,
)
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.request import RunRequest, SweepRequest
from rankviz.store import ImportLimits, RunStore, publish_imported, read_export
from rankviz.store.journal import NO_ONES, Ownership
from tests.support.runs import questions


def text_of(markup: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", markup).split())


def come(
    store: RunStore, request: SweepRequest, owner: str, events_of: Callable[[RunRequest], Iterable[RunEvent]]
) -> Sweep:
    """A sweep with all that its runs say, which comes at once: an app that works on this folder would begin what still
    waits, and take what is half written for lost."""
    with TemporaryDirectory() as aside:
        made = RunStore(Path(aside))
        sweep_id = made.create(request, owner)
        for run in made.sweep(sweep_id).runs:
            for event in events_of(run.request):
                made.append(run.run_id, event)
        whole = {
            run_id: {path.name: path.read_bytes() for path in made.run_dir(run_id).iterdir()}
            for run_id in made.run_ids(sweep_id)
        }
    store.publish(whole, Ownership(owner))
    return store.sweep(sweep_id)


def finished(api: Api, losses: dict[int, float], *, seeds: tuple[int, ...] = (0,)) -> Sweep:
    """A sweep of whoever asks whose runs have all completed with these held-out losses, 10 s and 2 GiB each."""
    request = questions.sweep(ranks=tuple(losses), max_steps=2, seeds=seeds)
    workspace = api.workspace
    return come(workspace.store, request, workspace.visitor.id, lambda run: finished_events(run, losses[run.r]))


def plain_sweep(losses: dict[int, float], *, seeds: tuple[int, ...] = (0,), **more) -> Sweep:
    """The same without a store."""
    requests = questions.sweep(ranks=tuple(losses), max_steps=2, seeds=seeds).runs(sweep_id="s1", created_at=0.0)
    runs = tuple(RunRecord(request=each).after_all(finished_events(each, losses[each.r])) for each in requests)
    return Sweep(sweep_id="s1", runs=runs, **more)


def finished_events(request: RunRequest, loss: float) -> list[RunEvent]:
    """Each further seed is worse by 0.1."""
    loss += 0.1 * request.seed
    return [
        RunStarted(time=1.0, environment={"device": "cpu", "device_name": "a CPU", "cpu_count": 2}),
        StageReached(time=2.0, stage="evaluating the base"),
        AdapterAttached(time=3.0, trainable_parameters=305_280 * request.r),
        Evaluated(time=4.0, when="before", loss=7.5, tokens=100, examples=64, seconds=1.0),
        StepLogged(time=5.0, step=1, loss=5.0, learning_rate=1e-3, tokens=50, seconds=5.0, memory_bytes=2**30),
        StepLogged(time=6.0, step=2, loss=4.0, learning_rate=0.0, tokens=100, seconds=10.0, memory_bytes=2**30),
        Evaluated(time=7.0, when="after", loss=loss, tokens=100, examples=64, seconds=1.0),
        AdapterSaved(time=8.0, path="adapter", file_bytes=1_000_000 * request.r),
        RunCompleted(time=9.0, train_seconds=10.0, peak_memory_bytes=2 * 2**30, peak_memory_kind="process resident"),
    ]


def correct(tokens: int, first: bool) -> dict[str, object]:
    """What two examples count: so many of 100 target tokens correct, the first answer right or not, the second
    wrong."""
    return {
        "correct_tokens": tokens,
        "example_tokens": (50, 50),
        "example_correct_tokens": (tokens - tokens // 2, tokens // 2),
        "example_exact_matches": (int(first), 0),
    }


def counted(api: Api, accuracies: dict[int, int]) -> Sweep:
    """A finished sweep of three seeds with these token accuracies by rank in percent, each further seed a point better.
    Of each rank the last seed alone has a right answer."""

    def events_of(run: RunRequest) -> Iterable[RunEvent]:
        counts = {"before": correct(3, False), "after": correct(accuracies[run.r] + run.seed, run.seed == 2)}
        for event in finished_events(run, 2.0):
            if isinstance(event, Evaluated):
                event = replace(event, examples=2, example_losses=(event.loss, event.loss), **counts[event.when])
            yield event

    request = questions.sweep(ranks=tuple(accuracies), seeds=(0, 1, 2), max_steps=2)
    return come(api.workspace.store, request, "", events_of)


UNLIMITED = ImportLimits()


def import_runs(
    store: RunStore, source: Path, ownership: Ownership = NO_ONES, limits: ImportLimits = UNLIMITED
) -> list[str]:
    """All runs of the zip, or none; their ids."""
    return publish_imported(store, read_export(Path(source), (), limits), (), ownership)
