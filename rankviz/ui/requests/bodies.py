"""Bounds the body of every request before it is parsed: checking a long list against a schema takes seconds, in which
nobody else is answered. Uploads are counted as they come in (`arriving`)."""

from typing import Any

from starlette.responses import JSONResponse

from rankviz.ui.requests.addresses import API, address_of, is_closed, is_upload

MAX_BODY_BYTES = 100_000
"""Of a question of Explore, a call by HTTP or MCP, and anything else that is not named here."""
MAX_EVENT_BYTES = 4_000_000
"""Of an event of the page, which sends the values of its widgets."""
EVENTS = tuple(API + name for name in ("queue/join", "run/", "api/"))


class Bodies:
    """ASGI middleware: answers 413 to a request that is too long, and 404 to one that the page has no use for."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or is_upload(scope):
            return await self.app(scope, receive, send)
        address = address_of(scope)
        if is_closed(address):
            return await JSONResponse({"detail": "This page has no such address."}, 404)(scope, receive, send)
        limit = MAX_EVENT_BYTES if address.startswith(EVENTS) else MAX_BODY_BYTES
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > limit:
                text = f"The request is too long: at most {limit:,} bytes are read."
                return await JSONResponse({"detail": text}, 413)(scope, receive, send)
        read = False

        async def once() -> Any:
            nonlocal read
            if read:
                return await receive()
            read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, once, send)
