"""Serves a shared page's addresses for who one is: a program's token, and the admin's door."""

import hmac
import time
from collections import deque
from html import escape
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from rankviz.ui.visitors import (
    ADMIN_COOKIE,
    ADMIN_SECONDS,
    HEADER,
    Visitors,
    cookie,
    is_foreign,
    visitor_of_scope,
)

GUESSES, GUESSES_SECONDS = 10, 60.0
"""Wrong tokens in this time, after which who sends one has to wait. Of all together, since nobody has an address that
can be trusted. It stops no guessing: the token has to be long."""
NO_STORE = {"Cache-Control": "no-store"}
FORM = """<!doctype html><html lang="en" style="color-scheme: light dark"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>RankViz: admin</title></head>
<body style="max-width: 30rem; margin: 3rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif">
<h1>Admin</h1><p role="status">{says}</p><form method="post">{fields}</form>
<p><a href="..">Back to the page</a></p></body></html>"""
SIGN_IN = """<label>Token <input type="password" name="token" autocomplete="current-password" required></label>
<button>Sign in</button>"""
SIGN_OUT = '<input type="hidden" name="leave" value="yes"><button>Sign out</button>'
OVER = "The login of this value has ended. Log in again in the browser, and open this address there for a new value."


def routes(visitors: Visitors) -> list[Route]:
    return [
        Route("/rankviz/visitor", _Token(visitors).answer, methods=["GET"]),
        *([Route("/rankviz/admin", Door(visitors).answer, methods=["GET", "POST"])] if visitors.admin_token else []),
    ]


class _Token:
    """What a program sends as its header: that of who asks, or a new one."""

    def __init__(self, visitors: Visitors):
        self._visitors = visitors

    async def answer(self, request: Request) -> Response:
        if is_foreign(request.scope):
            return JSONResponse({"error": "Ask for it from a program."}, 403, NO_STORE)
        if self._visitors.is_over(request.headers.get(HEADER, "")):  # a new one would be somebody else's
            return JSONResponse({"error": OVER}, 403, NO_STORE)
        token = self._visitors.token_for_program(request.scope)
        return JSONResponse({"header": "X-RankViz-Visitor", "visitor": token}, headers=NO_STORE)


class Door:
    """Where the admin shows the token, and signs out."""

    def __init__(self, visitors: Visitors):
        self._visitors = visitors
        self._wrong: deque[float] = deque(maxlen=GUESSES + 1)

    async def answer(self, request: Request) -> Response:
        if request.method == "GET":
            return self._form("You are the admin." if visitor_of_scope(request.scope).admin else "", request)
        if is_foreign(request.scope):
            return self._form("Sign in from this page.", request, 403)
        try:
            fields = parse_qs((await request.body()).decode(errors="replace"), max_num_fields=5)
        except ValueError:  # too many of them
            fields = {}
        if fields.get("leave"):
            return self._moved(request, "", 0)
        given = fields.get("token", [""])[0]
        if hmac.compare_digest(given.encode(), self._visitors.admin_token.encode()):
            return self._moved(request, self._visitors.admin_proof(), ADMIN_SECONDS)
        # The right token is never kept waiting: else anyone could keep the admin out with wrong ones.
        self._wrong.append(time.monotonic())
        if len(self._wrong) > GUESSES and self._wrong[-1] - self._wrong[0] < GUESSES_SECONDS:
            return self._form("Too many wrong tokens. Try again in a minute.", request, 429)
        return self._form("This is not the token.", request, 403)

    def _form(self, says: str, request: Request, status: int = 200) -> Response:
        fields = SIGN_OUT if visitor_of_scope(request.scope).admin else SIGN_IN
        headers = {**NO_STORE, "X-Frame-Options": "DENY"}
        return HTMLResponse(FORM.format(says=escape(says), fields=fields), status, headers)

    def _moved(self, request: Request, proof: str, seconds: int) -> Response:
        response = RedirectResponse("..", 303, NO_STORE)
        response.headers.append("set-cookie", cookie(request.scope, ADMIN_COOKIE, proof, seconds))
        return response
