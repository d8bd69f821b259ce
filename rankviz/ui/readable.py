"""Refuses requests whose address cannot be read from their headers, and answers where the code behind it fails."""

from typing import Any
from urllib.parse import urlsplit

import httpx
from gradio.route_utils import FnIndexInferError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from rankviz.ui.event_errors import logged

HOSTS = (b"host", b"x-forwarded-host")
ADDRESSES = (b"origin", b"x-gradio-server")
NO_EVENT = "This page has no such event. Reload the page."


class Readable:
    """ASGI middleware, the first of ours: nothing behind it raises, and the server's log has no traceback of a request
    that cannot be read."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if not any(name == b"host" for name, _ in scope["headers"]):
            # Gradio's check of origins, which comes before, holds this same list, and reads the host at each answer.
            scope["headers"].append((b"host", _server(scope)))
        if unreadable := _unreadable(scope):
            return await _answer(400, f"The {unreadable} of the request cannot be read.", scope, receive, send)
        started = False

        async def noted(message: Any) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except FnIndexInferError:
            await _answer(404, NO_EVENT, scope, receive, send)
        except Exception as error:
            text = f"RankViz could not answer: an error in its code, number {logged(error, scope['path'])} in its log."
            if not started:
                await _answer(500, text, scope, receive, send)


class Functions(dict[int, Any]):
    """The functions of a page by number."""

    def __missing__(self, number: object) -> Any:
        raise HTTPException(404, NO_EVENT)


def _server(scope: Any) -> bytes:
    host, port = scope.get("server") or ("localhost", None)
    return (f"{host}:{port}" if port else str(host)).encode()


def _unreadable(scope: Any) -> str:
    """The name of what cannot be read; empty where all can. Empty headers and "null" are read as no address."""
    try:
        scope.get("query_string", b"").decode()
    except UnicodeDecodeError:
        return "query"
    for name, value in scope["headers"]:
        # Of what proxies have put together the first is read.
        text = value.decode("latin-1").partition(",")[0].strip()
        if (name in HOSTS and not _is_address(f"http://{text}")) or (name in ADDRESSES and not _is_address(text)):
            return name.decode()
    return ""


def _is_address(text: str) -> bool:
    try:
        httpx.URL(text)
        _ = urlsplit(text).port
    except (httpx.InvalidURL, ValueError):
        return False
    return True


async def _answer(status: int, detail: str, scope: Any, receive: Any, send: Any) -> None:
    await JSONResponse({"detail": detail}, status)(scope, receive, send)
