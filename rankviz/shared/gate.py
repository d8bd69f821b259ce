"""Checks of every HTTP request: server name, sending site, headers, address, body, session and event; error answers.

Slow connections and long headers are left to the proxy in front of the page (docs/server.md).
"""

import inspect
import logging
import os
import re
import secrets
import socket
import traceback
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import get_route_path

from rankviz.core.bounds import UNPRINTABLE, shown
from rankviz.errors import shortened
from rankviz.shared.identity import MARK, is_foreign, is_page, is_space, middleware
from rankviz.visitor import NOBODY

LOG = logging.getLogger("rankviz.ui")

API = "/gradio_api/"
UPLOAD = f"{API}upload"
FILES = (f"{API}file=", f"{API}file/")
"""Prefixes of the addresses at which Gradio serves a file; the path of the file follows."""
ANSWERS = ("/rankviz/answer", "/rankviz/words", "/rankviz/compare", "/rankviz/models")
"""Addresses of RankViz's own, outside Gradio's, that the page's script requests."""
HEALTH = "/rankviz/health"
CLOSED = (
    *("component_server", "custom_component/", "deep_link", "dev/", "heartbeat/", "process_recording", "profiling/"),
    *("proxy=", "run-history/", "stream/", "undo-vibe-edit", "vibe-"),
)
"""Address prefixes, after API, of Gradio components and modes that this page does not have."""
LOGIN = ("/login", "/login/")
"""Addresses of the form of Gradio's own `auth`. A login at Hugging Face uses addresses below /login/."""
MONITORING = "/monitoring"
NO_ENDPOINT = f"There is no endpoint of this name, or it has other arguments: {API}info lists all."
NO_EVENT = "You have no such event here. Call the endpoint, and read its answer with the same cookie or header."
NO_PAGE_EVENT = "This page has no such event. Reload the page."
ANOTHERS = (
    "Another site's page has sent this request, and this page answers its own alone. Where a proxy serves it, let that "
    "pass the header Host on with its port: in nginx, proxy_set_header Host $http_host."
)


def is_upload(scope: Mapping[str, Any]) -> bool:
    """Return whether a request uploads files."""
    return scope["method"] == "POST" and get_route_path(scope) == UPLOAD


def is_closed(address: str, *, asks_login: bool = False) -> bool:
    """Return whether this page does not serve an address. asks_login: True where Gradio asks for a password."""
    return not asks_login if address in LOGIN else address.startswith((MONITORING, *(API + name for name in CLOSED)))


# The name of the server and the site of the sender.

LOOPBACK = "localhost"
HOST = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9_.-]+))(?::\d*)?")


def trusted(server: str, given: str) -> list[str]:
    """Return the names under which this server accepts requests. IP addresses are always accepted, since no DNS entry
    can redirect them.

    server: the name or address that the server listens on. given: value of RANKVIZ_HOSTS.
    """
    own = socket.gethostname().lower()
    short = own.partition(".")[0]
    root = urlsplit(os.environ.get("GRADIO_ROOT_PATH", "")).hostname or ""
    named = _names(",".join((server, given, os.environ.get("SPACE_HOST", ""), root)))
    return [LOOPBACK, f"*.{LOOPBACK}", own, short, f"{short}.local", *named]


def _names(given: str) -> list[str]:
    """Return the host names in a comma-separated list, in lower case and without spaces and final dots."""
    return [name for text in given.split(",") if (name := text.strip().lower().rstrip("."))]


@middleware
async def check_request_head(
    app: Any, scope: Any, receive: Any, send: Any, *, server: str, given: str, shared: bool
) -> None:
    """Answer 400 to headers or a path that cannot be read, 421 to a request for a name that is not this server's, and
    403 to a request from another site's page. A shared Space answers that request, as of a visitor who is not known.
    Elsewhere, only sites of RANKVIZ_HOSTS, and the Hub for a Space, may frame the page. shared: True where strangers
    use the page; for the others see `trusted`."""
    if scope["type"] == "websocket":  # of which the page has none
        return await send({"type": "websocket.close"})
    if scope["type"] != "http":
        return await app(scope, receive, send)
    if unreadable := _unreadable(scope):
        text = f"The {unreadable} of the request cannot be read."
        return await JSONResponse({"detail": text}, 400)(scope, receive, send)
    scope = {**scope, "headers": _clean(scope)}
    headers, ours, answers_others = Headers(scope=scope), trusted(server, given), is_space() and shared
    names = [headers.get("host", ""), headers.get("x-forwarded-host", LOOPBACK).partition(",")[0].strip()]
    others = [name for name in names if not _is_among(ours, name)]
    if others and get_route_path(scope) != HEALTH:
        advice = "If it has, name it in RANKVIZ_HOSTS and start again."
        text = f"This server has no name {shown(others[0])}. {advice}"
        return await PlainTextResponse(text, 421)(scope, receive, send)
    if not answers_others and is_foreign(scope):
        return await PlainTextResponse(ANOTHERS, 403)(scope, receive, send)

    async def framed(message: Any) -> None:
        if message["type"] == "http.response.start":
            sites = [*(f"{name}:*" for name in _names(given)), *(["https://huggingface.co"] if is_space() else [])]
            policy = " ".join(("frame-ancestors 'self'", *sites))
            MutableHeaders(scope=message).append("content-security-policy", policy)
        await send(message)

    is_framed_by_all = answers_others or "*" in ours or not is_page(scope)
    await app(scope, receive, send if is_framed_by_all else framed)


