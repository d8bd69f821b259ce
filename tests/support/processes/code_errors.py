"""An error in the code behind the page, which its log would have with a traceback, fails the test."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rankviz.ui.wiring import LOG


class _Fails(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage()) from (record.exc_info[1] if record.exc_info else None)


@contextmanager
def none_logged() -> Iterator[None]:
    """Raises AssertionError where one would be logged."""
    before = LOG.handlers, LOG.propagate
    LOG.handlers, LOG.propagate = [_Fails(logging.ERROR)], False
    try:
        yield
    finally:
        LOG.handlers, LOG.propagate = before
