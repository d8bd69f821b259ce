"""The page, its scripts and stylesheets as every visitor gets them: each made once, and compressed."""

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
"""Name of the server under which the page is made, replaced by the name that a visitor uses: a made-up name costs no
page."""
FILES = ("/assets/", "/rankviz/", "/static/")
KINDS = (".css", ".js")
MAX_BYTES = 16 * 10**6
"""Size of all that is cached. The page with its scripts has 2 MB."""
PIECE_BYTES = 2**16
"""Sent at once, so that no more waits in memory for a slow visitor."""


class Made(NamedTuple):
    """A whole answer. A copy of it is sent, since a visitor's cookie is added."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    async def send(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        for at in range(0, len(self.body), PIECE_BYTES):
            await send({"type": "http.response.body", "body": self.body[at : at + PIECE_BYTES], "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class MadeOnce:
    """ASGI middleware: the page, scripts and stylesheets are made once, one at a time."""

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
        """The whole answer to a request without headers and query, of which none of these depends. The page and its
        configuration have the name of the server in them, so they are made under nobody's."""
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
    """Return an answer that was made under nobody's name, under this one."""
    body = made.body.replace(b"http://" + NOBODYS, origin.encode())
    headers = [(name, value) for name, value in made.headers if name.lower() != b"content-length"]
    if compressed and made.status == 200:
        body = gzip.compress(body, 6)
        headers.append((b"content-encoding", b"gzip"))
    return Made(made.status, (*headers, (b"content-length", str(len(body)).encode())), body)


def _is_file(scope: Mapping[str, Any]) -> bool | None:
    """True for a script or stylesheet that may be compressed, False for the page and its configuration; None where a
    request asks for something else, or Gradio asks for a login first."""
    if scope["method"] not in ("GET", "HEAD"):
        return None
    address = address_of(scope)
    if is_page({**scope, "method": "GET"}) or address in CONFIG:
        return None if is_asked(scope) else False
    return True if _takes_gzip(scope) and address.startswith(FILES) and address.endswith(KINDS) else None


def origin_of(scope: Mapping[str, Any]) -> str:
    """Return the server as a visitor names it, by scheme, name and port, as Gradio reads that."""
    headers = Headers(scope=scope)
    host, proto = (headers.get(f"x-forwarded-{name}", "").partition(",")[0].strip() for name in ("host", "proto"))
    scheme = "https" if proto == "https" else "http" if host else scope["scheme"]
    return f"{scheme}://{host or headers.get('host', '')}"


def _takes_gzip(scope: Mapping[str, Any]) -> bool:
    return "gzip" in Headers(scope=scope).get("accept-encoding", "")


BEFORE = b"<script>window.gradio_config"
PRIVATE = b',"api_visibility":"private"'
"""Property of each event. Gradio's clients read it, which ask for /config; its front end looks for "public" alone."""


class Head:
    """ASGI middleware: answers the address of the page with these tags before Gradio's first script, and without what
    the browser does not read. Gradio adds its own `head` only when its scripts have run, which is when the page's first
    numbers should stand there already."""

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
