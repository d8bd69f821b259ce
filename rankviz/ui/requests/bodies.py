"""Bounds what is sent to the endpoints, to MCP and to the page's events, before it is parsed: checking a long list
against a schema takes seconds, in which nobody else is answered."""

from typing import Any

from starlette.responses import JSONResponse

MAX_ARGUMENTS_BYTES = 100_000
"""Of a call by HTTP or MCP."""
MAX_EVENT_BYTES = 4_000_000
"""Of an event of the page, which sends the values of its widgets."""
LIMITS = {
    "/gradio_api/call/": MAX_ARGUMENTS_BYTES,
    "/gradio_api/mcp": MAX_ARGUMENTS_BYTES,
    "/gradio_api/queue/": MAX_EVENT_BYTES,
    "/gradio_api/run/": MAX_EVENT_BYTES,
    "/gradio_api/api/": MAX_EVENT_BYTES,
}


class Bodies:
    """ASGI middleware: answers 413 to a request that is too long."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        limit = _limit(scope)
        if limit is None:
            return await self.app(scope, receive, send)
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


def _limit(scope: Any) -> int | None:
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    return next((limit for start, limit in LIMITS.items() if start in scope["path"]), None)
