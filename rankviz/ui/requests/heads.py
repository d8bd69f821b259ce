"""Bounds the head of every request, its address with its headers, which the server reads before any code of ours."""

import logging

from uvicorn.protocols.http import auto
from uvicorn.protocols.http.h11_impl import H11Protocol

MALFORMED = "Invalid HTTP request received."


def bound() -> None:
    """For every server that is started afterwards: at most 64 kB are read of a head, and one that is none is answered
    and not logged. httptools, which uvicorn takes where it is installed, reads heads without end."""
    auto.AutoHTTPProtocol = H11Protocol
    logging.getLogger("uvicorn.error").addFilter(_is_ours)


def _is_ours(record: logging.LogRecord) -> bool:
    return record.msg != MALFORMED
