"""Refuses requests under other names than the page's, of other sites' pages, and those that cannot be read."""

import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx
from gradio.route_utils import FnIndexInferError
from gradio.utils import get_space
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse

from rankviz.core.bounds import UNPRINTABLE, shown
from rankviz.errors import InvalidSettingError
from rankviz.ui.head import is_page
from rankviz.ui.requests.addresses import HEALTH, address_of
from rankviz.ui.requests.envelope import NO_ENDPOINT
from rankviz.ui.requests.event_errors import logged
from rankviz.ui.visitors import is_foreign

LOOPBACK = "localhost"
HOST = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9_.-]+))(?::\d*)?")
NAME = re.compile(r"\*|(\*\.)?[a-z0-9_.-]+|[0-9a-f:.]*")
"""Of a server: a name, any name below one, any at all, or an IP address; empty where only a path is given."""
ANOTHERS = (
    "Another site's page has sent this request, and this page answers its own alone. Where a proxy serves it, let that "
    "pass the header Host on with its port: in nginx, proxy_set_header Host $http_host."
)


def trusted(server: str, given: str) -> list[str]:
    """The names of this server, beside IP addresses, which cannot be bound to another machine.

    server: the name or address that it listens on.
    given: what RANKVIZ_HOSTS has.
    """
    own = socket.gethostname().lower()
    short = own.partition(".")[0]
    public = [os.environ.get(variable, "") for variable in ("SPACE_HOST", "GRADIO_ROOT_PATH")]
    return [LOOPBACK, f"*.{LOOPBACK}", own, short, f"{short}.local", *_names(",".join((server, given, *public)))]


def _names(given: str) -> list[str]:
    """Host names as browsers send them. Each may have a scheme, a port and a path around it; a path has none."""
    names = []
    for each in given.split(","):
        text = each.strip()
        try:
            host = urlsplit(text if "//" in text else f"//{text}").hostname or ""
            name = host.rstrip(".").encode("idna").decode()
        except ValueError:
            name = "?"
        if not NAME.fullmatch(name):
            raise InvalidSettingError(
                f"No host has the name {text!r}. Correct it in --host, GRADIO_SERVER_NAME, RANKVIZ_HOSTS or "
                "GRADIO_ROOT_PATH."
            )
        names += [name] if name else []
    return names


class Hosts(TrustedHostMiddleware):
    """ASGI middleware: answers 421 under a name that is not the server's, and 403 to another site's page, which a
    shared Space answers as nobody. Only sites of RANKVIZ_HOSTS show the page in a frame, and the Hub a Space.

    Args:
        server: The name or address that it listens on.
        given: What RANKVIZ_HOSTS has.
        shared: Whether strangers use the page.
    """

    def __init__(self, app: Any, server: str, given: str, shared: bool) -> None:
        super().__init__(app, trusted(server, given), www_redirect=False)
        on_space = get_space() is not None
        self._answers_others = on_space and shared
        sites = [*(f"{name}:*" for name in _names(given)), *(["https://huggingface.co"] if on_space else [])]
        self._policy = "" if self._answers_others or self.allow_any else " ".join(("frame-ancestors 'self'", *sites))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            names = [headers.get("host", ""), headers.get("x-forwarded-host", LOOPBACK).partition(",")[0].strip()]
            others = [name for name in names if not self._is_ours(name)]
            if others and address_of(scope) != HEALTH:
                text = (
                    f"This server has no name {shown(others[0])}. If it has, name it in RANKVIZ_HOSTS and start again."
                )
                return await PlainTextResponse(text, 421)(scope, receive, send)
            if not self._answers_others and is_foreign(scope):
                return await PlainTextResponse(ANOTHERS, 403)(scope, receive, send)
        await self.app(scope, receive, self._framed(send) if self._policy and is_page(scope) else send)

    def _framed(self, send: Any) -> Any:
        async def write(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("content-security-policy", self._policy)
            await send(message)

        return write

    def _is_ours(self, host: str) -> bool:
        match = HOST.fullmatch(host)
        if match is None:
            return self.allow_any
        name = (match["v6"] or match["name"]).lower().rstrip(".")
        with suppress(ValueError):
            ip_address(name)
            return True
        return self.allow_any or any(
            name == each or (each.startswith("*") and name.endswith(each[1:])) for each in self.allowed_hosts
        )


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
