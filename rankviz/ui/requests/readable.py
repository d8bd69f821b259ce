"""Refuses requests that cannot be read, and answers where the code behind it fails."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
from gradio.route_utils import FnIndexInferError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from rankviz.core.bounds import UNPRINTABLE
from rankviz.ui.requests.envelope import NO_ENDPOINT
from rankviz.ui.requests.event_errors import logged
from rankviz.ui.requests.hosts import Hosts

HOSTS = (b"host", b"x-forwarded-host")
ADDRESSES = (b"origin",)
GRADIOS_OWN = b"x-gradio-server"
"""From the server that draws Gradio's pages, which there is none of here; Gradio writes it into answers to others."""
RANGE = re.compile(rb"bytes=\d{0,18}-\d{0,18}")
"""One range of a file. Of several, as of any other, the whole file is sent: Gradio reads no other."""
MAX_PATH_BYTES = 2000
MAX_NAME_BYTES = 255
"""Of what stands between two slashes: no file has a longer name, and looking for one is an error."""
NO_EVENT = "This page has no such event. Reload the page."


@asynccontextmanager
async def before_all(app: Any, hosts: Hosts) -> AsyncIterator[None]:
    """Puts `Readable` and `hosts` before everything while the app runs. Gradio's own check of origins, which reads
    headers too and lets other sites' pages in, comes before any middleware that Gradio can be given."""
    hosts.app = app.middleware_stack or app.build_middleware_stack()
    app.middleware_stack = Readable(hosts)
    yield


class Readable:
    """ASGI middleware: answers 400 where the headers or the query cannot be read."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":  # of which the page has none
            return await send({"type": "websocket.close"})
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if unreadable := _unreadable(scope):
            text = f"The {unreadable} of the request cannot be read."
            return await JSONResponse({"detail": text}, 400)(scope, receive, send)
        headers = [(name, value) for name, value in scope["headers"] if not _is_left_out(name, value)]
        if not any(name == b"host" for name, _ in headers):  # as HTTP/1.0 allows
            headers.append((b"host", _server(scope)))
        await self.app({**scope, "headers": headers}, receive, send)


class Answered:
    """ASGI middleware, the first of ours: where the code behind it fails, the answer is a sentence, and the log has it
    as `event_errors` writes it. A server writes a traceback for each exception that it sees."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        started = False

        async def noted(message: Any) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except ClientDisconnect:
            return  # who has gone needs no answer
        except FnIndexInferError:  # of a name; a browser sends the number of an event
            await JSONResponse({"detail": NO_ENDPOINT}, 404)(scope, receive, send)
        except Exception as error:
            if started and isinstance(error.__cause__, HTTPException):  # a stream has said so: there is no such session
                return await send({"type": "http.response.body", "body": b""})
            if scope["type"] != "http":
                raise
            text = f"RankViz could not answer: an error in its code, number {logged(error, scope['path'])} in its log."
            if not started:
                await JSONResponse({"detail": text}, 500)(scope, receive, send)


async def unfit(request: Request, error: Exception) -> JSONResponse:
    """Where a body has another form than its address takes. FastAPI would quote it, also where it is no text at all."""
    return JSONResponse({"detail": "The body of the request has another form than this address takes."}, 422)


class Functions(dict[int, Any]):
    """The functions of a page by number."""

    def __missing__(self, number: object) -> Any:
        raise HTTPException(404, NO_EVENT)


def _is_left_out(name: bytes, value: bytes) -> bool:
    return name == GRADIOS_OWN or (name == b"range" and RANGE.fullmatch(value) is None)


def _server(scope: Any) -> bytes:
    host, port = scope.get("server") or ("localhost", None)
    host = f"[{host}]" if ":" in str(host) else host
    return (f"{host}:{port}" if port else str(host)).encode()


def _unreadable(scope: Any) -> str:
    """The name of what cannot be read; empty where all can. Empty headers and "null" are read as no address."""
    if UNPRINTABLE.search(scope["path"]) or not _is_short(scope["path"]):
        return "path"
    try:
        scope.get("query_string", b"").decode()
    except UnicodeDecodeError:
        return "query"
    for name, value in scope["headers"]:
        # Of what proxies have put together the first is read.
        text = value.decode("latin-1").partition(",")[0].strip()
        if name == b"content-length" and not (text.isascii() and text.isdigit()):
            return name.decode()
        if (name in HOSTS and not _is_address(f"http://{text}")) or (name in ADDRESSES and not _is_address(text)):
            return name.decode()
    return ""


def _is_short(path: str) -> bool:
    encoded = path.encode()
    return len(encoded) <= MAX_PATH_BYTES and all(len(name) <= MAX_NAME_BYTES for name in encoded.split(b"/"))


def _is_address(text: str) -> bool:
    try:
        httpx.URL(text)
        _ = urlsplit(text).port
    except (httpx.InvalidURL, ValueError):
        return False
    return True
