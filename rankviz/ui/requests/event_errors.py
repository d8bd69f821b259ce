"""Says in a sentence what went wrong in an event, and keeps what strangers cause out of the log.

A refusal is of the request: one line at level INFO. Anything else is a mistake in RankViz: the log has its traceback,
once for each place in the code, with the number that its visitor was shown.
"""

import logging
import secrets
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from rankviz.errors import RankVizError, quoted, shortened

LOG = logging.getLogger("rankviz.ui")
TITLE = "Not done"
"""Over the sentence (on the page by assets/js/toasts.js)."""
REFUSED = "rankviz.refused"
"""Stands in the ASGI scope of a request whose event was refused."""
_logged: set[tuple[str, int, type]] = set()


@contextmanager
def in_words(request: Any, name: str) -> Iterator[None]:
    """Every exception of an event becomes a gr.Error, of which Gradio prints nothing. name: of the event's function."""
    try:
        yield
    except (RankVizError, gr.Error) as error:
        LOG.info("%s: refused: %s", name, quoted(error))
        inner = getattr(request[0] if isinstance(request, list) else request, "request", None)
        if hasattr(inner, "scope"):
            inner.scope[REFUSED] = True
        if isinstance(error, RankVizError):
            raise gr.Error(toast(error), duration=10, title=TITLE, print_exception=False) from error
        error.title, error.print_exception = TITLE, False
        raise
    except Exception as error:
        number = logged(error, name)
        text = f"RankViz could not do that: an error in its code, number {number} in the app's log. Reload the page."
        raise gr.Error(text, title=TITLE, print_exception=False) from error


def toast(error: Exception) -> str:
    """Its words without the marks of commands, which a toast would show as they are."""
    return str(error).replace("`", "")


def logged(error: Exception, name: str) -> str:
    """The number of an error in RankViz, by which the host finds it in the log. name: of what failed."""
    number = secrets.token_hex(4)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = (frame.filename, frame.lineno or 0, type(error))
    known = place in _logged
    _logged.add(place)
    words, at = shortened(repr(error), 200), f"{frame.filename}:{frame.lineno}{', as before' if known else ''}"
    LOG.error("Error %s in %.100r: %s at %s", number, name, words, at, exc_info=None if known else error)
    return number


class Refusals:
    """ASGI middleware: an event that was refused is answered with 422. Gradio answers every error with 500."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def write(message: Any) -> None:
            if message["type"] == "http.response.start" and message["status"] == 500 and scope.get(REFUSED):
                message = {**message, "status": 422}
            await send(message)

        await self.app(scope, receive, write)
