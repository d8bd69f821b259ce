"""Fifty visitors explore the page for two minutes, alone and beside a training run. `make load`, on loopback only.

Each has a session of their own and speaks as Gradio's front end does. They open the page, change rank and model, open
sections, compare and look at Runs, with 0.5 to 2 s between two actions. It prints what it saw beside what is to be
reached on two idle cores, and fails only where the training run does not last.
"""

import argparse
import asyncio
import contextlib
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.support.ports import free_port

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

MODELS = ("Qwen/Qwen3-4B", "meta-llama/Llama-3.1-8B", "unsloth/Llama-3.1-8B", "Qwen/Qwen3-8B", "google/gemma-3-4b-it")
RANKS = (1, 2, 4, 8, 16, 24, 32, 64, 128, 256)
PICTURES = ("section-memory", "section-modules", "section-studies", "section-accuracy")
ARRIVAL = ("page", "scripts", "page's events")
NUMBERS = ("answer", "words", "compare", "section-fit")
THINK_SECONDS = (0.5, 2.0)
ARRIVE_SECONDS = 10
STILL_SECONDS = 3
STEPS = 1_000_000
"""Of the training, which is ended before."""
SCRIPTS = re.compile(r'(?:src|href)="(?:\./)?([^":]+\.(?:js|css))"')
"""And stylesheets, that the page names."""
BEGIN_SECONDS, STEP_SECONDS = 600, 30
PAGES = 40
"""Opened one after another and kept open, to see what one costs."""


class Visit:
    """One visitor's page."""

    def __init__(self, http: Any, events: Any, seen: dict[str, list[float]], errors: list[str], seed: int):
        self.http, self.events, self.seen, self.errors = http, events, seen, errors
        self.random = random.Random(seed)
        self.session = f"load{seed:06d}"
        self.model, self.r = MODELS[0], 16

    async def stay(self, until: float) -> None:
        async with self.opened():
            while time.monotonic() < until:
                await asyncio.sleep(self.random.uniform(*THINK_SECONDS))
                await self.act()

    @contextlib.asynccontextmanager
    async def opened(self) -> Any:
        """The page with what it loads, and the stream that Gradio's front end keeps open where it is told to."""
        page = await self.timed("page", self.http.get("/"))
        for path in SCRIPTS.findall(page.text if page else ""):
            await self.timed("scripts", self.http.get(path))
        async with contextlib.AsyncExitStack() as stack:
            if self.events.heartbeat:
                stream = self.http.stream("GET", f"/gradio_api/heartbeat/{self.session}", timeout=None)
                await stack.enter_async_context(stream)
            await self.timed("answer", self.http.post("/rankviz/answer", json={"search": ""}))
            for event in self.events.chain(self.events.loads):
                await self.call("page's events", event)
            yield

    async def act(self) -> None:
        kind = self.random.random()
        if kind < 0.35:
            self.r = self.random.choice(RANKS)
            await self.answer("words")
        elif kind < 0.55:
            self.model = self.random.choice(MODELS)
            await self.answer("answer")
        elif kind < 0.62:
            await self.answer("compare", pins=[f"?model={self.model}&r={self.r}", "?model=Qwen/Qwen3-8B&r=64"])
        elif kind < 0.72:
            await self.section("section-fit")
        elif kind < 0.92:
            await self.section(self.random.choice(PICTURES))
        else:
            for event in self.events.of("Filter", "change"):
                await self.call("runs", event, {"runs-showing": "showing"})

    async def answer(self, name: str, **more: Any) -> None:
        body = {"values": {"model": self.model, "r": self.r}, **more}
        await self.timed(name, self.http.post(f"/rankviz/{name}", json=body))

    async def section(self, name: str) -> None:
        for event in self.events.of(name, "select"):
            await self.call(name, event, {"model": self.model})

    async def call(self, name: str, event: int, values: dict[str, Any] | None = None) -> None:
        if self.events.rows[event]["queue"]:
            return  # what a visitor does on purpose, not by looking
        body = {"fn_index": event, "data": self.events.data(event, values or {}), "session_hash": self.session}
        await self.timed(name, self.http.post("/gradio_api/run/predict", json=body))

    async def timed(self, name: str, request: Any) -> Any:
        """Its reply; None where there was none."""
        start = time.perf_counter()
        try:
            reply = await request
        except Exception as error:
            self.errors.append(f"{name}: {error!r}")
            return None
        self.seen[name].append(time.perf_counter() - start)
        if reply.status_code != 200 or b'"error":' in reply.content[:200]:
            self.errors.append(f"{name}: {reply.status_code} {reply.content[:200]!r}")
        return reply


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


