"""One visitor who explores the page, speaking as Gradio's front end does."""

import asyncio
import contextlib
import random
import re
import time
from collections import Counter
from typing import Any
from urllib.parse import urlencode

RANK = "rank"
"""The elem_id of the rank. It is no part of the question: all ranks are estimated at once."""
SETTINGS = {
    "model": (
        "Qwen/Qwen3-4B",
        "meta-llama/Llama-3.1-8B",
        "unsloth/Llama-3.1-8B",
        "Qwen/Qwen3-8B",
        "google/gemma-3-4b-it",
    ),
    "gpu": ("l4", "t4", "a10g", "a100-80gb-sxm", "h100-pcie", "none"),
    "preset": ("unsloth", "all-linear", "attention", "mlp", "qv"),
    "precision": ("nf4-dq", "nf4", "int8", "bf16"),
    "batch": (1, 2, 4, 8, 16),
    "max_length": (512, 1024, 2048, 4096, 8192),
    "length": (None, 100, 300, 1000, 3000),
}
"""What visitors choose, by the names of the question."""
WIDGETS = {
    "model": "model",
    "gpu": "GPU",
    "preset": "Target modules",
    "precision": "Base model precision",
    "batch": "Batch",
    "max_length": "Max length (tokens)",
    "length": "Training length",
}
"""The elem_id or label of each one's widget."""
CHANGES = 0.75
"""How often a visitor changes a setting before looking on. The server keeps a few answers: a new one is made then."""
RANKS = (1, 2, 4, 8, 16, 24, 32, 64, 128, 256)
PICTURES = ("section-studies", "section-export")
RUNS = 0.92
"""Beyond this share of what they do, visitors look at Runs."""
THINK_SECONDS = (0.5, 2.0)
SCRIPTS = re.compile(r'(?:src|href)="(?:\./)?([^":]+\.(?:js|css))"')
"""And stylesheets, that the page names."""


class Visit:
    """One visitor's page."""

    def __init__(
        self,
        http: Any,
        events: Any,
        seen: dict[str, list[float]],
        errors: list[str],
        seed: int,
        questions: Counter[str] | None = None,
        watched: str = "",
    ):
        """questions: how often each was asked. watched: the id of a sweep that is open on Runs."""
        self.http, self.events, self.seen, self.errors = http, events, seen, errors
        self.questions = Counter() if questions is None else questions
        self.watched = watched
        self.random = random.Random(seed)
        self.session = f"load{seed:06d}"
        self.r = 16
        self.chosen = {"model": SETTINGS["model"][0]}

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
        if kind >= RUNS:
            return await self.runs()
        if self.random.random() < CHANGES:
            name = self.random.choice(list(SETTINGS))
            self.chosen[name] = self.random.choice(SETTINGS[name])
        self.questions[repr(sorted(self.chosen.items()))] += 1
        if kind < 0.35:
            self.r = self.random.choice(RANKS)
            await self.answer("words")
        elif kind < 0.55:
            await self.answer("answer")
        elif kind < 0.62:
            await self.compare()
        elif kind < 0.72:
            await self.section("section-fit")
        else:
            await self.section(self.random.choice(PICTURES))

    async def runs(self) -> None:
        for event in self.events.of("Filter", "change"):
            await self.call("runs", event, {"runs-showing": "showing", "runs-sweep": self.watched})

    async def compare(self) -> None:
        """Pins what is in sight beside something else."""
        reply = await self.answer("words")
        address = reply.json().get("address", {}) if reply else {}
        pinned = urlencode({name: value for name, value in address.items() if value is not None})
        await self.answer("compare", pins=[f"?{pinned}", "?model=Qwen/Qwen3-8B&r=64"])

    async def answer(self, name: str, **more: Any) -> Any:
        body = {"values": {**self.chosen, "r": self.r}, **more}
        return await self.timed(name, self.http.post(f"/rankviz/{name}", json=body))

    async def section(self, name: str) -> None:
        values = {WIDGETS[setting]: value for setting, value in self.chosen.items()} | {RANK: self.r}
        for event in self.events.of(name, "select"):
            await self.call(name, event, values)

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
