"""Bounds the body of every request before it is parsed: its bytes, and how many values they can hold.

Parsed values take up to a hundred times their bytes, and while many are parsed nobody else is answered. Uploads are
counted as they come in (`arriving`).
"""

from typing import Any

import anyio
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from rankviz.ui.requests.addresses import API, address_of, is_answer, is_closed, is_upload
from rankviz.ui.requests.login import asks_password, is_let_in

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
