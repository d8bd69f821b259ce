"""Keeps secret tokens out of this process's logs and of the tracebacks that it prints."""

import contextlib
import io
import logging
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from rankviz.errors import redacted


def keep_tokens_out() -> None:
    """Remove tokens from all logs and uncaught errors of this process from now on. Each RankViz process calls this
    first. A program that only imports RankViz keeps its logs as they are."""
    if logging.getLogRecordFactory() is RedactedRecord:
        return
    logging.setLogRecordFactory(RedactedRecord)
    sys.excepthook = _redacting(sys.excepthook)
    sys.unraisablehook = _redacting(sys.unraisablehook)
    threading.excepthook = _redacting(threading.excepthook)


class RedactedRecord(logging.LogRecord):
    """A log record without tokens in its texts, for every log handler."""

    def __init__(self, *args: Any, **settings: Any):
        super().__init__(*args, **settings)
        self.stack_info = redacted(self.stack_info or "")

    def getMessage(self) -> str:
        return redacted(super().getMessage())

    def __setattr__(self, name: str, value: Any) -> None:
        # The traceback as text is set by the first formatter, and reused by all others.
        super().__setattr__(name, redacted(value or "") if name == "exc_text" else value)


def print_error(error: BaseException) -> None:
    """Write an error's traceback to standard error, without tokens."""
    sys.stderr.write(redacted("".join(traceback.format_exception(error))))
    sys.stderr.flush()


def _redacting(hook: Callable[..., object]) -> Callable[..., None]:
    """Return an exception hook that prints the same text as `hook`, without tokens."""

    def say(*what: Any) -> None:
        printed = io.StringIO()
        with contextlib.redirect_stderr(printed):
            hook(*what)
        sys.stderr.write(redacted(printed.getvalue()))
        sys.stderr.flush()

    return say
