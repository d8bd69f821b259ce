"""HTTP addresses besides Gradio's: health, visitor token, admin sign-in; and the page's address in the network."""

import hmac
import secrets
import socket
from collections import Counter
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from rankviz import __version__
from rankviz.api import Api
from rankviz.core.runs.record import RunState
from rankviz.machine import disk
from rankviz.shared.gate import HEALTH
from rankviz.shared.identity import ADMIN_COOKIE, ADMIN_SECONDS, HEADER, Visitors, cookie, is_foreign, visitor_of
from rankviz.ui.parts import html


def health_routes(api: Api) -> list[Route]:
    """Return the route that reports the server's health."""
    return [Route(HEALTH, lambda request: JSONResponse(health(api), headers=NO_STORE), methods=["GET"])]


def health(api: Api) -> dict[str, Any]:
    """Return version, True where the runs folder is writable, and counts of all visitors' queued and running runs and
    probes; the counts are None while the folder is unread or unreadable."""
    queued = running = None
    if not api.workspace.store.reading:
        with suppress(OSError):
            states = Counter(record.state for record in api.workspace.store.records())
            queued, running = states[RunState.QUEUED], states[RunState.RUNNING]
    writable = not disk.trouble(api.workspace.home)
    return {"version": __version__, "home_writable": writable, "queued": queued, "running": running}


NO_STORE = {"Cache-Control": "no-store"}
FORM = html.markup("admin")
SIGN_IN = """<label>Token <input type="password" name="token" autocomplete="current-password" required></label>
<button>Sign in</button>"""
SIGN_OUT = '<input type="hidden" name="leave" value="yes"><button>Sign out</button>'


def identity_routes(visitors: Visitors) -> list[Route]:
    """Return the routes of a program's token, with which it acts as a visitor, and of the admin's sign-in."""

    async def token(request: Request) -> Response:
        if is_foreign(request.scope):
            return JSONResponse({"error": "Ask for it from a program."}, 403, NO_STORE)
        known = visitors.id_in(request.headers.get(HEADER, "")) or visitors.cookie_id(request.scope)
        answer = {"header": "X-RankViz-Visitor", "visitor": visitors.token(known or secrets.token_hex(16))}
        return JSONResponse(answer, headers=NO_STORE)

    async def door(request: Request) -> Response:
        """The page on which the admin signs in with the token, and signs out."""
        if request.method == "GET":
            return form("You are the admin." if visitor_of(request).admin else "", request)
        if is_foreign(request.scope):
            return form("Sign in from this page.", request, 403)
        try:
            fields = parse_qs((await request.body()).decode(errors="replace"), max_num_fields=5)
        except ValueError:  # too many of them
            fields = {}
        proof, seconds, given = "", 0, fields.get("token", [""])[0]
        if not fields.get("leave"):
            if not hmac.compare_digest(given.encode(), visitors.admin_token.encode()):
                return form("This is not the token.", request, 403)
            proof, seconds = visitors.admin_proof(), ADMIN_SECONDS
        response = RedirectResponse("..", 303, NO_STORE)
        response.headers.append("set-cookie", cookie(request.scope, ADMIN_COOKIE, proof, seconds))
        return response

    def form(says: str, request: Request, status: int = 200) -> Response:
        fields = SIGN_OUT if visitor_of(request).admin else SIGN_IN
        headers = {**NO_STORE, "X-Frame-Options": "DENY"}
        return HTMLResponse(FORM.format(says=escape(says), fields=fields), status, headers)

    admin = [Route("/rankviz/admin", door, methods=["GET", "POST"])] if visitors.admin_token else []
    return [Route("/rankviz/visitor", token, methods=["GET"]), *admin]


def room_url(host: str, port: int) -> str:
    """Return the page's URL for other machines in the network; empty for a loopback host, without a network, and inside
    a container, whose own address nobody else reaches."""
    if host in ("localhost", "::1") or host.startswith("127."):
        return ""
    if host in ("", "0.0.0.0", "::"):
        host = ""
        if not Path("/.dockerenv").exists() and not Path("/run/.containerenv").exists():
            with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect(("192.0.2.1", 9))  # an address that no machine has (RFC 5737); this sends nothing
                host = probe.getsockname()[0]
    return host and f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def announcement(host: str, port: int) -> list[str]:
    """Return lines for the terminal on a page that other machines can reach; empty for a loopback host."""
    if host in ("localhost", "::1") or host.startswith("127."):
        return []
    url = room_url(host, port) or f"the address of this machine (or of the host of this container), port {port}."
    return [
        f"Address in your network: {url}",
        "Warning: everyone in the network can use this page: read, start, cancel and delete runs, use this machine's "
        "access to the Hub, and open its files by their paths. Use it only in a network that you trust, or set "
        "RANKVIZ_SHARED=true, which gives each visitor limits. For another host name, set RANKVIZ_HOSTS.",
    ]
