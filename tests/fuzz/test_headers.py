"""Requests with any headers to any address of a shared page, and uploads of any form, through everything that stands
before it: an answer, and never an exception, which a server writes into its log with a traceback."""

import asyncio
import shutil
from urllib.parse import quote

import pytest

from rankviz.api import Api
from rankviz.errors import UserError
from rankviz.shared.identity import ADMIN_COOKIE, COOKIE, HEADER, visitors_of
from rankviz.ui.page import build_app
from rankviz.visitor import Visitor
from tests.fuzz import mutate
from tests.support.processes.code_errors import none_logged
from tests.support.web.serving import launched

_HEADERS = """
host page.example:7860|origin http://page.example:7860|referer http://page.example/?r=8|range bytes=0-10
x-forwarded-host page.example|x-forwarded-proto https|x-forwarded-for 10.0.0.1, 10.0.0.2|x-forwarded-port 443
x-gradio-server http://page.example|x-gradio-user app|forwarded for=10.0.0.1;host=page.example;proto=https
authorization Bearer ann.signature|sec-fetch-site same-origin|sec-fetch-mode navigate|content-length 2
content-type application/json; charset=utf-8|if-range "etag"|if-none-match "etag"|accept text/html
if-modified-since Wed, 21 Oct 2026 07:28:00 GMT|accept-encoding gzip|accept-language en-GB,en;q=0.9
access-control-request-method POST|access-control-request-headers content-type|transfer-encoding chunked
upgrade websocket|user-agent Mozilla/5.0
"""
HEADERS = dict(each.split(" ", 1) for each in _HEADERS.strip().replace("\n", "|").split("|"))
HEADERS |= {HEADER: "ann.signature"}
HEADERS |= {"cookie": f"{COOKIE}=ann.signature; {ADMIN_COOKIE}=admin.x.y; access-token=x; session=e30="}
_WORDS = """
http://[ http://[::1 //[ http://x:99999999 http://\\ http://\u2100.example [ ] : :: @ bytes= bytes=- bytes=5-1 null
bytes=0-,0-,0- bytes=99999999999999999999- bytes=a-b Bearer -1 1e9 = ;;; javascript:x http://xn-- http://%zz \xff
"""
_PATHS = """
/ /config /health /login /logout /robots.txt /theme.css /static/fonts/x /assets/x /rankviz/answer /rankviz/visitor
/rankviz/admin /rankviz/words /gradio_api/info /gradio_api/upload /gradio_api/queue/join /gradio_api/run/predict
/gradio_api/call/models /gradio_api/file=x /gradio_api/file=/etc/passwd /gradio_api/app_id /gradio_api/heartbeat/x
/gradio_api/reset /gradio_api/mcp/
"""
HOSTILE = (*_WORDS.split(), "Basic !", "Basic 4p", "; charset=\xff", "; charset=utf-16", "multipart/form-data", "\x00")
HOSTILE += ("multipart/form-data; boundary=", "9" * 30, 'a="', "a=b;" * 500, "http://" + "a" * 300)
PATHS = (*_PATHS.split(), "/x" * 100)
BODIES = (
    *(b"", b"{}", b"[", b"\xff", b'{"data": []}', b'{"data": "\\ud800"}', b'{"data": ["\\ud800"], "fn_index": 3}'),
    *(b'{"data": [], "fn_index": 9999}', b'{"data": [], "fn_index": NaN}', b"[" * 5000),
    b'{"data": [], "fn_index": 3, "session_hash": "\\ud800", "trigger_id": 10000000000000000000000}',
)
METHODS = ("GET", "GET", "POST", "HEAD", "OPTIONS", "PUT", "")
SECONDS = 1.0
SCOPE = {
    "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "scheme": "http",
    "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 7860),
}  # fmt: skip


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RANKVIZ_HOSTS", "page.example")
        api = Api(home=tmp_path_factory.mktemp("home"), shared=True)
        api.workspace.work_queue = lambda: None
        patched.setenv("GRADIO_TEMP_DIR", str(api.workspace.temp.folder / "page"))
        yield api


