"""Identity: tells the visitors of a shared page apart, by a signed cookie, a login at Hugging Face or a header.

Neither an IP address nor a Gradio session identifies a visitor. A request from another site's page has no visitor: on
a Space some browsers send the cookies with such a request, and Gradio lets any origin read the answer. A login belongs
to a browser: Gradio sees none where another site's page sent the request, or a header names the visitor.
"""

import math
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from itsdangerous import BadSignature, Signer, TimestampSigner
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.routing import get_route_path

from rankviz.api import Api
from rankviz.visitor import NOBODY, Login, Visitor

COOKIE, ADMIN_COOKIE = "rankviz_visitor", "rankviz_admin"
ADMIN_ID = "admin"
"""Visitor id of an admin without a visitor cookie. An empty id would mean the host, who owns unowned runs."""
HEADER = "x-rankviz-visitor"
COOKIE_SECONDS = 365 * 24 * 3600
ADMIN_SECONDS = 8 * 3600
LOGIN_VARIABLES = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")
VISITED = ("", "/", "/login/callback")
"""Addresses that a link on another site may open: the page, and the return from a login at Hugging Face."""
PORTS = {"http": 80, "https": 443}
MARK = "rankviz.visitor"
"""Key of the visitor in the ASGI scope of a request."""
SIGNED: dict[str, Any] = {"key_derivation": "hmac", "digest_method": sha256}


def middleware(handle: Callable[..., Awaitable[None]]) -> Callable[..., Any]:
    """Return a coroutine function of (app, scope, receive, send, **settings) as a class of ASGI middleware."""
    return lambda app, **settings: partial(handle, app, **settings)


def is_space() -> bool:
    """Return whether this server is a Hugging Face Space, by the environment variables that Gradio reads too."""
    return os.environ.get("SYSTEM") == "spaces" and bool(os.environ.get("SPACE_ID"))


def login_is_on() -> bool:
    """Return whether visitors can log in. Without the OAuth client's secret, the key of Gradio's session cookie would
    be public; outside a Space, Gradio's login is a mock."""
    known = all(os.environ.get(name) for name in LOGIN_VARIABLES)
    return known and is_space() and find_spec("authlib") is not None


def is_page(scope: Mapping[str, Any]) -> bool:
    """Return whether a request asks for the page. Proxies may keep or remove the path prefix of the page."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return False
    return scope["path"] in ("/", scope.get("root_path", "").rstrip("/") + "/")


def visitor_of(request: Any) -> Visitor:
    """Return the visitor who sent a request of Gradio or Starlette; NOBODY for None, or where `identify` named none."""
    inner = getattr(request, "request", None) if type(request).__module__.startswith("gradio") else request
    return inner.scope.get(MARK, NOBODY) if inner is not None else NOBODY


class Visitors:
    """Makes and checks the signed proofs of identity, in cookies and headers.

    Args:
        keys: Keys that sign the proofs; the last one signs, all are accepted, and keys may be added later. Anybody who
            knows a key can pose as any visitor.
        admin_token: Secret that makes its sender an admin; empty where there is no admin.
        logins: True where the login in Gradio's session cookie can be trusted.
    """

    def __init__(self, keys: str | Sequence[str], admin_token: str = "", logins: bool = False):
        self.admin_token, self.logins, self._keys = admin_token, logins, keys

    @property
    def _ids(self) -> Signer:
        return Signer(self._keys, salt="rankviz.visitor", **SIGNED)

    @property
    def _admins(self) -> TimestampSigner:
        salt = f"rankviz.admin.{sha256(self.admin_token.encode()).hexdigest()}"  # a new token ends all proofs
        return TimestampSigner(self._keys, salt=salt, **SIGNED)

    def token(self, visitor_id: str) -> str:
        """Return a signed token that proves this visitor's id, for a cookie or a header."""
        return self._ids.sign(visitor_id).decode()

    def id_in(self, token: str) -> str:
        """Return the visitor id that a token proves; empty where the token is not valid."""
        try:
            return self._ids.unsign(token).decode()
        except (BadSignature, UnicodeError):
            return ""

    def admin_proof(self) -> str:
        """Return the value of an admin's cookie, which is valid for ADMIN_SECONDS."""
        return self._admins.sign("admin").decode()

    def cookie_id(self, scope: Mapping[str, Any]) -> str:
        """Return the visitor id in the cookie; empty without a valid cookie, or for another site's page."""
        return "" if is_foreign(scope) else self.id_in(HTTPConnection(scope).cookies.get(COOKIE, ""))

    def of(self, scope: Mapping[str, Any]) -> Visitor:
        """Return the visitor who sent a request. A header takes precedence: programs send no cookies."""
        if (token := Headers(scope=scope).get(HEADER)) is not None:
            return Visitor(self.id_in(token))
        if is_foreign(scope):
            return NOBODY
        cookie_id, proof = self.cookie_id(scope), HTTPConnection(scope).cookies.get(ADMIN_COOKIE, "")
        admin = bool(self.admin_token and self._admins.validate(proof, max_age=ADMIN_SECONDS))
        info, login_id = _oauth_info(scope), self.login_id(scope)
        if not login_id or (ends := info.get("expires_at", math.inf)) < time.time():
            return Visitor(cookie_id or (ADMIN_ID if admin else ""), admin=admin)
        token, name = str(info.get("access_token") or ""), str(info["userinfo"].get("preferred_username") or "")[:80]
        return Visitor(login_id, name, admin, also=cookie_id, login=Login(token, ends) if token else None)

    def login_id(self, scope: Mapping[str, Any]) -> str:
        """Return the id of the account that is logged in in the sender's browser, also after the login has expired;
        empty where nobody is logged in."""
        sub = (_oauth_info(scope).get("userinfo") or {}).get("sub") if self.logins else ""
        return f"hf:{sub}" if sub and isinstance(sub, str) else ""