@asynccontextmanager
async def with_checked_heads(app: Any, **settings: Any) -> AsyncIterator[None]:
    """Lifespan of an app in which `check_request_head` comes before all other middleware: Gradio's own check of origins
    accepts other sites, and runs before any middleware that can be added to Gradio."""
    app.middleware_stack = check_request_head(app.middleware_stack or app.build_middleware_stack(), **settings)
    yield


def _is_among(names: Collection[str], host: str) -> bool:
    """Return whether a Host header has one of these names, or an IP address."""
    match = HOST.fullmatch(host)
    if "*" in names or match is None:
        return "*" in names
    name = (match["v6"] or match["name"]).lower().rstrip(".")
    with suppress(ValueError):
        ip_address(name)
        return True
    return any(name == each or (each.startswith("*") and name.endswith(each[1:])) for each in names)


# The head: headers and address.

HOST_HEADERS = (b"host", b"x-forwarded-host")
GRADIOS_OWN = b"x-gradio-server"
"""Header of Gradio's page-rendering server, which RankViz does not use. It is removed from requests, since anyone can
send it, and Gradio copies it into answers to other visitors."""
RANGE = re.compile(rb"bytes=\d{0,18}-\d{0,18}")
"""Pattern of a Range header with one range, all that Gradio reads. Others are removed: the whole file is sent."""
MAX_PATH_BYTES = 2000
MAX_NAME_BYTES = 255
"""Longest name between two slashes of a path. No file has a longer name, and looking one up would raise an error."""


def _clean(scope: Any) -> list[tuple[bytes, bytes]]:
    """Return the headers without those that Gradio must not read, and with a Host, which HTTP/1.0 may leave out."""
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name != GRADIOS_OWN and (name != b"range" or RANGE.fullmatch(value))
    ]
    if not any(name == b"host" for name, _ in headers):
        host, port = scope.get("server") or (LOOPBACK, None)
        host = f"[{host}]" if ":" in str(host) else str(host)
        headers.append((b"host", (f"{host}:{port}" if port else host).encode()))
    return headers


def _unreadable(scope: Any) -> str:
    """Return the name of the request's part that cannot be read; empty where all can be read. Empty headers can be
    read, and so can an origin "null"."""
    path = scope["path"].encode(errors="replace")
    is_long = len(path) > MAX_PATH_BYTES or any(len(name) > MAX_NAME_BYTES for name in path.split(b"/"))
    if is_long or UNPRINTABLE.search(scope["path"]):
        return "path"
    name = b"query"
    try:
        scope.get("query_string", b"").decode()
        for name, value in scope["headers"]:
            text = value.decode("latin-1").partition(",")[0].strip()  # of what proxies have put together the first
            if name == b"content-length" and not (text.isascii() and text.isdigit()):
                return name.decode()
            if name in HOST_HEADERS or name == b"origin":
                url = f"http://{text}" if name in HOST_HEADERS else text
                httpx.URL(url)
                _ = urlsplit(url).port
    except (httpx.InvalidURL, ValueError):
        return name.decode()
    return ""


# The body, and a login of Gradio's own.

MAX_BODY_BYTES = 100_000
"""Largest body of a question of Explore, of a call by HTTP or MCP, and of any request without its own limit."""
MAX_EVENT_BYTES = 500_000
"""Largest body of an event of the page with the values of its widgets. 256 uploaded files take 300 kB."""
MAX_VALUES = 10_000
"""Most JSON values in a body. 256 uploaded files are 2,000 values."""
BEGIN_A_VALUE = (b",", b"[", b"{")
"""Bytes before each JSON value but the first. They are counted inside texts too, so that no JSON is parsed."""
EVENTS = tuple(API + name for name in ("queue/join", "run/", "api/"))
COOKIES = ("access-token-", "access-token-unsecure-")
"""Prefixes of the cookies of Gradio's login; the id of the app follows."""


