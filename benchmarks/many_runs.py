"""A runs folder with more than a machine trains in a month: 10,000 queued runs, 2,000 finished and 50 that run.

The journals are those that ship, under other names. No worker is needed, since what runs is held by a process that only
sleeps.
"""

import contextlib
import fcntl
import itertools
import json
import os
import random
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from rankviz import machine
from rankviz.core.cost.pace import LIBRARIES
from rankviz.core.runs.events import Evaluated, RunEvent, RunStarted, StageReached, StepLogged
from rankviz.core.runs.request import SHORT_TRAINING, RunRequest, SweepRequest
from rankviz.jobs import Attempt, Engine, Job, Live
from rankviz.paths import ASSETS
from rankviz.store import RunStore
from rankviz.store.journal import line_of, request_text

RANKS, SEEDS = (2, 4, 8, 16, 32), (0, 1)


@dataclass(frozen=True)
class Sizes:
    """How many runs of each kind."""

    queued: int = 10_000
    finished: int = 2_000
    live: int = 50


class Held(Engine):
    """An engine whose jobs only live: one a run."""

    name = "local"
    shares_disk = True

    def __init__(self, run_ids: Sequence[str]):
        self._live = [Live(job=Job(attempts=(Attempt(run_id, 1),)), handle=run_id) for run_id in run_ids]

    def room(self) -> int:
        return 0

    def live(self) -> Sequence[Live]:
        return self._live


def make_home(home: Path, sizes: Sizes) -> list[str]:
    """Write the runs, and return those that run."""
    store, now = RunStore(home), time.time()
    recorded = RunStore(ASSETS / "recorded")
    shipped = [record for record in recorded.all() if record.completed]
    template = SweepRequest(ranks=RANKS, seeds=SEEDS, base="embedded", data="pairs", training=SHORT_TRAINING)
    journals = {record.run_id: _made_here(recorded.events(record.run_id)) for record in shipped}
    running = []
    once = replace(template, seeds=SEEDS[:1])
    finished = itertools.chain(
        _sweeps(once, once.run_count, "once", now - 31 * 86_400),
        _sweeps(template, sizes.finished - once.run_count, "done", now - 30 * 86_400),
    )
    for number, requests in enumerate(finished):
        like = shipped[number * len(requests) % len(shipped) :] or shipped
        sources = itertools.islice(itertools.cycle(like), len(requests))
        folders = {
            request.run_id: {
                "request.json": request_text(replace(request, training=source.request.training)),
                "events.jsonl": journals[source.run_id],
            }
            for request, source in zip(requests, sources, strict=True)
        }
        _write(store, folders)
    for requests in _sweeps(template, sizes.live, "live", now - 3600):
        running += [request.run_id for request in requests]
        _write(
            store,
            {
                request.run_id: {
                    "request.json": request_text(request),
                    "events.jsonl": b"".join(map(line_of, _begun(now))),
                    "begun": "",
                }
                for request in requests
            },
        )
    for requests in _sweeps(template, sizes.queued, "wait", now - 1800):
        _write(store, {request.run_id: {"request.json": request_text(request)} for request in requests})
    return running


def add_large(store: RunStore, sweep_id: str, finished: int) -> str:
    """One more sweep, of as many runs as a server allows of one, so many of them finished and the next at work;
    returns that one, or an empty text. Each run has losses of its own."""
    recorded = RunStore(ASSETS / "recorded")
    shipped = next(record for record in recorded.all() if record.completed and len(record.loss_after.example_losses))
    template = SweepRequest(
        ranks=tuple(range(1, 65)), seeds=(0, 1, 2, 3), base="embedded", data="pairs", training=shipped.request.training
    )
    now, events = time.time(), recorded.events(shipped.run_id)
    folders = {}
    for number, request in enumerate(template.runs(sweep_id=sweep_id, created_at=now)):
        files: dict[str, str | bytes] = {"request.json": request_text(request)}
        if number < finished:
            files["events.jsonl"] = _made_here(_moved(events, random.Random(number), number - finished))
        elif number == finished:
            files |= {"events.jsonl": b"".join(map(line_of, _begun(now))), "begun": ""}
        folders[request.run_id] = files
    _write(store, folders)
    return list(folders)[finished] if finished < len(folders) else ""


def _moved(events: Sequence[RunEvent], luck: random.Random, minutes: int) -> Iterator[RunEvent]:
    """The same run by another seed, so many minutes later."""
    for event in events:
        moved = replace(event, time=event.time + 60 * minutes)
        if isinstance(event, Evaluated) and event.when == "after":
            losses = tuple(loss + luck.gauss(0, 0.05) for loss in event.example_losses)
            moved = replace(moved, example_losses=losses, loss=fmean(losses))
        yield moved


def _made_here(events: Iterable[RunEvent]) -> bytes:
    """A journal as it would be had the run been trained on this machine, which its times then count for."""
    here = {**machine.here(), "versions": machine.versions(LIBRARIES)}
    changed = (
        replace(event, environment={**event.environment, **here}) if isinstance(event, RunStarted) else event
        for event in events
    )
    return b"".join(map(line_of, changed))


def _write(store: RunStore, folders: dict[str, dict[str, str | bytes]]) -> None:
    """As RunStore.publish does, without waiting for the disk."""
    for run_id, files in folders.items():
        store.run_dir(run_id).mkdir(parents=True)
        for name, content in files.items():
            (store.run_dir(run_id) / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def _sweeps(template: SweepRequest, runs: int, name: str, since: float) -> Iterator[Sequence[RunRequest]]:
    """So many runs, sweep by sweep, a second apart."""
    for number in range(0, runs, template.run_count):
        requests = template.runs(sweep_id=f"{name}-{number:05d}", created_at=since + number)
        yield requests[: runs - number]


def _begun(now: float) -> list[RunEvent]:
    environment = {"device": "cpu", "device_name": "a CPU", "cpu_count": 2}
    events: list[RunEvent] = [RunStarted(time=now, environment=environment), StageReached(time=now, stage="training")]
    return [*events, *(step(now, number) for number in range(1, 20))]


def step(now: float, number: int) -> StepLogged:
    return StepLogged(
        time=now + number,
        step=number,
        loss=3.0,
        learning_rate=1e-3,
        tokens=100 * number,
        seconds=float(number),
        memory_bytes=2**30,
    )


@contextlib.contextmanager
def held_by_a_worker(home: Path, run_ids: Sequence[str]) -> Iterator[None]:
    """A process that has the lock of the local worker and these runs, so that an app on this home finds it and starts
    none."""
    lock = home / "worker.lock"
    fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(fd, fcntl.LOCK_EX)
    process = subprocess.Popen(["sleep", "100000"], pass_fds=(fd,), start_new_session=True)
    os.close(fd)
    lock.write_text(json.dumps({"pid": process.pid, "run_ids": [f"{run_id}@1" for run_id in run_ids]}))
    try:
        yield
    finally:
        process.kill()
        process.wait()
