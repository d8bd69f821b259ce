"""Fifty visitors explore the page for two minutes, alone and beside a training run. `make load`, on loopback only.

Each has a session of their own and speaks as Gradio's front end does. They open the page, change rank and model, open
sections, compare and look at Runs, with 0.5 to 2 s between two actions. It prints what it saw beside what is to be
reached on two idle cores, writes it as JSON lines (--report) for docs/security.md (tests/withstood.py), and fails where
a request failed, something was not reached, or the training run does not last.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.visit import PICTURES, Visit
from tests.support.web.ports import free_port

ROOT = Path(__file__).parents[1]

ARRIVAL = ("page", "scripts", "page's events")
NUMBERS = ("answer", "words", "compare", "section-fit")
GROUPS = {"numbers": NUMBERS, "pictures": (*PICTURES, "runs"), "arrival": ARRIVAL}
ALONE, BESIDE, OPEN_PAGES = "alone", "beside a training", "open pages"
REACH = {
    ALONE: {"errors": 0, "numbers_ms": 400, "pictures_ms": 800, "arrival_ms": 2000, "memory_mb": 150},
    BESIDE: {"errors": 0, "numbers_ms": 1000, "pictures_ms": 1000, "arrival_ms": 2000, "memory_mb": 150},
    OPEN_PAGES: {"errors": 0, "page_mb": 0.2},
}
"""The most of each figure, on two idle cores. Milliseconds are the p95 of a group of requests; memory is what is added
to that at the start, and what one open page takes."""
ARRIVE_SECONDS = 10
STILL_SECONDS = 3
STEPS = 1_000_000
"""Of the training, which is ended before."""
BEGIN_SECONDS, STEP_SECONDS = 600, 30
PAGES = 40
"""Opened one after another and kept open, to see what one costs."""


class App:
    """The app in its own process, shared or not."""

    def __init__(self, home: Path, **environment: str):
        import psutil

        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.home = home
        own = {"GRADIO_SERVER_PORT": str(port), "RANKVIZ_HOME": str(home), "HF_HUB_OFFLINE": "1", **environment}
        self.process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env={**os.environ, **own}, stdout=subprocess.DEVNULL
        )
        self.memory = psutil.Process(self.process.pid).memory_info
        for _ in range(600):
            try:
                urllib.request.urlopen(self.url, timeout=5).read()
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit("app.py did not answer.")

    @property
    def mb(self) -> float:
        return self.memory().rss / 1e6


async def crowd(app: App, visitors: int, seconds: float) -> dict[str, Any]:
    """The visitors: figures of what they and the app's memory saw."""
    import httpx

    events = events_of(app.url)
    seen: dict[str, list[float]] = defaultdict(list)
    errors: list[str] = []
    start, memory = app.mb, []
    until = time.monotonic() + seconds + ARRIVE_SECONDS

    async def one(number: int) -> None:
        await asyncio.sleep(ARRIVE_SECONDS * number / visitors)
        async with httpx.AsyncClient(base_url=app.url, timeout=60) as http:
            await Visit(http, events, seen, errors, number).stay(until)

    async def watch() -> None:
        while True:
            memory.append(app.mb)
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(one(number) for number in range(visitors)))
    watching.cancel()
    await asyncio.sleep(STILL_SECONDS)
    figures = report(seen, errors, seconds + ARRIVE_SECONDS)
    half = memory[len(memory) // 2 :]
    print(
        f"memory: {start:.0f} MB at the start, highest {max(memory):.0f} MB (+{max(memory) - start:.0f}), "
        f"{half[0]:.0f} MB half way, {half[-1]:.0f} MB at the end, {app.mb:.0f} MB when all have left"
    )
    return figures | {"memory_mb": max(memory) - start}


def report(seen: Mapping[str, list[float]], errors: Sequence[str], seconds: float) -> dict[str, Any]:
    """Prints each kind of request; returns counts, and the p95 of each group."""
    count = sum(map(len, seen.values()))
    print(f"{count} requests in {seconds:.0f} s, {count / seconds:.0f} a second; {len(errors)} errors")
    for error in errors[:5]:
        print(f"  {error}")
    print(f"{'':24}{'count':>7}{'p50 ms':>9}{'p95 ms':>9}")
    figures: dict[str, Any] = {"requests": count, "errors": len(errors)}
    for group, names in GROUPS.items():
        figures[f"{group}_ms"] = _row(group.upper(), [each for name in names for each in seen[name]])
        for name in names:
            _row(f"  {name}", seen[name])
    return figures


def _row(name: str, seconds: Sequence[float]) -> float | None:
    """Prints it; returns its p95 in milliseconds, None of less than two requests."""
    if len(seconds) < 2:
        return None
    p95 = statistics.quantiles(seconds, n=20)[-1] * 1e3
    print(f"{name:24}{len(seconds):7}{statistics.median(seconds) * 1e3:9.0f}{p95:9.0f}")
    return p95


def missed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What of REACH was not reached, or not measured, as sentences."""
    found = []
    for row in rows:
        for name, most in REACH[row["load"]].items():
            if (value := row[name]) is None:
                found.append(f"{row['load']}: {name} was not measured.")
            elif value > most:
                found.append(f"{row['load']}: {name} is {value:.4g}, to reach: {most:g}.")
    return found


async def open_pages(app: App) -> dict[str, Any]:
    """Pages that stay open, without anyone doing anything: what one costs the app."""
    import httpx

    events = events_of(app.url)
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=app.url, timeout=60, limits=httpx.Limits(max_connections=None))
        )
        at = []
        errors: list[str] = []
        for number in range(3 * PAGES):
            await stack.enter_async_context(Visit(http, events, defaultdict(list), errors, 10_000 + number).opened())
            at.append(app.mb)
        # The first third fills caches that all share.
        each = (at[-1] - at[PAGES - 1]) / (2 * PAGES)
        print(f"an open page: {each:.2f} MB, over pages {PAGES} to {3 * PAGES}; {len(errors)} errors")
        return {"errors": len(errors), "page_mb": each}


def events_of(url: str) -> Any:
    import httpx

    from tests.support.web.stranger import Events

    return Events(httpx.get(f"{url}/config").json())


class Training:
    """A run of a tiny model, ended at last. In a runs folder of its own: no shared page would start one that long."""

    def __init__(self, home: Path):
        from rankviz.settings import SHARED_NICENESS

        as_shared = {"RANKVIZ_WORKER_NICENESS": str(SHARED_NICENESS)}
        self.home = home
        base = home / "tiny"
        make = "import sys; from tests.support.models.tiny_llama import *; make_tiny_llama(Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", make, str(base)], cwd=ROOT, check=True)
        command = [sys.executable, "-m", "rankviz", "sweep", str(base), "--data", "phonemes", "--steps", str(STEPS)]
        self.process = subprocess.Popen(
            [*command, "-r", "8"],
            cwd=ROOT,
            env={**os.environ, "RANKVIZ_HOME": str(home), "HF_HUB_OFFLINE": "1", **as_shared},
            stdout=subprocess.DEVNULL,
        )

    def begin(self) -> None:
        """Wait for the first steps. Until then the worker imports and loads."""
        for _ in range(BEGIN_SECONDS):
            if self.process.poll() is None and self._count("StepLogged") > 10:
                return
            time.sleep(1)
        raise SystemExit(f"The training run did not begin within {BEGIN_SECONDS} s.")

    @contextlib.contextmanager
    def goes_on(self, figures: dict[str, Any]) -> Iterator[None]:
        """Adds the steps that it makes meanwhile. SystemExit where no worker trains until the end of this block, since
        what was measured in it means little."""
        begun = self._count("StepLogged")
        yield
        steps = self._count("StepLogged")
        for _ in range(STEP_SECONDS):
            if goes_on := self.process.poll() is None and self._count("StepLogged") > steps:
                break
            time.sleep(1)
        if steps == begun or not goes_on or self._count("RunFailed"):
            raise SystemExit("The training run ended early: what stands above was not measured beside one.")
        figures["steps"] = steps - begun
        print(f"the training run made {steps - begun} steps meanwhile")

    def end(self) -> None:
        from rankviz.engines.process import find, lock_file

        self.process.kill()  # an interrupt would end the display alone
        self.process.wait()
        if worker := find(lock_file(self.home)):
            worker.end(STILL_SECONDS)

    def _count(self, event: str) -> int:
        return sum(file.read_text().count(f'"event": "{event}"') for file in self.home.glob("runs/*/events.jsonl"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--only", choices=("alone", "beside", "pages"))
    parser.add_argument("--report", type=Path, help="a file for the figures, as JSON lines")
    options = parser.parse_args()
    print(f"{options.visitors} visitors, {options.seconds:.0f} s; load of the machine before: {os.getloadavg()[0]:.1f}")
    shared = {"RANKVIZ_SHARED": "1"}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        app = App(Path(folder), **shared)
        try:
            if options.only in (None, "alone"):
                print("\nAlone")
                rows.append({"load": ALONE, **asyncio.run(crowd(app, options.visitors, options.seconds))})
            if options.only in (None, "pages"):
                rows.append({"load": OPEN_PAGES, **asyncio.run(open_pages(app))})
            if options.only in (None, "beside"):
                print("\nBeside a training run")
                rows.append(beside := {"load": BESIDE})
                run = Training(Path(folder) / "trainer")
                try:
                    run.begin()
                    with run.goes_on(beside):
                        beside |= asyncio.run(crowd(app, options.visitors, options.seconds))
                finally:
                    run.end()
        finally:
            app.process.terminate()
            app.process.wait(20)
    if options.report:
        options.report.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if not_reached := missed(rows):
        raise SystemExit("\n".join(["", "Not reached:", *not_reached]))


if __name__ == "__main__":
    main()
