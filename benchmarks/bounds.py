"""What a list, a chart, a verdict and a look of the supervisor take among 12,050 runs (many_runs.py), beside the bounds
that RankViz keeps there: 300 ms each even in the worst of many repetitions, also of a sweep of 256 runs, 3 s for a file
of all runs, 300 MB of memory, under 1 % of a processor for the runs while nothing happens, and a page that answers
within a second while they are read for the first time.

Times are those of a processor, as one has them on a quiet core; beside them stands what the clock said.
"""

import argparse
import contextlib
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from benchmarks.many_runs import Held, Sizes, add_large, held_by_a_worker, make_home, step
from rankviz.api import Api
from rankviz.core.runs.events import RunCompleted
from rankviz.exports.tables import write_table
from rankviz.jobs.supervisor import Supervisor
from tests.support.web.ports import free_port

ROOT = Path(__file__).parents[1]
SETTLE_SECONDS, IDLE_SECONDS = 20, 60
MOST_MS, MOST_MB, MOST_PERCENT, MOST_WAIT_MS, MOST_FILE_MS = 300, 300, 1, 1000, 3000
TIMES = 20


class Report:
    """A row for each thing that is measured, and at the end which bounds do not hold."""

    def __init__(self):
        self._over: list[str] = []
        self._rows = 0
        print(f"{'ms of a processor':58}{'first':>7}{'median':>8}{'worst':>7}{'clock':>7}{'bound':>7}")

    def time(self, name: str, call: Callable[[], object], *, before: Callable[[], object] = lambda: None) -> None:
        """The median and the worst of many calls after a first; the worst by the clock too."""
        first, later = _milliseconds(call), []
        for _ in range(TIMES):
            before()
            later.append(_milliseconds(call))
        clock, processor = zip(*later, strict=True)
        worst = max(processor)
        row = f"{name:58}{first[1]:7,.0f}{statistics.median(processor):8,.1f}{worst:7,.0f}{max(clock):7,.0f}{MOST_MS:7}"
        self._print(row, name, worst <= MOST_MS)

    def value(self, name: str, value: float, unit: str, most: float) -> None:
        """Something that is measured once."""
        self._print(f"{name:58}{value:16,.2f} {unit:5}{most:14}", name, value <= most)

    def end(self) -> None:
        """The last line."""
        print(
            f"{self._rows - len(self._over)} of {self._rows} within their bounds.",
            *self._over[:1] and ["Over:"],
            end="",
        )
        print("", "; ".join(self._over), flush=True)

    def _print(self, row: str, name: str, is_within: bool) -> None:
        self._rows += 1
        if not is_within:
            self._over.append(name)
        print(row, "within" if is_within else "OVER", sep="  ", flush=True)


def _milliseconds(call: Callable[[], object]) -> tuple[float, float]:
    """Of the clock, and of a processor."""
    start, used = time.perf_counter(), time.process_time()
    call()
    return 1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - used)


