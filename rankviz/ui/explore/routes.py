"""Serves Explore's answers to the page's script, beside Gradio's own addresses.

Gradio's event path copies the state of the whole page for every change; an answer here is one request.
"""

import gzip
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rankviz.api import Api
from rankviz.errors import RankVizError
from rankviz.shared.gate import MAX_BODY_BYTES
from rankviz.shared.identity import visitor_of
from rankviz.store.index import viewing
from rankviz.ui.explore.answer import answer, given, words
from rankviz.ui.explore.compare import compare
from rankviz.ui.parts.charts import json_text
from rankviz.ui.wiring import notice_html
from rankviz.visitor import acting_as

UNBROKEN = "r\u00a0=\u00a0"
"""No line of the page ends within "r = 64"."""


def routes(api: Api) -> list[Route]:
    """One address an answer."""
    views = {
        "answer": partial(answer, api),
        "words": lambda body: words(api, given(api, body)),
        "compare": partial(compare, api),
    }
    return [Route(f"/rankviz/{name}", _serve(view), methods=["POST"]) for name, view in views.items()]


def _serve(view: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Callable:
    async def respond(request: Request) -> Response:
        body = await request.body()
        with acting_as(visitor_of(request)):
            return await run_in_threadpool(reply, view, body, "gzip" in request.headers.get("accept-encoding", ""))

    return respond


def reply(view: Callable[[Mapping[str, Any]], Mapping[str, Any]], body: bytes, zipped: bool = False) -> Response:
    """A view's answer as JSON. A mistake is an answer too, a notice; what is no question at all has status 422."""
    try:
        question = json.loads(body) if len(body) <= MAX_BODY_BYTES else None
    except (ValueError, RecursionError):
        question = None
    if not isinstance(question, dict):
        return _json({"notice": notice_html("The request could not be read. Reload the page.", kind="error")}, 422)
    try:
        with viewing():
            return _json(view(question), 200, zipped)
    except RankVizError as error:
        return _json({"notice": notice_html(str(error), kind="error")}, 200)


def _json(value: Mapping[str, Any], status: int, zipped: bool = False) -> Response:
    text = json_text(value, separators=(",", ":")).replace("r = ", UNBROKEN).encode()
    headers = {"Cache-Control": "no-store"}
    if zipped:
        text = gzip.compress(text, 1)
        headers["Content-Encoding"] = "gzip"
    return Response(text, status, headers, "application/json")
