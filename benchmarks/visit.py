"""One visitor who explores the page, speaking as Gradio's front end does."""

import asyncio
import contextlib
import random
import re
import time
from typing import Any

MODELS = ("Qwen/Qwen3-4B", "meta-llama/Llama-3.1-8B", "unsloth/Llama-3.1-8B", "Qwen/Qwen3-8B", "google/gemma-3-4b-it")
RANKS = (1, 2, 4, 8, 16, 24, 32, 64, 128, 256)
PICTURES = ("section-memory", "section-modules", "section-studies", "section-accuracy")
THINK_SECONDS = (0.5, 2.0)
SCRIPTS = re.compile(r'(?:src|href)="(?:\./)?([^":]+\.(?:js|css))"')
"""And stylesheets, that the page names."""


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
