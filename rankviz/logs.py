"""What this process says in its logs, and of errors that nobody caught, without the tokens that it was given."""

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
    """From here on, in this process. Whatever runs as a process of its own calls this first; a program that imports
    RankViz has logs of its own."""
    if logging.getLogRecordFactory() is RedactedRecord:
        return
    logging.setLogRecordFactory(RedactedRecord)
    sys.excepthook = _redacting(sys.excepthook)
    sys.unraisablehook = _redacting(sys.unraisablehook)
    threading.excepthook = _redacting(threading.excepthook)


class RedactedRecord(logging.LogRecord):
    """One whose texts have no token, whichever handler shows it."""

    def __init__(self, *args: Any, **settings: Any):
        super().__init__(*args, **settings)
        self.stack_info = redacted(self.stack_info or "")

    def getMessage(self) -> str:
        return redacted(super().getMessage())

    @property
    def exc_text(self) -> str | None:
        """The traceback, which the formatter that comes first writes and all others take."""
        return self._exc_text

    @exc_text.setter
    def exc_text(self, text: str | None) -> None:
        self._exc_text = redacted(text or "")


def print_error(error: BaseException) -> None:
    """Its traceback, on standard error."""
    sys.stderr.write(redacted("".join(traceback.format_exception(error))))
    sys.stderr.flush()


def _redacting(hook: Callable[..., object]) -> Callable[..., None]:
    """The same, of which nothing is printed with a token."""

    def say(*what: Any) -> None:
        printed = io.StringIO()
        with contextlib.redirect_stderr(printed):
            hook(*what)
        sys.stderr.write(redacted(printed.getvalue()))
        sys.stderr.flush()

    return say
