"""Bounds the head of every request, its address with its headers, which the server reads before any code of ours."""

import asyncio
import logging

from uvicorn.protocols.http import auto
from uvicorn.protocols.http.h11_impl import H11Protocol

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