def visitors_of(api: Api) -> Visitors:
    """Return the Visitors of a page, with the keys and the admin token of its settings."""
    return Visitors(api.workspace.rights.keys, api.workspace.settings.admin_token or "", login_is_on())


def _oauth_info(scope: Mapping[str, Any]) -> Mapping[str, Any]:
    return scope.get("session", {}).get("oauth_info") or {}


def is_foreign(scope: Mapping[str, Any]) -> bool:
    """Return whether another site's page sent a request. Links to the page, the return from a login, and the frame
    that shows a Space do not count."""
    headers, method = Headers(scope=scope), scope.get("method")
    site = headers.get("sec-fetch-site")
    if site is not None:
        visits = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
        return site not in ("same-origin", "none") and not (visits and get_route_path(scope) in VISITED)
    origin = headers.get("origin")
    if origin is None and method not in ("GET", "HEAD"):
        origin = headers.get("referer")
    if origin is None:
        return False
    own = [headers.get(name, "").partition(",")[0].strip() for name in ("host", "x-forwarded-host")]
    try:
        scheme, sender = urlsplit(origin)[:2]
        return not sender or _place(scheme, sender) not in [_place(scheme, each) for each in own if each]
    except ValueError:  # no address at all
        return True


def _place(scheme: str, host: str) -> tuple[str | None, int | None]:
    """Return name and port of a host. Some proxies write the scheme's default port, which browsers leave out."""
    parts = urlsplit(f"{scheme}://{host}")
    return parts.hostname, parts.port or PORTS.get(scheme)


def cookie(scope: Mapping[str, Any], name: str, value: str, seconds: int) -> str:
    """Return a Set-Cookie header for the path of this page only, since a proxy may serve other apps beside it. On a
    Space the cookie is partitioned: browsers keep no other cookie in a frame of another site."""
    forwarded = Headers(scope=scope).get("x-forwarded-proto", "").partition(",")[0].strip()
    https = "https" in (forwarded, scope.get("scheme"))
    framed = https and is_space()
    site = "SameSite=None; Secure; Partitioned" if framed else "SameSite=Lax" + ("; Secure" if https else "")
    path = urlsplit(scope.get("root_path", "")).path or "/"
    return f"{name}={value}; Path={path}; HttpOnly; Max-Age={seconds}; {site}"


@middleware
async def identify(
    app: Any, scope: Any, receive: Any, send: Any, *, visitors: Visitors, log_out: Callable[[str], None] | None = None
) -> None:
    """Write the visitor into the scope of each request, and give each visitor of the page a cookie with a new expiry
    date. log_out: called with the visitor id of a login that a request has ended."""
    if scope["type"] not in ("http", "websocket"):
        return await app(scope, receive, send)
    scope[MARK], login, is_from_elsewhere = visitors.of(scope), visitors.login_id(scope), is_foreign(scope)

    async def with_cookie(message: Any) -> None:
        if message["type"] == "http.response.start":
            token = visitors.token(visitors.cookie_id(scope) or secrets.token_hex(16))
            headers = MutableHeaders(scope=message)
            headers.append("set-cookie", cookie(scope, COOKIE, token, COOKIE_SECONDS))
            headers["cache-control"] = "private"
        await send(message)

    inner = scope
    if HEADER in Headers(scope=scope) or is_from_elsewhere:  # browsers send the session cookie too
        inner = {**scope}
        if "session" in scope:  # as of a browser that has none; what is written into it is not kept
            inner["session"] = type(scope["session"])()
    await app(inner, receive, with_cookie if is_page(scope) and not is_from_elsewhere else send)
    if login and login != visitors.login_id(scope) and log_out:  # Gradio's address /logout takes it out of the session
        log_out(login)
