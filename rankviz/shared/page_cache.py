"""Caches of the page, its scripts and stylesheets: each answer is made once for all visitors, and compressed."""

import asyncio
import gzip
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipMiddleware

from rankviz.shared.gate import address_of, is_asked
from rankviz.shared.identity import is_page

CONFIG = ("/config", "/config/")
NOBODYS = b"rankviz.invalid"
"""Server name under which the page is made. It is replaced by the name that the visitor uses, so a request with a
made-up name does not cause a new page."""
FILES = ("/assets/", "/rankviz/", "/static/")
KINDS = (".css", ".js")
MAX_BYTES = 16 * 10**6
"""Size limit of all cached answers. The page with its scripts has 2 MB."""
PIECE_BYTES = 2**16
"""Bytes that are sent at once: the most that waits in memory for a slow visitor."""


class Made(NamedTuple):
    """A complete cached answer. Each visitor is sent a copy of its headers, to which the visitor's cookie is added."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    async def send(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        for at in range(0, len(self.body), PIECE_BYTES):
            await send({"type": "http.response.body", "body": self.body[at : at + PIECE_BYTES], "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class MadeOnce:
    """ASGI middleware: makes the page and each script and stylesheet once, one at a time, and caches them."""

    def __init__(self, app: Any, most_bytes: int = MAX_BYTES) -> None:
        self.app, self._compressed, self._most_bytes = app, GZipMiddleware(app), most_bytes
        self._made: OrderedDict[tuple[str, bool], Made] = OrderedDict()
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or (is_file := _is_file(scope)) is None:
            return await self.app(scope, receive, send)
        key = scope["path"], is_file
        async with self._turn:
            made = self._made.get(key) or await self._make(scope, receive, is_file=is_file)
            if made.status == 200 and all(name.lower() != b"set-cookie" for name, _ in made.headers):
                self._made[key] = made
                self._made.move_to_end(key)
            while sum(len(each.body) for each in self._made.values()) > self._most_bytes:
                self._made.popitem(last=False)
        await (made if is_file else written(made, origin_of(scope), _takes_gzip(scope))).send(send)

    async def _make(self, scope: Any, receive: Any, *, is_file: bool) -> Made:
        """Return the whole answer to a request without headers and query, on which no cached answer depends. The page
        and its configuration contain the server's name, so they are made under NOBODYS."""
        headers = [(b"accept-encoding", b"gzip")] if is_file else [(b"host", NOBODYS)]
        messages: list[Any] = []

        async def note(message: Any) -> None:
            messages.append(message)

        whole = {**scope, "scheme": "http", "method": "GET", "query_string": b"", "headers": headers}
        await self._compressed(whole, receive, note)
        start, *parts = messages
        return Made(start["status"], tuple(start["headers"]), b"".join(part.get("body", b"") for part in parts))


@lru_cache(maxsize=4)
def written(made: Made, origin: str, compressed: bool) -> Made:
    """Return an answer that was made under NOBODYS with the visitor's origin in its place."""
    body = made.body.replace(b"http://" + NOBODYS, origin.encode())
    headers = [(name, value) for name, value in made.headers if name.lower() != b"content-length"]
    if compressed and made.status == 200:
        body = gzip.compress(body, 6)
        headers.append((b"content-encoding", b"gzip"))
    return Made(made.status, (*headers, (b"content-length", str(len(body)).encode())), body)


def _is_file(scope: Mapping[str, Any]) -> bool | None:
    """Return True for a script or stylesheet that may be compressed, False for the page and its configuration; None
    for any other request, and where Gradio asks for a login first."""
    if scope["method"] not in ("GET", "HEAD"):
        return None
    address = address_of(scope)
    if is_page({**scope, "method": "GET"}) or address in CONFIG:
        return None if is_asked(scope) else False
    return True if _takes_gzip(scope) and address.startswith(FILES) and address.endswith(KINDS) else None


def origin_of(scope: Mapping[str, Any]) -> str:
    """Return scheme, name and port of the server as the visitor addresses it, as Gradio reads them."""
    headers = Headers(scope=scope)
    host, proto = (headers.get(f"x-forwarded-{name}", "").partition(",")[0].strip() for name in ("host", "proto"))
    scheme = "https" if proto == "https" else "http" if host else scope["scheme"]
    return f"{scheme}://{host or headers.get('host', '')}"


def _takes_gzip(scope: Mapping[str, Any]) -> bool:
    return "gzip" in Headers(scope=scope).get("accept-encoding", "")


BEFORE = b"<script>window.gradio_config"
PRIVATE = b',"api_visibility":"private"'
"""Property of each event that the front end does not need. Gradio's clients do, but they read /config."""


class Head:
    """ASGI middleware: inserts these tags into the page before Gradio's first script, and removes data that the
    browser does not use. Gradio's own `head` comes only after its scripts, too late for the page's first numbers."""

    def __init__(self, app: Any, tags: str) -> None:
        self.app, self.tags = app, tags.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not is_page(scope):
            return await self.app(scope, receive, send)
        start: dict[str, Any] = {}
        body = bytearray()

        async def write(message: Any) -> None:
            nonlocal body
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                whole = bytes(body).replace(PRIVATE, b"").replace(BEFORE, self.tags + BEFORE, 1)
                MutableHeaders(raw=start["headers"])["content-length"] = str(len(whole))
                await send(start)
                await send({"type": "http.response.body", "body": whole})

        await self.app(scope, receive, write)
