"""Tells the visitors of a shared page apart, by a signed cookie, a login at Hugging Face or a header.

Never by an address or a Gradio session. A request that another site's page sends is nobody's: on a Space the cookies
go along with it in some browsers, and Gradio lets any origin read the answer. A login is the browser's own: Gradio gets
none where another page sent the request, or a header says who it is of.
"""

import math
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
from gradio.utils import get_space
from itsdangerous import BadData, BadSignature, Signer, TimestampSigner, URLSafeSerializer
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection

from rankviz.api import Api
from rankviz.ui.head import is_page
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import plain
from rankviz.ui.requests.addresses import address_of
from rankviz.visitor import NOBODY, Login, Visitor

COOKIE, ADMIN_COOKIE = "rankviz_visitor", "rankviz_admin"
ADMIN_ID = "admin"
"""Of an admin who has no cookie of a visitor: what has no owner is the host's."""
HEADER = "x-rankviz-visitor"
COOKIE_SECONDS = 365 * 24 * 3600
ADMIN_SECONDS = 8 * 3600
LOGIN_SECONDS = 8 * 3600
"""For which a program acts as somebody who is logged in, or until that login's own end where it comes before."""
LOGIN_VARIABLES = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")
VISITED = ("", "/", "/login/callback")
"""What a link on another site may open: the page, and where Hugging Face sends who has logged in."""
PORTS = {"http": 80, "https": 443}
MARK = "rankviz.visitor"
"""Where the visitor of a request stands in its ASGI scope."""


def login_is_on() -> bool:
    """Whether people can log in. Without the client's secret the key of Gradio's session is known to everyone, and
    outside a Space its login is a mock."""
    known = all(os.environ.get(name) for name in LOGIN_VARIABLES)
    return known and get_space() is not None and find_spec("authlib") is not None


def visitor_of_scope(scope: Mapping[str, Any]) -> Visitor:
    """Who sent this request to a shared page."""
    return scope.get(MARK, NOBODY)


def visitor_of(request: Any) -> Visitor:
    """The same, of a request as Gradio or Starlette hands it on; None is nobody's."""
    inner = getattr(request, "request", None) if type(request).__module__.startswith("gradio") else request
    return visitor_of_scope(inner.scope) if inner is not None else NOBODY


