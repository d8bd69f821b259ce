"""Keeps what every visitor gets: the page with its configuration, and the scripts and stylesheets.

Gradio copies all of its configuration for each visitor, and compresses each script anew, plotly.js in a tenth of a
second, while all others wait.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from gradio.route_utils import get_root_url
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request

from rankviz.ui.head import is_page
from rankviz.ui.requests.addresses import address_of

CONFIG = ("/config", "/config/")
FILES = ("/assets/", "/rankviz/", "/static/")
KINDS = (".css", ".js")
MAX_BYTES = 16 * 10**6
"""Of all that is kept. The page with its scripts has 2 MB; a server has few names, and who makes up others has a page
made for each, in turn."""
PIECE_BYTES = 2**16
"""Sent at once, so that no more waits in memory for a slow visitor."""
PARTS = frozenset({b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"})
"""Headers that ask for less than the whole."""


class Made(NamedTuple):
    """An answer whole. What is sent of it is a copy, since who sends it on adds a visitor's cookie."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    async def __call__(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        for at in range(0, len(self.body), PIECE_BYTES):
            await send({"type": "http.response.body", "body": self.body[at : at + PIECE_BYTES], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    @property
    def is_everybodys(self) -> bool:
        return self.status == 200 and all(name.lower() != b"set-cookie" for name, _ in self.headers)


Key = tuple[str, str, bool]
"""Path, root of the addresses in it, and whether it is compressed."""


class MadeOnce:
    """ASGI middleware: the page, scripts and stylesheets are made and compressed once, one at a time."""

    def __init__(self, app: Any, most_bytes: int = MAX_BYTES) -> None:
        self.app = app
        self._compressed = GZipMiddleware(app)
        self._kept: OrderedDict[Key, Made] = OrderedDict()
        self._most_bytes = most_bytes
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or (key := key_of(scope)) is None:
            return await self.app(scope, receive, send)
        async with self._turn:
            made = self._kept.get(key) or await self._made(scope, receive)
            self._keep(key, made)
        await made(send)

    async def _made(self, scope: Any, receive: Any) -> Made:
        """Without the query, of which none of these depends."""
        headers = [(name, value) for name, value in scope["headers"] if name not in PARTS]
        messages: list[Any] = []

        async def note(message: Any) -> None:
            messages.append(message)

        await self._compressed({**scope, "method": "GET", "query_string": b"", "headers": headers}, receive, note)
        start, *parts = messages
        return Made(start["status"], tuple(start["headers"]), b"".join(part.get("body", b"") for part in parts))

    def _keep(self, key: Key, made: Made) -> None:
        if not made.is_everybodys:
            return
        self._kept[key] = made
        self._kept.move_to_end(key)
        while sum(len(each.body) for each in self._kept.values()) > self._most_bytes:
            self._kept.popitem(last=False)


def key_of(scope: Mapping[str, Any]) -> Key | None:
    """What a request asks for that all get alike; None where it asks for something else. A script that is not to be
    compressed comes from the disk."""
    if scope["method"] not in ("GET", "HEAD"):
        return None
    request, address = Request(scope), address_of(scope)
    compressed = "gzip" in request.headers.get("accept-encoding", "")
    if is_page({**scope, "method": "GET"}) or address in CONFIG:
        root_path = scope.get("root_path", "")
        return scope["path"], f"{root_path} {get_root_url(request, address, root_path or None)}", compressed
    if compressed and address.startswith(FILES) and address.endswith(KINDS):
        return scope["path"], "", True
    return None