@pytest.fixture(scope="module")
def app(api):
    """Everything that a request passes, without a server."""
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
        **SCOPE,
        "method": rng.choice(METHODS),
        "path": path.encode("utf-8", "replace").decode(),
        "raw_path": quote(path, errors="replace").encode(),
        "query_string": rng.choice((b"", b"r=8", b"session_hash=x", b"\xff=%zz&", b"a[=" * 100)),
        "headers": pairs + pairs[:1] * rng.choice((0, 0, 3)),
    }


UPLOAD = "/gradio_api/upload"
PARTS = (
    'Content-Disposition: form-data; name="files"; filename="mine.jsonl"\r\nContent-Type: application/jsonl',
    'Content-Disposition: form-data; name="files"; filename="../../ü.zip"',
)
BOUNDARY = "----x"


def form(rng):
    """Packets of an upload's body: some parts, most of them broken."""
    parts = [[rng.choice(PARTS), '{"text": "a"}\n' * rng.choice((0, 1, 500))] for _ in range(rng.choice((1, 1, 2, 30)))]
    if rng.random() < 0.3:
        broken = mutate.value(parts, rng)
        parts = [[str(each)[:5000]] * 2 for each in broken] if isinstance(broken, list) else []
    text = "".join(f"--{BOUNDARY}\r\n{head}\r\n\r\n{content}\r\n" for head, content in parts) + f"--{BOUNDARY}--\r\n"
    body = text.encode("utf-8", "surrogatepass")
    body = mutate.file_bytes(body, rng) if rng.random() < 0.6 else body
    at = sorted(rng.randrange(len(body) + 1) for _ in range(rng.choice((0, 1, 5))))
    return [body[start:end] for start, end in zip([0, *at], [*at, len(body)], strict=True)]


def upload(rng, token):
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    kind = kind if rng.random() < 0.9 else kind + rng.choice(HOSTILE)
    headers = {"content-type": kind, HEADER: token}
    if rng.random() < 0.1:
        headers["content-length"] = rng.choice(("0", "10", "9" * 30, "-1"))
    pairs = [(name.lower().encode(), value.encode("utf-8", "surrogatepass")) for name, value in headers.items()]
    asked = {"query_string": rng.choice((b"", b"", b"upload_id=x", b"upload_id=x", b"upload_id=%ff")), "headers": pairs}
    return {**SCOPE, "method": "POST", "path": UPLOAD, "raw_path": UPLOAD.encode(), **asked}, form(rng)


async def answered(app, scope, packets):
    """The status. Who has sent the body leaves after a while, as streams have no end."""
    started = asyncio.get_running_loop().create_future()
    left = list(packets)

    async def receive():
        if left:
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}
        await asyncio.wait([started], timeout=SECONDS)
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start" and not started.done():
            started.set_result(message["status"])

    await asyncio.wait_for(app({**scope, "state": {}}, receive, send), 20)
    return started.result() if started.done() else 499


def test_any_headers_are_answered(fuzz, app):
    def make(rng):
        return scope_of(rng), [rng.choice(BODIES)]

    def read(case):
        status = asyncio.run(answered(app, *case))
        assert status != 500
        if status >= 400:
            raise UserError(str(status))

    with none_logged():
        fuzz(make, read)


def test_any_upload_is_its_visitors_or_leaves_nothing(fuzz, api, app):
    token, temp = visitors_of(api).token("ann"), api.workspace.temp

    def read(case):
        try:
            status = asyncio.run(answered(app, *case))
            assert status != 500
            kept = [path for path in temp.page.rglob("*") if path.is_file()]
            assert all(temp.owns(path, Visitor("ann")) for path in kept)
            assert status == 200 or not kept
            if status >= 400:
                raise UserError(str(status))
        finally:
            shutil.rmtree(temp.folder, ignore_errors=True)

    with none_logged():
        fuzz(lambda rng: upload(rng, token), read)
