"""Writes into the HTML of the page what the browser is to fetch at once, and leaves out what it does not read.

What Gradio is given as `head` it adds only when its own scripts have run, which is when the page's first numbers should
stand there already.
"""

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import MutableHeaders

BEFORE = b"<script>window.gradio_config"
UNREAD = b',"api_visibility":"private"'
"""Of each event. Gradio's clients read it, which ask for /config; its front end looks for "public" alone."""


def is_page(scope: Mapping[str, Any]) -> bool:
    """Whether this request asks for the page. Some proxies leave the path in front of it on, some take it off."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return False
    return scope["path"] in ("/", scope.get("root_path", "").rstrip("/") + "/")


class Head:
    """ASGI middleware: the address of the page is answered with these tags before Gradio's first script."""

    def __init__(self, app: Any, tags: str) -> None:
        self.app = app
        self.tags = tags.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, self._written(send) if is_page(scope) else send)

    def _written(self, send: Any) -> Any:
        start: dict[str, Any] = {}
        parts: list[bytes] = []

        async def write(message: Any) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            body = b"".join(parts).replace(UNREAD, b"").replace(BEFORE, self.tags + BEFORE, 1)
            MutableHeaders(raw=start["headers"])["content-length"] = str(len(body))
            await send(start)
            await send({"type": "http.response.body", "body": body})

        return write
