"""A job's log as it comes, for as long as the job runs.

Each has a connection of its own, so that jobs that run for hours take none from other calls; another thread may close
it. What a job prints is its owner's: neither a line nor the whole may be of any length.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

SILENT_SECONDS = 120.0
"""Hugging Face sends a comment every 30 seconds."""
MAX_LINE_BYTES = 2**16
"""Of the stream. A line of ours has 28,000 at most, with what is escaped in it."""
MAX_BYTES = 200 * 10**6
"""Of one log."""
STARTED = "===== Job started"


class Log:
    """Of one job. Iterating reads it once, from its beginning, until it ends, the connection breaks or it is closed.
    Where Hugging Face says that there is nothing new, that is an empty line.

    Args:
        require: Raises what an answer that is no log means.
    """

    def __init__(self, url: str, headers: Mapping[str, str], require: Callable[[Any], None]):
        self.is_cut = False
        """Whether it is longer than is read."""
        self._url, self._headers, self._require = url, headers, require
        self._closed = threading.Event()
        self._socket: socket.socket | None = None

    def close(self) -> None:
        """It ends now, also where another thread waits for its next line."""
        self._closed.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                self._socket.shutdown(socket.SHUT_RDWR)

    def __iter__(self) -> Iterator[str]:
        import httpx

        client = httpx.Client(timeout=SILENT_SECONDS, follow_redirects=True)
        with client, client.stream("GET", self._url, headers=self._headers) as response:
            self._socket = response.extensions["network_stream"].get_extra_info("socket")
            if self._closed.is_set():
                return
            self._require(response)
            with contextlib.suppress(httpx.TransportError, OSError):  # a connection lasts as long as it lasts
                for line in _short_lines(self._chunks(response)):
                    if (words := _words(line)) is not None:
                        yield words

    def _chunks(self, response: Any) -> Iterator[bytes]:
        left = MAX_BYTES
        for chunk in response.iter_raw():
            left -= len(chunk)
            self.is_cut = left < 0
            if self.is_cut or self._closed.is_set():
                return
            yield chunk


def _short_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines that are not too long."""
    rest, is_long = b"", False
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if not is_long and len(line) <= MAX_LINE_BYTES:
                yield line
            is_long = False
        if len(rest) > MAX_LINE_BYTES:
            rest, is_long = b"", True


def _words(line: bytes) -> str | None:
    """Of a server-sent event with a line of the log; nothing of a comment; None of any other."""
    if line.startswith(b":"):
        return ""
    if not line.startswith(b"data: {"):
        return None
    try:
        words = json.loads(line.removeprefix(b"data: "))["data"]
    except (ValueError, KeyError, RecursionError):
        return None
    return words if isinstance(words, str) and not words.startswith(STARTED) else None
