"""Whose a session is, and an event. Gradio takes the name of either for a proof of who asks; here each visitor has
sessions of their own, whatever name another visitor gives to one."""

import secrets
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from gradio.queueing import Queue
from starlette.datastructures import Headers

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
