"""Keeps what every visitor gets: the page with its configuration, and the scripts and stylesheets.

Gradio copies all of its configuration for each visitor, and compresses each script anew, plotly.js in a tenth of a
second, while all others wait.
"""

import asyncio
import gzip
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from gradio.route_utils import get_root_url
from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request

from rankviz.ui.head import is_page
from rankviz.ui.requests.addresses import address_of
from rankviz.ui.requests.login import is_asked

CONFIG = ("/config", "/config/")
NOBODYS = b"rankviz.invalid"
"""The name under which the page is made, before that of the server as a visitor named it stands there: a name that is
made up costs no page."""
NAMES = frozenset({b"host", b"x-forwarded-host", b"x-forwarded-proto", b"x-gradio-server", b"accept-encoding"})
GZIP_LEVEL = 6
FILES = ("/assets/", "/rankviz/", "/static/")
KINDS = (".css", ".js")
MAX_BYTES = 16 * 10**6
"""Of all that is kept. The page with its scripts has 2 MB."""
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


Key = tuple[str, bool]
"""Path, and whether it is a file: the page and its configuration have the name of the server in them."""


class MadeOnce:
    """ASGI middleware: the page, scripts and stylesheets are made once, one at a time."""

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
            made = self._kept.get(key) or await self._made(scope, receive, is_file=key[1])
            self._keep(key, made)
        await (made if key[1] else written(made, origin_of(scope), _takes_gzip(scope)))(send)

    async def _made(self, scope: Any, receive: Any, *, is_file: bool) -> Made:
        """Without the query, of which none of these depends; what is no file, under nobody's name."""
        left_out = PARTS if is_file else PARTS | NAMES
        headers = [(name, value) for name, value in scope["headers"] if name not in left_out]
        named = {} if is_file else {"scheme": "http", "headers": [*headers, (b"host", NOBODYS)]}
        messages: list[Any] = []

        async def note(message: Any) -> None:
            messages.append(message)

        asked = {**scope, "method": "GET", "query_string": b"", "headers": headers, **named}
        await self._compressed(asked, receive, note)
        start, *parts = messages
        return Made(start["status"], tuple(start["headers"]), b"".join(part.get("body", b"") for part in parts))

    def _keep(self, key: Key, made: Made) -> None:
        if not made.is_everybodys:
            return
        self._kept[key] = made
        self._kept.move_to_end(key)
        while sum(len(each.body) for each in self._kept.values()) > self._most_bytes:
            self._kept.popitem(last=False)


@lru_cache(maxsize=4)
def written(made: Made, origin: str, compressed: bool) -> Made:
    """What was made under nobody's name, under this one."""
    body = made.body.replace(b"http://" + NOBODYS, origin.encode())
    headers = [(name, value) for name, value in made.headers if name.lower() != b"content-length"]
    if compressed and made.status == 200:
        body = gzip.compress(body, GZIP_LEVEL)
        headers.append((b"content-encoding", b"gzip"))
    return Made(made.status, (*headers, (b"content-length", str(len(body)).encode())), body)


def key_of(scope: Mapping[str, Any]) -> Key | None:
    """What a request asks for that all get alike; None where it asks for something else, or Gradio asks for a login
    first. A script that is not to be compressed comes from the disk."""
    if scope["method"] not in ("GET", "HEAD"):
        return None
    address = address_of(scope)
    if is_page({**scope, "method": "GET"}) or address in CONFIG:
        return None if is_asked(scope) else (scope["path"], False)
    if _takes_gzip(scope) and address.startswith(FILES) and address.endswith(KINDS):
        return scope["path"], True
    return None


def origin_of(scope: Mapping[str, Any]) -> str:
    """The server as a visitor names it, by scheme, name and port."""
    root = urlsplit(get_root_url(Request(scope), "", None))
    return f"{root.scheme}://{root.netloc}"


def _takes_gzip(scope: Mapping[str, Any]) -> bool:
    return "gzip" in Headers(scope=scope).get("accept-encoding", "")