def bench_page_and_queue(report: Report, home: Path, running: Sequence[str]) -> None:
    """In this process: what the page and the command line call, and a supervisor whose engine has all that run."""
    from rankviz.endpoints.gate import MAX_LIST
    from rankviz.ui import page, serve  # noqa: F401 - all that the app imports
    from rankviz.ui.parts.sweep import sweep_view
    from rankviz.ui.runs.view import runs_view

    gc.freeze()  # as the app does
    api = Api(home=home, shared=False)
    store = api.workspace.store
    seconds = time.process_time()
    newest = api.runs.sweeps()[0].sweep_id
    print(f"first read of {len(store.records()):,} runs: {time.process_time() - seconds:.1f} s of a processor")
    gc.freeze()  # again as the app does
    done, waits, oldest = "done-00000", "wait-00000", "once-00000"
    filters = {"text": "", "x": "adapter", "selected": []}
    view = {"showing": "yes", **filters, "run_id": "", "metric": "loss", "tolerance": "", "seen": ""}
    steps, ends = itertools.count(20), iter(running)

    def go_on() -> None:
        number = next(steps)
        for run_id in running:
            store.append(run_id, step(time.time(), number))

    def one_ends() -> None:
        event = RunCompleted(time=time.time(), train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="allocated")
        store.append(next(ends), event)

    def any_may_have_changed() -> None:
        os.utime(store.run_dir(f"{done}-001-r2"))

    def tab(**changed: object) -> Callable[[], object]:
        return lambda: runs_view(api, **{**view, "sweep_id": "", **changed})

    report.time("list of sweeps", api.runs.sweeps)
    report.time("list of sweeps while all that run go on", api.runs.sweeps, before=go_on)
    report.time("list of sweeps where any run may have changed", api.runs.sweeps, before=any_may_have_changed)
    report.time("one sweep", lambda: api.runs.sweep(done))
    report.time("Runs tab, all of it", tab())
    report.time("Runs tab with a sweep, all of it", tab(sweep_id=done))
    report.time("Runs tab with a sweep where any run may have changed", tab(sweep_id=done), before=any_may_have_changed)
    report.time("Runs tab, the queued runs", tab(text="queued"))
    ended = (run.run_id for sweep in reversed(api.runs.sweeps()) for run in sweep.runs)
    selected = list(itertools.islice(ended, MAX_LIST))
    report.time(f"Runs tab with {len(selected)} runs selected", tab(selected=selected))
    report.time("Runs tab, nothing new", tab(sweep_id=done, seen=runs_view(api, **view, sweep_id=done).seen))
    report.time("chart and words of a sweep", lambda: sweep_view(api, api.runs.sweep(done)))
    report.time("verdict on a sweep", lambda: api.verdicts.of_sweep(done))
    report.time("verdict on a sweep of one seed", lambda: api.verdicts.of_sweep(oldest))
    report.time("place in the queue", lambda: api.runs.queue_place(waits))
    report.time("last place in the queue", lambda: api.runs.queue_place(newest))
    supervisor = Supervisor(store, engines=[Held(running)])
    report.time("look of the supervisor", supervisor.tick)
    report.time("look of the supervisor while all that run go on", supervisor.tick, before=go_on)
    report.time("look of the supervisor where any run may have changed", supervisor.tick, before=any_may_have_changed)
    report.time("look of the supervisor after a run has ended", supervisor.tick, before=one_ends)
    report.time("last place in the queue after a run has ended", lambda: api.runs.queue_place(newest), before=one_ends)
    supervisor.stop()
    _bench_large(report, api, tab)
    report.value("memory of this process", psutil.Process().memory_info().rss / 1e6, "MB", MOST_MB)


def _bench_large(report: Report, api: Api, tab: Callable[..., Callable[[], object]]) -> None:
    """A file of all runs, and sweeps of 256 runs among the others: a finished one, and one that is trained."""
    from rankviz.ui.runs.view import matching_runs

    def as_csv() -> None:
        with tempfile.TemporaryDirectory() as folder:
            write_table(matching_runs(api, text=""), "csv", Path(folder))

    def listed() -> None:
        runs = itertools.islice((run for sweep in api.runs.sweeps() for run in sweep.runs), 500)
        json.dumps([*api.runs.rows(list(runs))])

    report.value("all runs as a CSV file, the first time", _milliseconds(as_csv)[1], "ms", MOST_FILE_MS)
    report.time("answer with 500 runs", listed)
    store, steps, runs = api.workspace.store, itertools.count(20), 256
    add_large(store, "large", runs)
    running = add_large(store, "going", 100)

    def goes_on() -> None:
        store.append(running, step(time.time(), next(steps)))

    report.time(f"Runs tab with a sweep of {runs} runs, all of it", tab(sweep_id="large"))
    report.time(f"verdict on a sweep of {runs} runs", lambda: api.verdicts.of_sweep("large"))
    seen = {"seen": tab(sweep_id="going")().seen}

    def redrawn() -> None:
        seen["seen"] = tab(sweep_id="going", **seen)().seen

    report.time(f"Runs tab with a sweep of {runs} runs after a step", redrawn, before=goes_on)


