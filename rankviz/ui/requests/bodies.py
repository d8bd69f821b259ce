"""Bounds the head and the body of every request before anything parses it, and asks for a login where one is set."""

import asyncio
import inspect
import logging
from collections.abc import Mapping
from typing import Any

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.h11_impl import H11Protocol

from rankviz.ui.requests.addresses import API, address_of, is_answer, is_closed, is_upload

COOKIES = ("access-token-", "access-token-unsecure-")
"""Of Gradio's, each followed by the app's own id."""


def asks_password(scope: Mapping[str, Any]) -> bool:
    """Whether Gradio asks for a name and a password."""
    return getattr(scope.get("app"), "auth", None) is not None


def is_asked(scope: Mapping[str, Any]) -> bool:
    """Whether Gradio asks for a login."""
    return asks_password(scope) or getattr(scope.get("app"), "auth_dependency", None) is not None


async def is_let_in(scope: Mapping[str, Any]) -> bool:
    """Whether nobody is asked for a login, or whoever sends this request has logged in. What a host's login
    raises, such as HTTPException, is passed on."""
    app, request = scope.get("app"), Request(scope)
    if (user_of := getattr(app, "auth_dependency", None)) is not None:
        user = user_of(request)
        return (await user if inspect.isawaitable(user) else user) is not None
    return not asks_password(scope) or any(request.cookies.get(name + app.cookie_id) in app.tokens for name in COOKIES)


MAX_BODY_BYTES = 100_000
"""Of a question of Explore, a call by HTTP or MCP, and anything else that is not named here."""
MAX_EVENT_BYTES = 500_000
"""Of an event of the page, which sends the values of its widgets. The largest names 256 uploaded files, in 300 kB."""
MAX_VALUES = 10_000
"""Of any body. 256 uploaded files are 2,000."""
BEGIN_A_VALUE = (b",", b"[", b"{")
"""What stands before each value of JSON but the first; in texts they count too, which saves reading those."""
MAX_SECONDS = 60.0
MAX_BYTES = 40_000_000
"""Of all bodies that are still coming. Of more, the one that began first is given up."""
EVENTS = tuple(API + name for name in ("queue/join", "run/", "api/"))


class Bodies:
    """ASGI middleware: answers 413 to a request that is too long, 404 to one that the page has no use for, and to a
    question of who has to log in 401, or what the host's own login answers."""

    def __init__(self, app: Any, seconds: float = MAX_SECONDS, most_bytes: int = MAX_BYTES) -> None:
        self.app = app
        self._seconds, self._most_bytes = seconds, most_bytes
        self._coming: dict[anyio.CancelScope, int] = {}
        """Bytes of each body so far, in the order in which they began."""
        self._bytes = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or is_upload(scope):
            return await self.app(scope, receive, send)
        address = address_of(scope)
        if is_closed(address, asks_login=asks_password(scope)):
            return await JSONResponse({"detail": "This page has no such address."}, 404)(scope, receive, send)
        try:
            if is_answer(address) and not await is_let_in(scope):
                raise HTTPException(401, "Log in first.")
        except HTTPException as refusal:  # a host's own login may raise one too
            answer = JSONResponse({"detail": refusal.detail}, refusal.status_code, refusal.headers)
            return await answer(scope, receive, send)
        limit = MAX_EVENT_BYTES if address.startswith(EVENTS) else MAX_BODY_BYTES
        try:
            body = await self._read(receive, limit)
        except TooLongError as error:
            text = f"The request is too long: at most {error} are read."
            return await JSONResponse({"detail": text}, 413)(scope, receive, send)
        except TimeoutError:
            text = "The request did not come in time. Send it again."
            return await JSONResponse({"detail": text}, 408, {"connection": "close"})(scope, receive, send)
        if body is not None:
            await self.app(scope, once(body, receive), send)

    async def _read(self, receive: Any, limit: int) -> bytes | None:
        """The whole body; None where whoever sends it has gone. TooLongError, or TimeoutError where it came too slowly,
        or others needed its place."""
        parts: list[bytes] = []
        values = 0
        with anyio.move_on_after(self._seconds) as waiting:
            self._coming[waiting] = 0
            try:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    self._coming[waiting] += len(parts[-1])
                    self._bytes += len(parts[-1])
                    values += sum(map(parts[-1].count, BEGIN_A_VALUE))
                    if self._coming[waiting] > limit:
                        raise TooLongError(f"{limit:,} bytes")
                    if values > MAX_VALUES:
                        raise TooLongError(f"{MAX_VALUES:,} values")
                    if not message.get("more_body", False):
                        return b"".join(parts)
                    if self._bytes > self._most_bytes:
                        next(iter(self._coming)).cancel()
            finally:
                self._bytes -= self._coming.pop(waiting)
        raise TimeoutError


class TooLongError(Exception):
    """More has come than is read; its text is how much is."""


def once(body: bytes, receive: Any) -> Any:
    """A receive that gives the body, and after it what comes."""
    message = {"type": "http.request", "body": body, "more_body": False}
    given = iter([message])

    async def read() -> Any:
        return next(given, None) or await receive()

    return read


HEAD_SECONDS = 60.0
"""For which a connection may stay without a whole head: at first, and after each answer. A browser keeps one or two
open ahead of what it will ask."""


READERS = ("asyncio", "python_multipart")
"""Libraries whose warnings are of what others sent, or that they have gone. uvicorn sets the level of its own again."""


class Connection(H11Protocol):
    """uvicorn's, closed where no request comes in time, and where what comes of one cannot be read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answers:
            self._waiting.cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._answers:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._waiting.cancel()

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(msg)
        if self.cycle is not None:  # whose own answer could not be sent any more
            self.cycle.disconnected = True

    @property
    def _answers(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(HEAD_SECONDS, self.transport.close)


def bound() -> None:
    """For every server that is started afterwards: at most 64 kB are read of a head, and one that is none, or asks for
    another protocol, is answered and not logged. httptools, which uvicorn takes where it is installed, reads heads
    without end."""
    auto.AutoHTTPProtocol = Connection
    logging.getLogger("uvicorn.error").addFilter(_is_ours)
    for name in READERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def _is_ours(record: logging.LogRecord) -> bool:
    """uvicorn warns of what others sent."""
    return record.levelno >= logging.ERROR
