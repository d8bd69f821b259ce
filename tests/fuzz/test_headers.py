"""Requests with any headers to any address of a shared page, through everything that stands before it: an answer, and
never an exception, which a server writes into its log with a traceback."""

import asyncio
from urllib.parse import quote

import pytest

from rankviz.api import Api
from rankviz.errors import UserError
from rankviz.ui.page import build_app
from rankviz.ui.visitors import ADMIN_COOKIE, COOKIE, HEADER
from tests.fuzz import mutate
from tests.support.processes.code_errors import none_logged
from tests.support.web.serving import launched

HEADERS = {
    "host": "page.example:7860",
    "origin": "http://page.example:7860",
    "referer": "http://page.example/?r=8",
    "x-forwarded-host": "page.example",
    "x-forwarded-proto": "https",
    "x-forwarded-for": "10.0.0.1, 10.0.0.2",
    "x-forwarded-port": "443",
    "x-gradio-server": "http://page.example",
    "x-gradio-user": "app",
    "forwarded": "for=10.0.0.1;host=page.example;proto=https",
    "cookie": f"{COOKIE}=ann.signature; {ADMIN_COOKIE}=admin.x.y; access-token=x; session=e30=",
    "authorization": "Bearer ann.signature",
    HEADER: "ann.signature",
    "sec-fetch-site": "same-origin",
    "sec-fetch-mode": "navigate",
    "content-length": "2",
    "content-type": "application/json; charset=utf-8",
    "range": "bytes=0-10",
    "if-range": '"etag"',
    "if-none-match": '"etag"',
    "if-modified-since": "Wed, 21 Oct 2026 07:28:00 GMT",
    "accept": "text/html",
    "accept-encoding": "gzip",
    "accept-language": "en-GB,en;q=0.9",
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type",
    "transfer-encoding": "chunked",
    "upgrade": "websocket",
    "user-agent": "Mozilla/5.0",
}
HOSTILE = (
    *(
        "http://[",
        "http://[::1",
        "//[",
        "http://x:99999999",
        "http://\\",
        "http://\u2100.example",
        "[",
        "]",
        ":",
        "::",
        "@",
    ),
    *(
        "bytes=",
        "bytes=-",
        "bytes=5-1",
        "bytes=0-,0-,0-",
        "bytes=99999999999999999999-",
        "bytes=a-b",
        "Bearer",
        "Basic !",
    ),
    *(
        "Basic 4p",
        "; charset=\xff",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "-1",
        "1e9",
        "9" * 30,
        "=",
    ),
    *(
        ";;;",
        'a="',
        "a=b;" * 500,
        "null",
        "javascript:x",
        "http://xn--",
        "http://" + "a" * 300,
        "http://%zz",
        "\x00",
        "\xff",
    ),
)
PATHS = (
    *("/", "/config", "/rankviz/answer", "/rankviz/visitor", "/rankviz/admin", "/rankviz/words", "/gradio_api/info"),
    *("/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/call/models", "/health"),
    *(
        "/gradio_api/file=x",
        "/gradio_api/file=/etc/passwd",
        "/theme.css",
        "/static/fonts/x",
        "/assets/x",
        "/login",
        "/logout",
    ),
    *(
        "/gradio_api/app_id",
        "/gradio_api/heartbeat/x",
        "/gradio_api/reset",
        "/gradio_api/mcp/",
        "/robots.txt",
        "/x" * 100,
    ),
)
BODIES = (
    *(b"", b"{}", b"[", b"\xff", b'{"data": []}', b'{"data": "\\ud800"}', b'{"data": ["\\ud800"], "fn_index": 3}'),
    *(
        b'{"data": [], "fn_index": 9999}',
        b'{"data": [], "fn_index": NaN}',
        b"[" * 5000,
        b'{"data": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ),
    b'{"data": [], "fn_index": 3, "session_hash": "\\ud800", "trigger_id": 10000000000000000000000}',
)
METHODS = ("GET", "GET", "POST", "HEAD", "OPTIONS", "PUT", "")
SECONDS = 1.0


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """Everything that a request passes, without a server."""
    api = Api(home=tmp_path_factory.mktemp("home"), shared=True)
    api.workspace.work_queue = lambda: None
    with launched(build_app(api), api) as (made, _):
        yield made


def scope_of(rng):
    headers = {name: HEADERS[name] for name in rng.sample(list(HEADERS), 6)}
    if rng.random() < 0.4:
        broken = mutate.value(headers, rng)
        headers = broken if isinstance(broken, dict) else {}
    for name in rng.sample(list(HEADERS), rng.choice((0, 1, 2))):
        headers[name] = rng.choice(HOSTILE) if rng.random() < 0.5 else HEADERS[name] + rng.choice(HOSTILE)
    path = rng.choice(PATHS) if rng.random() < 0.9 else "/" + str(rng.choice(mutate.TEXTS))
    pairs = [
        (str(name).lower().encode("utf-8", "replace"), str(value).encode("utf-8", "surrogatepass"))
        for name, value in headers.items()
    ]
    rng.shuffle(pairs)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": rng.choice(METHODS),
        "scheme": "http",
        "path": path.encode("utf-8", "replace").decode(),
        "raw_path": quote(path, errors="replace").encode(),
        "root_path": "",
        "query_string": rng.choice((b"", b"r=8", b"session_hash=x", b"\xff=%zz&", b"a[=" * 100)),
        "headers": pairs + pairs[:1] * rng.choice((0, 0, 3)),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 7860),
        "state": {},
    }


async def answered(app, scope, body):
    """The status. Who has sent the body leaves after a while, as streams have no end."""
    started = asyncio.get_running_loop().create_future()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if messages:
            return messages.pop()
        await asyncio.wait([started], timeout=SECONDS)
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start" and not started.done():
            started.set_result(message["status"])

    await asyncio.wait_for(app(scope, receive, send), 20)
    return started.result() if started.done() else 499


def test_any_headers_are_answered(fuzz, app):
    def make(rng):
        return scope_of(rng), rng.choice(BODIES)

    def read(case):
        status = asyncio.run(answered(app, *case))
        assert status != 500
        if status >= 400:
            raise UserError(str(status))

    with none_logged():
        fuzz(make, read)
