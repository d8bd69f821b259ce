"""Cache of the page, its scripts and stylesheets: each answer is made once for all visitors, and compressed."""

import asyncio
import gzip
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import get_route_path

from rankviz.shared.gate import asks_password
from rankviz.shared.identity import is_page

CONFIG = ("/config", "/config/")
NOBODYS = b"rankviz.invalid"
"""Server name under which the page is made. It is replaced by the name that the visitor uses, so a request with a
made-up name does not cause a new page."""
FILES, KINDS = ("/assets/", "/rankviz/", "/static/"), (".css", ".js")
MAX_BYTES = 16 * 10**6
"""Size limit of all cached answers. The page with its scripts has 2 MB."""
PIECE_BYTES = 2**16
"""Bytes that are sent at once: the most that waits in memory for a slow visitor."""
BEFORE = b"<script>window.gradio_config"
PRIVATE = b',"api_visibility":"private"'
"""Part of each event's JSON that is removed from the page, since the page's script does not need it. Gradio's clients
do, but they read /config."""


Made = tuple[int, tuple[tuple[bytes, bytes], ...], bytes]
"""Status, headers and body of a complete answer."""


class MadeOnce:
    """ASGI middleware: makes the page and each script and stylesheet once, one at a time, and caches them. Where Gradio
    asks for a login, the page is made for each request.

    tags: HTML that is inserted into the page before Gradio's first script, since Gradio's own `head` comes too late for
    the page's first numbers.
    """

    def __init__(self, app: Any, tags: str = "", most_bytes: int = MAX_BYTES) -> None:
        self.app, self._compressed = app, GZipMiddleware(app)
        self._tags, self._most_bytes = tags.encode(), most_bytes
        self._made: OrderedDict[tuple[str, bool], Made] = OrderedDict()
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            return await self.app(scope, receive, send)
        address, headers = get_route_path(scope), Headers(scope=scope)
        takes_gzip = "gzip" in headers.get("accept-encoding", "")
        if takes_gzip and address.startswith(FILES) and address.endswith(KINDS):
            made = await self._once(scope, receive, self._compressed, [(b"accept-encoding", b"gzip")])
            return await _send(send, *made)
        if not is_page({**scope, "method": "GET"}) and address not in CONFIG:
            return await self.app(scope, receive, send)
        # Gradio asks for a login of its own, or of the app that RankViz is mounted in.
        if asks_password(scope) or getattr(scope.get("app"), "auth_dependency", None) is not None:
            made = await self._make(scope, receive, self.app)
        else:
            made = await self._once(scope, receive, self.app, [(b"host", NOBODYS)])
        # Scheme, name and port as the visitor addresses the server, and as Gradio reads them.
        host, proto = (headers.get(f"x-forwarded-{name}", "").partition(",")[0].strip() for name in ("host", "proto"))
        scheme = "https" if proto == "https" else "http" if host else scope["scheme"]
        origin = f"{scheme}://{host or headers.get('host', '')}"
        await _send(send, *written(made, origin, takes_gzip))

    async def _once(self, scope: Any, receive: Any, app: Any, headers: list[tuple[bytes, bytes]]) -> Made:
        """Return the cached answer to a request with these headers. No cached answer depends on the query."""
        key = scope["path"], app is self.app
        whole = {**scope, "scheme": "http", "method": "GET", "query_string": b"", "headers": headers}
        async with self._turn:
            made = self._made.get(key) or await self._make(whole, receive, app)
            status, answer_headers, _ = made
            if status == 200 and all(name.lower() != b"set-cookie" for name, _ in answer_headers):
                self._made[key] = made
                self._made.move_to_end(key)
            while sum(len(body) for *_, body in self._made.values()) > self._most_bytes:
                self._made.popitem(last=False)
        return made

    async def _make(self, scope: Any, receive: Any, app: Any) -> Made:
        start: dict[str, Any] = {}
        body = b""

        async def note(message: Any) -> None:
            nonlocal body
            body += message.get("body", b"")
            if message["type"] == "http.response.start":
                start.update(message)

        await app(scope, receive, note)
        if is_page(scope):
            body = body.replace(PRIVATE, b"").replace(BEFORE, self._tags + BEFORE, 1)
        return start["status"], tuple(start["headers"]), body


async def _send(send: Any, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
    """Send an answer with a copy of its headers, to which the visitor's cookie is added."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    for at in range(0, len(body), PIECE_BYTES):
        await send({"type": "http.response.body", "body": body[at : at + PIECE_BYTES], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@lru_cache(maxsize=4)
def written(made: Made, origin: str, compressed: bool) -> Made:
    """Return an answer that was made under NOBODYS with the visitor's origin in its place."""
    status, before, body = made
    body = body.replace(b"http://" + NOBODYS, origin.encode())
    headers = [(name, value) for name, value in before if name.lower() != b"content-length"]
    if compressed and status == 200:
        body = gzip.compress(body, 6)
        headers.append((b"content-encoding", b"gzip"))
    return status, (*headers, (b"content-length", str(len(body)).encode())), body
