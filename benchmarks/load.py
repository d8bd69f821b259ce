"""Fifty visitors explore the page for two minutes, alone and beside a training run. `make load`, on loopback only.

Each has a session of their own and speaks as Gradio's front end does. They open the page, change its settings, open
sections, compare and look at Runs, with 0.5 to 2 s between two actions. The run is trained by the same page, for a
visitor who lets the others look at it. It prints what it saw beside what is to be reached on two idle cores, writes it
as JSON lines (--report) for docs/security.md (docs/generate/withstood.py), and fails where a request failed, something
was not reached, or the training run does not last.
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
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from benchmarks.visit import PICTURES, Visit
from rankviz.core.runs.record import base_name
from rankviz.references import EMBEDDED
from tests.attacks.spaces import Space
from tests.support.measured import measured
from tests.support.web.stranger import Events, Stranger

ROOT = Path(__file__).parents[1]

ARRIVAL = ("page", "scripts", "page's events")
NUMBERS = ("answer", "words", "compare", "section-fit")
GROUPS = {"numbers": NUMBERS, "pictures": (*PICTURES, "runs"), "arrival": ARRIVAL}
ALONE, BESIDE, OPEN_PAGES = "alone", "beside a training", "open pages"
MEMORY = {"memory_mb": 150, "growth_mb": 10}
REACH = {
    ALONE: {"errors": 0, "cpu_ms": 12, "numbers_ms": 400, "pictures_ms": 800, "arrival_ms": 2000, **MEMORY},
    BESIDE: {"errors": 0, "numbers_ms": 1000, "pictures_ms": 1000, "arrival_ms": 2000, **MEMORY},
    OPEN_PAGES: {"errors": 0, "page_mb": 0.2},
}
"""The most of each figure, on two idle cores. cpu_ms is the processor time that a request costs the app, on average
over a crowd; other milliseconds are the p95 of a group of requests. Memory is what is added to that of the app when it
had just started, growth what is added over the second half of a visit, and page what one open page takes."""
ARRIVE_SECONDS = 10
STILL_SECONDS = 3
EVERY_SECONDS = 1.0
"""A look at the app's memory."""
STEPS = 1_000_000
"""Of the training, which is ended before."""
LIMITS = {"RANKVIZ_MAX_STEPS": str(STEPS), "RANKVIZ_MAX_RUN_MINUTES": ""}
"""Of the page that trains such a run."""
LOST = ("RunFailed", "RunRequeued", "RunCancelled", "RunCompleted")
"""Events after which what was measured was not measured beside one run."""
BEGIN_SECONDS, STEP_SECONDS = 600, 30
SEEDS = count()
"""No two visitors do the same."""
PAGES = 40
"""Opened one after another and kept open, to see what one costs."""


async def crowd(space: Space, start_mb: float, visitors: int, seconds: float, watched: str = "") -> dict[str, Any]:
    """The visitors: figures of what they and the app's memory saw. watched: the id of a sweep that all look at."""
    events = events_of(space.url)
    seen: dict[str, list[float]] = defaultdict(list)
    errors: list[str] = []
    questions: Counter[str] = Counter()
    memory: list[float] = []
    used = processor_seconds(space)
    until = time.monotonic() + seconds + ARRIVE_SECONDS

    async def one(number: int) -> None:
        await asyncio.sleep(ARRIVE_SECONDS * number / visitors)
        async with httpx.AsyncClient(base_url=space.url, timeout=60) as http:
            await Visit(http, events, seen, errors, next(SEEDS), questions, watched).stay(until)

    async def watch() -> None:
        while True:
            memory.append(mb(space))
            await asyncio.sleep(EVERY_SECONDS)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(one(number) for number in range(visitors)))
    watching.cancel()
    await asyncio.sleep(STILL_SECONDS)
    figures = report(seen, errors, seconds + ARRIVE_SECONDS)
    figures["cpu_ms"] = (processor_seconds(space) - used) / max(1, figures["requests"]) * 1e3
    print(f"processor time of the app: {figures['cpu_ms']:.1f} ms a request")
    figures |= {"questions": len(questions), "memory_mb": max(memory) - start_mb, "growth_mb": growth(memory)}
    print(f"{questions.total()} times a question was looked at, {len(questions)} of them new")
    print(
        f"memory: {start_mb:.0f} MB at the start, highest {max(memory):.0f} MB (+{figures['memory_mb']:.0f}), "
        f"{figures['growth_mb']:+.1f} MB over the second half, {mb(space):.0f} MB when all have left"
    )
    return figures


def processor_seconds(space: Space) -> float:
    """Of the app's own process so far, without the processes that train or read files."""
    times = space.rss.cpu_times()
    return times.user + times.system


def mb(space: Space) -> float:
    return space.rss.memory_info().rss / 1e6