def bench_app(report: Report, home: Path, empty: Path) -> None:
    """The app itself on this home, and beside it on an empty one: what Gradio takes alone is in both."""
    with _serving(home) as (app, url, seconds), _serving(empty) as (bare, *_):
        print(f"app: {seconds:.1f} s to the first answer")
        longest, until = _longest_answer(url)
        print(f"all runs were read {until:.1f} s after that")
        report.value("longest answer of the page until then, by the clock", longest, "ms", MOST_WAIT_MS)
        time.sleep(SETTLE_SECONDS)
        before = [_cpu_seconds(each) for each in (app, bare)]
        time.sleep(IDLE_SECONDS)
        used = [_cpu_seconds(each) - since for each, since in zip((app, bare), before, strict=True)]
        whole, alone = (100 * seconds / IDLE_SECONDS for seconds in used)
        print(f"app, nothing happens: {whole:.2f} % of a processor, {alone:.2f} % on an empty folder")
        report.value("of a processor for the runs while nothing happens", whole - alone, "%", MOST_PERCENT)
        print(f"memory of the app on an empty folder: {bare.memory_info().rss / 1e6:.0f} MB")
        report.value("memory of the app", app.memory_info().rss / 1e6, "MB", MOST_MB)


def _longest_answer(url: str) -> tuple[float, float]:
    """Milliseconds that somebody waits at most who opens the page, Explore and Runs, again and again until all runs are
    read; and the seconds until then."""
    from tests.support.web.stranger import Stranger

    start, waits = time.monotonic(), []

    def timed(call: Callable[[], object]) -> None:
        began = time.perf_counter()
        call()
        waits.append(1e3 * (time.perf_counter() - began))

    visitor = Stranger(url)
    events = visitor.events
    table = next(at for at, props in events.components.items() if props.get("elem_id") == "runs-table")
    listing = next(row["id"] for row in events.rows.values() if table in row["outputs"] and row["backend_fn"])
    data = events.data(listing, {"runs-showing": "showing"})
    while True:
        timed(lambda: visitor.http.get("/"))
        for event in events.chain(events.loads):
            timed(lambda event=event: visitor.call(event))
        timed(visitor.ask)
        timed(lambda: visitor.call(listing, data=data))
        if visitor.http.get("/rankviz/health").json()["queued"] is not None:
            visitor.close()
            return max(waits), time.monotonic() - start


@contextlib.contextmanager
def _serving(home: Path) -> Iterator[tuple[psutil.Process, str, float]]:
    """An app's process, its address, and how long it took to answer."""
    port = free_port()
    environment = {**os.environ, "RANKVIZ_HOME": str(home), "GRADIO_SERVER_PORT": str(port), "RANKVIZ_SHARED": "0"}
    command = [sys.executable, "-m", "rankviz", "serve"]
    app = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        start = time.monotonic()
        while not _answers(url):
            time.sleep(0.05)
        yield psutil.Process(app.pid), url, time.monotonic() - start
    finally:
        app.kill()
        app.wait()


def _cpu_seconds(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(f"{url}/rankviz/health", timeout=60).status == 200
    return False


def bench_bounds(sizes: Sizes | None = None) -> None:
    """All of it, on a home that is removed afterwards."""
    sizes = sizes or Sizes()
    with tempfile.TemporaryDirectory() as folder:
        running = make_home(Path(folder) / "home", sizes)
        print(f"{sizes.queued:,} queued runs, {sizes.finished:,} finished, {sizes.live} that run", flush=True)
        command = [sys.executable, "-m", "benchmarks.bounds", "--folder", folder, "--running", *running]
        subprocess.run(command, cwd=ROOT, check=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--running", nargs="*", default=[])
    arguments = parser.parse_args()
    if not arguments.folder:
        return bench_bounds()
    report, home = Report(), arguments.folder / "home"
    with held_by_a_worker(home, arguments.running):
        bench_app(report, home, arguments.folder / "empty")
    bench_page_and_queue(report, home, arguments.running)
    report.end()


if __name__ == "__main__":
    main()
