"""Checks what a request says beside its data: of which session, event or upload it is. Gradio keeps these texts as
keys, some for as long as it runs."""

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any

from fastapi import HTTPException, Request

from rankviz.core.checks import shown
from rankviz.ui.requests.addresses import API, address_of, is_upload

KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Browsers and Gradio's clients send random letters, digits and dashes."""
KEYS = ("session_hash", "event_id", "upload_id")
NUMBERS = ("fn_index", "trigger_id")
BY_NAME = f"{API}call/v2/"
NO_ENDPOINT = f"There is no endpoint of this name, or it has other arguments: {API}info lists all."
TOKENS = ("oauth_token",)
MAX_NUMBER = 10**9
MAX_TOKEN = 10_000


async def readable(request: Request) -> AsyncIterator[None]:
    """A dependency of all of Gradio's addresses: HTTPException for an envelope that no client sends, and for arguments
    that an endpoint does not have, which are read by name before anything of ours runs."""
    _require([*request.path_params.items(), *request.query_params.multi_items()])
    if not is_upload(request.scope):
        # Whatever its content type says: FastAPI reads some as JSON that do not look so, and refuses what must be JSON.
        with suppress(ValueError, RecursionError):
            body = await request.json()
            if isinstance(body, dict):
                _require(body.items())
    by_name = request.method == "POST" and address_of(request.scope).startswith(BY_NAME)
    try:
        yield
    except (KeyError, TypeError):
        if not by_name:
            raise
        raise HTTPException(422, NO_ENDPOINT) from None


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
