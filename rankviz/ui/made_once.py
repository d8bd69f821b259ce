"""Keeps the page as Gradio has made it. Gradio copies all of its configuration for each visitor, as often at once as it
has threads, which takes longer than most answers.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from gradio.route_utils import get_root_url
from gradio.utils import LRUCache
from starlette.requests import Request

from rankviz.ui.head import is_page
from rankviz.ui.requests.addresses import address_of

CONFIG = "/config"
MAX_KEPT = 8
"""A server has few names. Who makes up others has each of them made in turn."""
OTHERS = frozenset({"deep_link", "page", "all_endpoints"})
"""A query with one of these asks for something else than the page."""


class Made(NamedTuple):
    """An answer whole. What is sent of it is a copy, since who sends it on adds a visitor's cookie."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    async def __call__(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        await send({"type": "http.response.body", "body": self.body})

    @property
    def is_everybodys(self) -> bool:
        return self.status == 200 and all(name.lower() != b"set-cookie" for name, _ in self.headers)


class MadeOnce:
    """ASGI middleware: the page and its configuration are made once for each name that the server is called by, one at
    a time."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._kept: LRUCache[tuple[str, ...], Made] = LRUCache(MAX_KEPT)
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not (is_page(scope) or _is_config(scope)):
            return await self.app(scope, receive, send)
        made = await self._answer(scope, receive)
        await made(send)

    async def _answer(self, scope: Any, receive: Any) -> Made:
        request = Request(scope)
        root_path = scope.get("root_path", "")
        key = (scope["path"], root_path, get_root_url(request, address_of(scope), root_path or None))
        async with self._turn:
            if OTHERS & request.query_params.keys():
                return await self._made(scope, receive)
            if key not in self._kept:
                made = await self._made(scope, receive)
                if not made.is_everybodys:
                    return made
                self._kept[key] = made
            self._kept.move_to_end(key)
            return self._kept[key]

    async def _made(self, scope: Any, receive: Any) -> Made:
        messages: list[Any] = []

        async def keep(message: Any) -> None:
            messages.append(message)

        await self.app(scope, receive, keep)
        start, *parts = messages
        return Made(start["status"], tuple(start["headers"]), b"".join(part.get("body", b"") for part in parts))


def _is_config(scope: Mapping[str, Any]) -> bool:
    return scope["type"] == "http" and scope["method"] == "GET" and address_of(scope) == CONFIG