async def crowd(app: App, visitors: int, seconds: float) -> None:
    """The visitors, and what they and the app's memory saw."""
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
    report(seen, errors, seconds + ARRIVE_SECONDS)
    half = memory[len(memory) // 2 :]
    print(
        f"memory: {start:.0f} MB at the start, highest {max(memory):.0f} MB "
        f"(+{max(memory) - start:.0f}; to reach: +150), "
        f"{half[0]:.0f} MB half way, {half[-1]:.0f} MB at the end, {app.mb:.0f} MB when all have left"
    )


def report(seen: dict[str, list[float]], errors: list[str], seconds: float) -> None:
    count = sum(map(len, seen.values()))
    print(f"{count} requests in {seconds:.0f} s, {count / seconds:.0f} a second; {len(errors)} errors (to reach: 0)")
    for error in errors[:5]:
        print(f"  {error}")
    groups = {"numbers": NUMBERS, "pictures": (*PICTURES, "runs"), "arrival (to reach: 2 s)": ARRIVAL}
    print(f"{'':24}{'count':>7}{'p50 ms':>9}{'p95 ms':>9}")
    for group, names in groups.items():
        _row(group.upper(), [each for name in names for each in seen[name]])
        for name in names:
            _row(f"  {name}", seen[name])


def _row(name: str, seconds: list[float]) -> None:
    if len(seconds) > 1:
        p95 = statistics.quantiles(seconds, n=20)[-1]
        print(f"{name:24}{len(seconds):7}{statistics.median(seconds) * 1e3:9.0f}{p95 * 1e3:9.0f}")


async def open_pages(app: App) -> None:
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
        print(f"an open page: {each:.2f} MB (to reach: 0.2), over pages {PAGES} to {3 * PAGES}; {len(errors)} errors")


def events_of(url: str) -> Any:
    import httpx

    from tests.support.stranger import Events

    return Events(httpx.get(f"{url}/config").json())


class Training:
    """A run of a tiny model, ended at last. In a runs folder of its own: no shared page would start one that long."""

    def __init__(self, home: Path):
        from rankviz.settings import SHARED_NICENESS

        as_shared = {"RANKVIZ_WORKER_NICENESS": str(SHARED_NICENESS)}
        self.home = home
        base = home / "tiny"
        make = "import sys; from tests.support.tiny_llama import *; make_tiny_llama(Path(sys.argv[1]))"
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
    def goes_on(self) -> Any:
        """SystemExit where no worker trains until the end of this block, since what was measured in it means little."""
        begun = self._count("StepLogged")
        yield
        steps = self._count("StepLogged")
        for _ in range(STEP_SECONDS):
            if goes_on := self.process.poll() is None and self._count("StepLogged") > steps:
                break
            time.sleep(1)
        if steps == begun or not goes_on or self._count("RunFailed"):
            raise SystemExit("The training run ended early: what stands above was not measured beside one.")
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
    options = parser.parse_args()
    print(f"{options.visitors} visitors, {options.seconds:.0f} s; load of the machine before: {os.getloadavg()[0]:.1f}")
    shared = {"RANKVIZ_SHARED": "1"}
    with tempfile.TemporaryDirectory() as folder:
        app = App(Path(folder), **shared)
        try:
            if options.only in (None, "alone"):
                print("\nAlone (to reach: p95 400 ms for numbers, 800 ms for pictures)")
                asyncio.run(crowd(app, options.visitors, options.seconds))
            if options.only in (None, "pages"):
                asyncio.run(open_pages(app))
            if options.only in (None, "beside"):
                print("\nBeside a training run (to reach: p95 1,000 ms)")
                run = Training(Path(folder) / "trainer")
                try:
                    run.begin()
                    with run.goes_on():
                        asyncio.run(crowd(app, options.visitors, options.seconds))
                finally:
                    run.end()
        finally:
            app.process.terminate()
            app.process.wait(20)


if __name__ == "__main__":
    main()
