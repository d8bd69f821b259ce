"""What a request says beside its data: of which session, event or upload it is, and that it is its visitor's."""

import re
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from gradio.queueing import Queue
from starlette.datastructures import Headers, QueryParams

from rankviz.core.bounds import shown
from rankviz.ui.requests.addresses import API, address_of, is_upload
from rankviz.ui.visitors import visitor_of_scope

FROM_MCP = {"x-gradio-user": "mcp"}
"""Gradio's MCP calls endpoints with the header of who asks, and reads all their answers in one session, as itself. Its
name is random, and leaves the server never."""


def own(session: str, scope: Mapping[str, Any]) -> str:
    """The name by which Gradio knows a session of the visitor of this request. No name that is sent has a colon."""
    return f"{_owner(scope)}:{session}"


def is_anothers(event_id: str, queue: Queue, scope: Mapping[str, Any]) -> bool:
    """Whether an event that runs, or whose answer was not fetched yet, is not of the visitor of this request."""
    event = queue.event_ids_to_events.get(event_id)
    sessions = (
        [event.session_hash] if event else [s for s, ids in queue.pending_event_ids_session.items() if event_id in ids]
    )
    return not all(session.startswith(own("", scope)) for session in sessions)


async def push(pushed: Any, *, body: Any, request: Any, username: str | None) -> Any:
    """Gradio's `Queue.push`. Of an event without a session Gradio would take the id for the name of one."""
    if body.session_hash is None:
        body.session_hash = own(secrets.token_hex(16), request.scope)
    return await pushed(body=body, request=request, username=username)


def _owner(scope: Mapping[str, Any]) -> str:
    """The same before and after a login, and whoever has neither cookie nor header is one."""
    headers = Headers(scope=scope)
    if all(headers.get(name) == value for name, value in FROM_MCP.items()):
        return "mcp"
    visitor = visitor_of_scope(scope)
    return sha256((visitor.also or visitor.id).encode()).hexdigest()[:32]


KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Browsers and Gradio's clients send random letters, digits and dashes."""
SESSION = "session_hash"
KEYS = (SESSION, "event_id", "upload_id")
NUMBERS = ("fn_index", "trigger_id")
BY_NAME = f"{API}call/v2/"
NO_ENDPOINT = f"There is no endpoint of this name, or it has other arguments: {API}info lists all."
NO_EVENT = "You have no such event here. Call the endpoint, and read its answer with the same cookie or header."
TOKENS = ("oauth_token",)
MAX_NUMBER = 10**9
MAX_TOKEN = 10_000


async def readable(request: Request) -> AsyncIterator[None]:
    """A dependency of all of Gradio's addresses: HTTPException for an envelope that no client sends, and for arguments
    that an endpoint does not have, which are read by name before anything of ours runs."""
    query = request.query_params.multi_items()
    _require([*request.path_params.items(), *query])
    _require_own(request.path_params, request)
    named = [(name, own(value, request.scope) if name == SESSION else value) for name, value in query]
    request._query_params = QueryParams(named)  # Starlette has read the query, and FastAPI takes it from here
    if not is_upload(request.scope):
        # Whatever its content type says: FastAPI reads some as JSON that do not look so, and refuses what must be JSON.
        # A form was read before this, to its end: RuntimeError.
        body = None
        with suppress(ValueError, RecursionError, RuntimeError):
            body = await request.json()
        if isinstance(body, dict):
            _require(body.items())
            _require_own(body, request)
            if body.get(SESSION) is not None:  # the same dict that FastAPI checks and hands on
                body[SESSION] = own(body[SESSION], request.scope)
    by_name = request.method == "POST" and address_of(request.scope).startswith(BY_NAME)
    try:
        yield
    except (KeyError, TypeError):
        if not by_name:
            raise
        raise HTTPException(422, NO_ENDPOINT) from None


def _require_own(fields: Mapping[str, Any], request: Request) -> None:
    event_id = fields.get("event_id")
    if event_id is not None and is_anothers(event_id, request.app.get_blocks()._queue, request.scope):
        raise HTTPException(404, NO_EVENT)


def _require(fields: Iterable[tuple[str, Any]]) -> None:
    for name, value in fields:
        if value is not None and not _fits(name, value):
            raise HTTPException(422, f"{name} cannot be {shown(value)}.")


def _fits(name: str, value: Any) -> bool:
    if name in KEYS:
        return isinstance(value, str) and KEY.fullmatch(value) is not None
    if name in NUMBERS:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER
    if name in TOKENS:
        return isinstance(value, str) and len(value) <= MAX_TOKEN and value.isprintable()
    return True