def asks_password(scope: Mapping[str, Any]) -> bool:
    """Return whether Gradio asks for a name and a password."""
    return getattr(scope.get("app"), "auth", None) is not None


async def is_let_in(scope: Mapping[str, Any]) -> bool:
    """Return whether no login is needed, or the sender of this request has logged in. Errors of the login of a
    surrounding app, such as HTTPException, are raised."""
    app, request = scope.get("app"), Request(scope)
    if (user_of := getattr(app, "auth_dependency", None)) is not None:
        user = user_of(request)
        return (await user if inspect.isawaitable(user) else user) is not None
    return not asks_password(scope) or any(request.cookies.get(name + app.cookie_id) in app.tokens for name in COOKIES)


@middleware
async def check_request_body(app: Any, scope: Any, receive: Any, send: Any) -> None:
    """Answer 413 to a too long body, 404 to an address that this page does not serve, and 401 (or what the surrounding
    app's login answers) to a request for ANSWERS without the login that the page needs."""
    if scope["type"] != "http" or is_upload(scope):
        return await app(scope, receive, send)
    address = get_route_path(scope)
    try:
        if is_closed(address, asks_login=asks_password(scope)):
            raise HTTPException(404, "This page has no such address.")
        if address in ANSWERS and not await is_let_in(scope):
            raise HTTPException(401, "Log in first.")
        body = await _read(receive, MAX_EVENT_BYTES if address.startswith(EVENTS) else MAX_BODY_BYTES)
    except HTTPException as refusal:  # a host's own login may raise one too
        answer = JSONResponse({"detail": refusal.detail}, refusal.status_code, refusal.headers)
        return await answer(scope, receive, send)
    if body is not None:
        await app(scope, once(body, receive), send)


async def _read(receive: Any, most: int) -> bytes | None:
    """Return a request's whole body; None where the sender has disconnected; HTTPException 413 if too long."""
    body, values, more = b"", 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part, more = message.get("body", b""), message.get("more_body", False)
        body += part
        values += sum(map(part.count, BEGIN_A_VALUE))
        if len(body) > most or values > MAX_VALUES:
            what = f"{most:,} bytes" if len(body) > most else f"{MAX_VALUES:,} values"
            raise HTTPException(413, f"The request is too long: at most {what} are read.")
    return body


def once(body: bytes, receive: Any) -> Any:
    """Return a `receive` that gives this body first, and then the messages of the given `receive`."""
    given = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def read() -> Any:
        return next(given, None) or await receive()

    return read


# The envelope: session, event and upload, by the names that a request gives them.

FROM_MCP = {"x-gradio-user": "mcp"}
"""Header of Gradio's MCP server, which reads all answers in one session of its own; the session's random name never
leaves the server. Calls of endpoints have the headers of the caller instead."""
KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Pattern of session, event and upload ids: browsers and Gradio's clients send random letters, digits and dashes."""
SESSION = "session_hash"
KEYS = (SESSION, "event_id", "upload_id")
NUMBERS = ("fn_index", "trigger_id")
MAX_NUMBER = 10**9
MAX_TOKEN = 10_000


def own(session: str, scope: Mapping[str, Any]) -> str:
    """Return the session name that Gradio gets: a hash of the visitor (equal before and after a login), a colon, and
    the sent name. All senders without cookie and header are one visitor."""
    headers = Headers(scope=scope)
    if all(headers.get(name) == value for name, value in FROM_MCP.items()):
        return f"mcp:{session}"
    visitor = scope.get(MARK, NOBODY)
    return f"{sha256((visitor.also or visitor.id).encode()).hexdigest()[:32]}:{session}"


async def push(pushed: Any, *, body: Any, request: Any, username: str | None) -> Any:
    """Wrap Gradio's `Queue.push`: name the session of an event without one; Gradio would name it after the event."""
    if body.session_hash is None:
        body.session_hash = own(secrets.token_hex(16), request.scope)
    return await pushed(body=body, request=request, username=username)


