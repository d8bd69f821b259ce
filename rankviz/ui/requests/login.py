"""The login of whoever embeds the page: Gradio's own `auth` or `auth_dependency`, which Gradio asks for at its own
addresses alone."""

import inspect
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

COOKIES = ("access-token-", "access-token-unsecure-")
"""Of Gradio's, each followed by the app's own id."""


def asks_password(scope: Mapping[str, Any]) -> bool:
    """Whether Gradio asks for a name and a password."""
    return getattr(scope.get("app"), "auth", None) is not None


def is_asked(scope: Mapping[str, Any]) -> bool:
    """Whether Gradio asks for a login."""
    return asks_password(scope) or getattr(scope.get("app"), "auth_dependency", None) is not None


async def is_let_in(scope: Mapping[str, Any]) -> bool:
    """Whether nobody is asked for a login, or whoever sends this request has logged in. What a host's login
    raises, such as HTTPException, is passed on."""
    app, request = scope.get("app"), Request(scope)
    if (user_of := getattr(app, "auth_dependency", None)) is not None:
        user = user_of(request)
        return (await user if inspect.isawaitable(user) else user) is not None
    return not asks_password(scope) or any(request.cookies.get(name + app.cookie_id) in app.tokens for name in COOKIES)