def growth(memory: Sequence[float]) -> float:
    """What is added over the second half of these, by the line through them: what a single answer takes for a moment
    is hardly in it."""
    half = memory[len(memory) // 2 :]
    return statistics.linear_regression(range(len(half)), half).slope * len(half)


def report(seen: Mapping[str, list[float]], errors: Sequence[str], seconds: float) -> dict[str, Any]:
    """Prints each kind of request; returns counts, and the p95 of each group."""
    requests = sum(map(len, seen.values()))
    print(f"{requests} requests in {seconds:.0f} s, {requests / seconds:.0f} a second; {len(errors)} errors")
    for error in errors[:5]:
        print(f"  {error}")
    print(f"{'':24}{'count':>7}{'p50 ms':>9}{'p95 ms':>9}")
    figures: dict[str, Any] = {"requests": requests, "errors": len(errors)}
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


async def open_pages(space: Space) -> dict[str, Any]:
    """Pages that stay open, without anyone doing anything: what one costs the app."""
    events = events_of(space.url)
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=space.url, timeout=60, limits=httpx.Limits(max_connections=None))
        )
        at = []
        errors: list[str] = []
        for _ in range(3 * PAGES):
            await stack.enter_async_context(Visit(http, events, defaultdict(list), errors, next(SEEDS)).opened())
            at.append(mb(space))
        # The first third fills caches that all share.
        each = (at[-1] - at[PAGES - 1]) / (2 * PAGES)
        print(f"an open page: {each:.2f} MB, over pages {PAGES} to {3 * PAGES}; {len(errors)} errors")
        return {"errors": len(errors), "page_mb": each}


def events_of(url: str) -> Events:
    return Events(httpx.get(f"{url}/config").json())


class Training:
    """A run of a tiny base on the page itself, in place of the embedded one: a visitor starts it and shows it to all.
    It ends with the page."""

    def __init__(self, space: Space):
        self.home = space.home
        base = self.home / "models" / base_name(EMBEDDED)
        make = "import sys; from tests.support.models.tiny_llama import *; make_tiny_llama(Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", make, str(base)], cwd=ROOT, check=True)
        self.owner = Stranger(space.url)
        chosen = ("embedded", "phonemes", "sweep", [8], None, "unsloth", "32", [1e-3], 1, STEPS)
        self.sweep_id = self._asked("start_sweep", *chosen)["sweep_id"]
        self._asked("share", self.sweep_id)

    def _asked(self, endpoint: str, *arguments: Any) -> dict[str, Any]:
        answer = self.owner.endpoint(endpoint, *arguments)
        if answer.error:
            raise SystemExit(f"The training run did not start: {answer.error}")
        return answer.data[0]

    def begin(self) -> None:
        """Wait for the first steps. Until then the worker imports and loads."""
        for _ in range(BEGIN_SECONDS):
            if self._lost():
                break
            if self._count("StepLogged") > 10:
                return
            time.sleep(1)
        raise SystemExit(f"The training run failed, or did not begin within {BEGIN_SECONDS} s.")

    @contextlib.contextmanager
    def goes_on(self, figures: dict[str, Any]) -> Iterator[None]:
        """Adds the steps that it makes meanwhile. SystemExit where no worker trains until the end of this block, since
        what was measured in it means little."""
        begun = self._count("StepLogged")
        yield
        steps = self._count("StepLogged")
        for _ in range(STEP_SECONDS):
            if goes_on := self._count("StepLogged") > steps:
                break
            time.sleep(1)
        if steps == begun or not goes_on or self._lost():
            raise SystemExit("The training run ended early: what stands above was not measured beside one.")
        figures["steps"] = steps - begun
        print(f"the training run made {steps - begun} steps meanwhile")

    def _lost(self) -> int:
        return sum(map(self._count, LOST))

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
    of_crowd = options.visitors, options.seconds
    rows: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Space(Path(folder), trains=True, **LIMITS) as space,
    ):
        start_mb = mb(space)
        if options.only in (None, "alone"):
            print("\nAlone")
            rows.append({"load": ALONE, **asyncio.run(crowd(space, start_mb, *of_crowd))})
        if options.only in (None, "pages"):
            rows.append({"load": OPEN_PAGES, **asyncio.run(open_pages(space))})
        if options.only in (None, "beside"):
            print("\nBeside a training run")
            rows.append(beside := {"load": BESIDE})
            run = Training(space)
            run.begin()
            with run.goes_on(beside):
                beside |= asyncio.run(crowd(space, start_mb, *of_crowd, run.sweep_id))
    if options.report:
        options.report.write_text("".join(json.dumps(row | measured()) + "\n" for row in rows), encoding="utf-8")
    if not_reached := missed(rows):
        raise SystemExit("\n".join(["", "Not reached:", *not_reached]))


if __name__ == "__main__":
    main()