class Visitors:
    """Makes and reads what visitors identify themselves with.

    Args:
        keys: Sign it; where there are several, the last one does, and more may come. Whoever knows one can be everyone.
        admin_token: Makes an admin of who presents it; empty where there is none.
        logins: Whether Gradio's session cookie is to be believed.
    """

    def __init__(self, keys: str | Sequence[str], admin_token: str = "", logins: bool = False):
        self.admin_token = admin_token
        self.logins = logins
        self._keys = keys

    @property
    def _ids(self) -> Signer:
        return Signer(self._keys, salt="rankviz.visitor", key_derivation="hmac", digest_method=sha256)

    @property
    def _admins(self) -> TimestampSigner:
        # Another token, and nobody is admin any more.
        salt = f"rankviz.admin.{sha256(self.admin_token.encode()).hexdigest()}"
        return TimestampSigner(self._keys, salt=salt, key_derivation="hmac", digest_method=sha256)

    @property
    def _logins(self) -> URLSafeSerializer:
        signer = {"key_derivation": "hmac", "digest_method": sha256}
        return URLSafeSerializer(self._keys, salt="rankviz.login", signer_kwargs=signer)

    def token(self, visitor_id: str) -> str:
        """What proves that one is this visitor, in a cookie or a header."""
        return self._ids.sign(visitor_id).decode()

    def new_id(self) -> str:
        return secrets.token_hex(16)

    def id_in(self, token: str) -> str:
        """The visitor that a token proves; empty where it proves none."""
        try:
            return self._ids.unsign(token).decode()
        except (BadSignature, UnicodeError):
            return ""

    def token_for_program(self, scope: Mapping[str, Any]) -> str:
        """What a program sends as its header to be who sent this request: that of the header, of a login or of the
        cookie, or a new one. That of a login is no cookie, and has an end, which asking for it again does not move."""
        given = Headers(scope=scope).get(HEADER, "")
        if self._login_in(given):
            return given
        known = self.id_in(given)
        if not known and not is_foreign(scope) and self._profile(scope):
            ends = min(_expires_at(scope), time.time() + LOGIN_SECONDS)
            return str(self._logins.dumps([self.login_id(scope), self.cookie_id(scope), ends]))
        return self.token(known or self.cookie_id(scope) or self.new_id())

    def is_over(self, token: str) -> bool:
        """Whether it proved a login until that ended."""
        try:
            return bool(time.time() >= self._logins.loads(token)[-1])
        except BadData:
            return False

    def admin_proof(self) -> str:
        """For the cookie of an admin; it holds for some hours."""
        return self._admins.sign("admin").decode()

    def cookie_id(self, scope: Mapping[str, Any]) -> str:
        """The id in the cookie; empty where there is none, or another site's page sent the request."""
        return "" if is_foreign(scope) else self.id_in(HTTPConnection(scope).cookies.get(COOKIE, ""))

    def of(self, scope: Mapping[str, Any]) -> Visitor:
        """Who sent a request. A header says it of a program, which sends no cookies."""
        if (by_header := self._by_header(Headers(scope=scope))) is not None:
            return by_header
        if is_foreign(scope):
            return NOBODY
        cookie_id, admin = self.cookie_id(scope), self._is_admin(HTTPConnection(scope).cookies.get(ADMIN_COOKIE, ""))
        if profile := self._profile(scope):
            return Visitor(
                self.login_id(scope),
                profile["name"],
                admin,
                also=cookie_id,
                login=profile["login"],
            )
        return Visitor(cookie_id or (ADMIN_ID if admin else ""), admin=admin)

    def has_session(self, scope: Mapping[str, Any]) -> bool:
        """Whether Gradio's session is of who sent a request. The cookie comes with those of other sites' pages too."""
        return self._by_header(Headers(scope=scope)) is None and not is_foreign(scope)

    def login_id(self, scope: Mapping[str, Any]) -> str:
        """The id of who has logged in in the browser that sent a request, whatever page had it send that; empty where
        nobody has. One whose time is over has not logged out."""
        user = _oauth_info(scope).get("userinfo") or {} if self.logins else {}
        sub = user.get("sub")
        return f"hf:{sub}" if sub and isinstance(sub, str) else ""

    def _by_header(self, headers: Headers) -> Visitor | None:
        """None where no header is meant for us: an access token of the Hub is for the Space's own door."""
        if (token := headers.get(HEADER)) is not None:
            return self._by_token(token)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        visitor = self._by_token(token.strip()) if scheme.lower() == "bearer" else NOBODY
        return visitor if visitor.id else None

    def _by_token(self, token: str) -> Visitor:
        return self._login_in(token) or Visitor(self.id_in(token))

    def _login_in(self, token: str) -> Visitor | None:
        """Whom the token of a login proves while it holds; without the login, which rents machines."""
        try:
            visitor_id, also, ends = self._logins.loads(token)
        except BadData:
            return None
        return Visitor(visitor_id, also=also) if time.time() < ends else None

    def _is_admin(self, proof: str) -> bool:
        if not self.admin_token or not proof:
            return False
        try:
            return b"admin" == self._admins.unsign(proof, max_age=ADMIN_SECONDS)
        except BadSignature:
            return False

    def _profile(self, scope: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Of who is logged in at Hugging Face."""
        info = _oauth_info(scope)
        expires_at = _expires_at(scope)
        if not self.login_id(scope) or expires_at < time.time():
            return None
        token, name = str(info.get("access_token") or ""), info["userinfo"].get("preferred_username")
        return {"name": str(name or "")[:80], "login": Login(token, expires_at) if token else None}


def visitors_of(api: Api) -> Visitors:
    """As the settings have it."""
    settings = api.workspace.settings
    token = settings.admin_token.get_secret_value() if settings.admin_token else ""
    return Visitors(api.workspace.rights.key.keys, token, login_is_on())


def _oauth_info(scope: Mapping[str, Any]) -> Mapping[str, Any]:
    """What Gradio's session has of a login."""
    return scope.get("session", {}).get("oauth_info") or {}


def _expires_at(scope: Mapping[str, Any]) -> float:
    """Of a login, in unix seconds; infinite where that is not known."""
    return _oauth_info(scope).get("expires_at", math.inf)


def is_foreign(scope: Mapping[str, Any]) -> bool:
    """Whether another site's page sent it. A link to the page, the way back from a login, and the frame that shows a
    Space are no such thing."""
    headers = Headers(scope=scope)
    site = headers.get("sec-fetch-site")
    if site is not None:
        visited = scope.get("method") == "GET" and headers.get("sec-fetch-mode") == "navigate"
        return site not in ("same-origin", "none") and not (visited and address_of(scope) in VISITED)
    origin = headers.get("origin")
    if origin is None and scope.get("method") not in ("GET", "HEAD"):
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
    """Name and port of a host. Browsers leave a default port out, and some proxies write it."""
    parts = urlsplit(f"{scheme}://{host}")
    return parts.hostname, parts.port or PORTS.get(scheme)


def _without_session(scope: Mapping[str, Any]) -> dict[str, Any]:
    """The same request of a browser that has none. What is written into it is not kept."""
    return {**scope, "session": type(scope["session"])()} if "session" in scope else {**scope}


def cookie(scope: Mapping[str, Any], name: str, value: str, seconds: int) -> str:
    """A Set-Cookie header, for our own path: a proxy may have other servers beside it. A Space is shown in a frame of
    another site, where only such a cookie is kept."""
    forwarded = Headers(scope=scope).get("x-forwarded-proto", "").partition(",")[0].strip()
    https = "https" in (forwarded, scope.get("scheme"))
    framed = https and get_space() is not None
    site = "SameSite=None; Secure; Partitioned" if framed else "SameSite=Lax" + ("; Secure" if https else "")
    path = urlsplit(scope.get("root_path", "")).path or "/"
    return f"{name}={value}; Path={path}; HttpOnly; Max-Age={seconds}; {site}"


class Identified:
    """ASGI middleware: says of each request who sent it, and gives each new visitor of the page a cookie.

    Args:
        log_out: Called with the id of a login that a request has ended.
    """

    def __init__(self, app: Any, visitors: Visitors, log_out: Callable[[str], None] = lambda visitor_id: None) -> None:
        self.app = app
        self.visitors = visitors
        self.log_out = log_out

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        scope[MARK] = self.visitors.of(scope)
        gives = is_page(scope) and not is_foreign(scope)
        login = self.visitors.login_id(scope)
        inner = scope if self.visitors.has_session(scope) else _without_session(scope)
        await self.app(inner, receive, self._with_cookie(scope, send) if gives else send)
        if login and login != self.visitors.login_id(scope):  # Gradio's address /logout takes it out of the session
            self.log_out(login)

    def _with_cookie(self, scope: Any, send: Any) -> Any:
        """Renewed at each visit."""
        visitor_id = self.visitors.cookie_id(scope) or self.visitors.new_id()

        async def write(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.append("set-cookie", cookie(scope, COOKIE, self.visitors.token(visitor_id), COOKIE_SECONDS))
                headers["cache-control"] = "private"
            await send(message)

        return write


ANONYMOUS = (
    "You are anonymous here. Your runs and uploads belong to this browser's cookie: other visitors do not see them. "
    "If you delete the cookie, you do not see them either."
)
UNKNOWN = (
    "This browser keeps no cookie of this page, so the page cannot tell you from others: you can explore, not train. "
    "Allow its cookie and reload."
)
ADMIN = "You are the admin: you see the runs of all visitors, and can end and delete them."
DOOR = '<a href="rankviz/admin">Admin</a>'
"""Relative, since a page may be served under a path."""


def login(api: Api) -> None:
    """The button in the header, where people can log in."""
    if api.workspace.shared and login_is_on():
        # Gradio's icon is a file of this machine, which the page hands out to nobody.
        gr.LoginButton(size="sm", min_width=160, scale=0, icon=None, elem_id="login")


def build(api: Api) -> dict[str, Any] | None:
    """The line at the end of the page, and the event that fills it; None on a page of one's own."""
    if not api.workspace.shared:
        return None
    line = plain(elem_id="who")
    door = DOOR if api.workspace.settings.admin_token else ""
    return {"fn": lambda: who_html(api.workspace.visitor, door), "inputs": None, "outputs": line}


def who_html(visitor: Visitor, door: str = "") -> str:
    """door: markup that leads to the admin's sign-in."""
    return html.paragraphs(in_words(visitor)) + (f'<p class="rv-caption">{door}</p>' if door else "")


def in_words(visitor: Visitor) -> str:
    if visitor.admin:
        return ADMIN
    if visitor.name:
        return f"You are {visitor.name}. Your runs and uploads belong to your Hugging Face account."
    return ANONYMOUS if visitor.id else UNKNOWN
