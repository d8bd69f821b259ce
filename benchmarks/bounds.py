"""One runs folder with more than a machine trains in a month: 10,000 queued runs, 2,000 finished and 50 that run.

Prints what a list, a chart, a verdict and a look of the supervisor take there, beside the bounds that RankViz keeps:
300 ms each, 300 MB of memory, and under 1 % of a processor for them while nothing happens. The journals are those that
ship, under other names; no worker is needed, since what runs is held by a process that only sleeps.
"""

import argparse
import contextlib
import fcntl
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from rankviz import machine
from rankviz.api import Api
from rankviz.core.cost.pace import LIBRARIES
from rankviz.core.runs.events import RunEvent, RunStarted, StageReached, StepLogged
from rankviz.core.runs.request import SHORT_TRAINING, RunRequest, SweepRequest
from rankviz.engines import Attempt, Engine, Job, Live
from rankviz.paths import ASSETS
from rankviz.store import RunStore
from rankviz.store.journal import line_of, request_text
from rankviz.supervisor import Supervisor

ROOT = Path(__file__).parents[1]
RANKS, SEEDS = (2, 4, 8, 16, 32), (0, 1)
SETTLE_SECONDS, IDLE_SECONDS = 20, 60
MOST_MS, MOST_MB, MOST_PERCENT = 300, 300, 1
TIMES = 7


class Sizes(argparse.Namespace):
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


def _made_here(events: Sequence[RunEvent]) -> bytes:
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
    return [*events, *(_step(now, number) for number in range(1, 20))]


def _step(now: float, number: int) -> StepLogged:
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


def timed(name: str, call: Callable[[], object], *, before: Callable[[], object] = lambda: None) -> None:
    """The slowest of several calls, after a first; and their processor time, which other programs change less."""
    first = _milliseconds(call)
    later = []
    for _ in range(TIMES):
        before()
        later.append(_milliseconds(call))
    whole, processor = zip(*later, strict=True)
    print(
        f"{name}: first {first[0]:,.0f} ms ({first[1]:,.0f} ms of a processor), then at most {max(whole):,.1f} ms "
        f"({max(processor):,.1f} ms of a processor; bound {MOST_MS} ms)",
        flush=True,
    )


def _milliseconds(call: Callable[[], object]) -> tuple[float, float]:
    """Of the clock, and of a processor."""
    start, used = time.perf_counter(), time.process_time()
    call()
    return 1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - used)


def bench_page_and_queue(home: Path, running: Sequence[str]) -> None:
    """In this process: what the page and the command line call, and a supervisor whose engine has all that run."""
    from rankviz.ui.runs.sweep import sweep_view
    from rankviz.ui.runs.view import runs_view

    api = Api(home=home, shared=False)
    done, waits, waits_longest = "done-00000", "wait-00000", api.runs.sweeps()[0].sweep_id
    view = {"showing": "yes", "text": "", "state": "any state", "x": "adapter", "y": "loss", "selected": []}
    view |= {"run_id": "", "open_id": "", "metric": "loss", "tolerance": "0.02"}
    steps = itertools.count(20)

    def more_steps() -> None:
        number = next(steps)
        for run_id in running:
            api.workspace.store.append(run_id, _step(time.time(), number))

    timed("list of sweeps", api.runs.sweeps)
    timed("list of sweeps while all that run go on", api.runs.sweeps, before=more_steps)
    timed("one sweep", lambda: api.runs.sweep(done))
    timed("Runs tab, all of it", lambda: runs_view(api, **view, sweep_id="", seen=""))
    timed("Runs tab with a sweep, all of it", lambda: runs_view(api, **view, sweep_id=done, seen=""))
    seen = runs_view(api, **view, sweep_id=done, seen="").seen
    timed("Runs tab, nothing new", lambda: runs_view(api, **view, sweep_id=done, seen=seen))
    timed("chart and words of a sweep", lambda: sweep_view(api, api.runs.sweep(done), tolerance="0.02"))
    timed("verdict on a sweep", lambda: api.verdicts.of_sweep(done))
    timed("verdict on a sweep of one seed", lambda: api.verdicts.of_sweep("once-00000"))
    timed("place in the queue", lambda: api.runs.waiting(waits))
    timed("last place in the queue", lambda: api.runs.waiting(waits_longest))
    timed("words on the queue", api.runs.queue_words)
    supervisor = Supervisor(api.workspace.store, engines=[Held(running)])
    timed("look of the supervisor", supervisor.tick)
    timed("look of the supervisor while all that run go on", supervisor.tick, before=more_steps)
    supervisor.stop()
    memory = psutil.Process().memory_info().rss / 1e6
    print(f"memory of this process: {memory:.0f} MB (bound {MOST_MB} MB)", flush=True)


def bench_app(home: Path, empty: Path) -> None:
    """The app itself on this home, and beside it on an empty one: what Gradio takes alone is in both."""
    with _serving(home) as (app, seconds), _serving(empty) as (bare, _):
        print(f"app: {seconds:.1f} s to the first answer", flush=True)
        time.sleep(SETTLE_SECONDS)
        before = [_cpu_seconds(each) for each in (app, bare)]
        time.sleep(IDLE_SECONDS)
        used = [_cpu_seconds(each) - since for each, since in zip((app, bare), before, strict=True)]
        whole, alone = (100 * seconds / IDLE_SECONDS for seconds in used)
        print(
            f"app, nothing happens: {whole:.2f} % of a processor, {alone:.2f} % on an empty folder: the runs take "
            f"{whole - alone:.2f} % (bound {MOST_PERCENT} %)\n"
            f"memory of the app: {app.memory_info().rss / 1e6:.0f} MB (bound {MOST_MB} MB), on an empty folder "
            f"{bare.memory_info().rss / 1e6:.0f} MB",
            flush=True,
        )


@contextlib.contextmanager
def _serving(home: Path) -> Iterator[tuple[psutil.Process, float]]:
    """An app's process, and how long it took to answer."""
    port = _free_port()
    environment = {**os.environ, "RANKVIZ_HOME": str(home), "GRADIO_SERVER_PORT": str(port), "RANKVIZ_SHARED": "0"}
    command = [sys.executable, "-m", "rankviz", "serve"]
    app = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        start = time.monotonic()
        while not _answers(port):
            time.sleep(0.05)
        yield psutil.Process(app.pid), time.monotonic() - start
    finally:
        app.kill()
        app.wait()


def _cpu_seconds(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/rankviz/health", timeout=60).status == 200
    return False


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def bench_bounds(sizes: Sizes | None = None) -> None:
    """All of it, on a home that is removed afterwards."""
    sizes = sizes or Sizes()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        running = make_home(home, sizes)
        print(f"{sizes.queued:,} queued runs, {sizes.finished:,} finished, {sizes.live} that run", flush=True)
        command = [sys.executable, "-m", "benchmarks.bounds", "--home", str(home), "--running", *running]
        subprocess.run(command, cwd=ROOT, check=True)
        with held_by_a_worker(home, running):
            bench_app(home, Path(folder) / "empty")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    parser.add_argument("--running", nargs="*", default=[])
    arguments = parser.parse_args()
    if arguments.home:
        bench_page_and_queue(arguments.home, arguments.running)
    else:
        bench_bounds()