async def readable(request: Request) -> AsyncIterator[None]:
    """FastAPI dependency of Gradio's addresses. Raise HTTPException 422 for malformed ids, an unknown endpoint or
    unfit arguments, and 404 for another visitor's event or an unknown event of the page."""
    blocks, given = request.app.get_blocks(), dict(request.path_params)
    query = request.query_params.multi_items()
    _require([*given.items(), *query])
    named = [(name, own(value, request.scope) if name == SESSION else value) for name, value in query]
    request._query_params = QueryParams(named)  # Starlette has read the query, and FastAPI takes it from here
    body = None
    if not is_upload(request.scope):
        # Whatever its content type says: FastAPI reads some as JSON that do not look so, and refuses what must be JSON.
        # A form was read before this, to its end: RuntimeError.
        with suppress(ValueError, RecursionError, RuntimeError):
            body = await request.json()
    if isinstance(body, dict):
        _require(body.items())
        if body.get(SESSION) is not None:  # the same dict that FastAPI checks and hands on
            body[SESSION] = own(body[SESSION], request.scope)
        if (number := body.get("fn_index")) is not None and number not in blocks.fns:
            raise HTTPException(404, NO_PAGE_EVENT)
        given["event_id"] = given.get("event_id") or body.get("event_id")
    if (event_id := given.get("event_id")) is not None:  # of another while it runs, or until its answer is fetched
        queue = blocks._queue
        sessions = [session for session, ids in queue.pending_event_ids_session.items() if event_id in ids]
        if event := queue.event_ids_to_events.get(event_id):
            sessions = [event.session_hash]
        if not all(session.startswith(own("", request.scope)) for session in sessions):
            raise HTTPException(404, NO_EVENT)
    by_name = request.method == "POST" and "api_name" in given
    if by_name and (not isinstance(body, dict) or body.get("fn_index") is None):
        names = {function.api_name for function in blocks.fns.values() if function.api_name}
        if given["api_name"].strip("/") not in names:
            raise HTTPException(422, NO_ENDPOINT)
    try:
        yield
    except (KeyError, TypeError):
        if not by_name:
            raise
        raise HTTPException(422, NO_ENDPOINT) from None


def _require(fields: Iterable[tuple[str, Any]]) -> None:
    for name, value in fields:
        fits = True
        if name in KEYS:
            fits = isinstance(value, str) and KEY.fullmatch(value) is not None
        elif name in NUMBERS:
            fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER
        elif name == "oauth_token":
            fits = isinstance(value, str) and len(value) <= MAX_TOKEN and value.isprintable()
        if value is not None and not fits:
            raise HTTPException(422, f"{name} cannot be {shown(value)}.")


# The answer, and the log.

READERS = ("asyncio", "python_multipart")
"""Libraries whose warnings about unreadable requests and lost connections are not logged. uvicorn sets its own level
again, so its log is filtered."""
_logged: set[tuple[str, int, type]] = set()


def keep_log_ours() -> None:
    """Remove library warnings about unreadable requests from the log, for every server of this process."""
    logging.getLogger("uvicorn.error").addFilter(_is_ours)  # twice is once
    for name in READERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def _is_ours(record: logging.LogRecord) -> bool:
    """Return whether a record of uvicorn is logged."""
    return record.levelno >= logging.ERROR and not _is_of_parser(record.exc_info and record.exc_info[1])


def _is_of_parser(error: object) -> bool:
    """Return whether an error says that no answer can be sent any more, after a request that could not be read."""
    return type(error).__module__.startswith("h11")


def logged(error: Exception, name: str) -> str:
    """Log an error in RankViz and return its number, by which the host finds it in the log. The traceback is logged
    once for each place in the code. name: the operation or address that failed."""
    number = secrets.token_hex(4)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = (frame.filename, frame.lineno or 0, type(error))
    known = place in _logged
    _logged.add(place)
    words, at = shortened(repr(error), 200), f"{frame.filename}:{frame.lineno}{', as before' if known else ''}"
    LOG.error("Error %s in %.100r: %s at %s", number, name, words, at, exc_info=None if known else error)
    return number


REFUSED = "rankviz.refused"
"""Key in the ASGI scope of a list that is not empty once an event was refused because of its input."""


@middleware
async def answer_errors(app: Any, scope: Any, receive: Any, send: Any) -> None:
    """Answer an unexpected error with a sentence, and log it once; without this, the server would log a traceback each
    time. Answer a refused event with 422, where Gradio answers 500. Comes before RankViz's other middleware."""
    started, scope[REFUSED] = False, []

    async def noted(message: Any) -> None:
        nonlocal started
        started = started or message["type"] == "http.response.start"
        if message.get("status") == 500 and scope[REFUSED]:
            message = {**message, "status": 422}
        await send(message)

    try:
        await app(scope, receive, noted)
    except ClientDisconnect:
        return  # who has gone needs no answer
    except Exception as error:
        if _is_of_parser(error):
            raise
        if started and isinstance(error.__cause__, HTTPException):  # a stream has said so: there is no such session
            return await send({"type": "http.response.body", "body": b""})
        if scope["type"] != "http":
            raise
        text = f"RankViz could not answer: an error in its code, number {logged(error, scope['path'])} in its log."
        if not started:
            await JSONResponse({"detail": text}, 500)(scope, receive, send)


async def unfit(request: Request, error: Exception) -> JSONResponse:
    """Answer 422 to a body that its address cannot take. FastAPI would quote the body, even where it is not text."""
    return JSONResponse({"detail": "The body of the request has another form than this address takes."}, 422)
