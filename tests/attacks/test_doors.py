"""Who may come in, and what the server would reach for them: addresses as files, names of the server, other sites."""

import json
import socket
from contextlib import suppress
from urllib.parse import urlsplit

from tests.support.web.stranger import file_data

ADDRESSES = [
    "http://hf.co/x",
    "https://hf.co/x",
    "HTTPS://hf.co/x",
    "ftp://hf.co/x",
    "//hf.co/x",
    "http://100.64.0.1:9/",
]

TAKE_FILES = ("file", "uploadbutton")


def described(address):
    """As a file, in the ways that Gradio takes one."""
    whole = file_data(address)
    return [whole, [whole], {"x": {"y": [whole]}}, whole | {"url": address}, file_data("/nothing") | {"url": address}]


def test_no_address_is_fetched_for_a_file_argument(during, ann, space, proxied):
    rows = {at: row for at, row in ann.events.rows.items() if row["backend_fn"]}
    named = {at: row["api_name"] for at, row in rows.items() if row["api_visibility"] == "public"}
    widgets = {row["id"] for row in ann.http.get("/config").json()["components"] if row["type"] in TAKE_FILES}
    events = [at for at, row in rows.items() if widgets & set(row["inputs"])]
    spectrum = ann.events.api("spectrum")
    first = file_data(ADDRESSES[0])

    def attack():
        answers = [ann.call(at, data=[first]) for at in list(named)[::3]]
        answers += [ann.call(spectrum, data=[each]) for address in ADDRESSES for each in described(address)]
        answers += [ann.call(at, data=[first] * len(rows[at]["inputs"])) for at in events]
        for at, name in list(named.items())[1::3]:
            ann.http.post(f"/gradio_api/call/{name}", json={"data": [first]})
            ann.http.post(f"/gradio_api/call/v2/{name}", json={"adapter": first, "model": first})
            values = ann.events.data(at, {})  # as the text of an argument, too
            ann.call(at, data=[ADDRESSES[0] if isinstance(value, str) else value for value in values])
        ann.http.get(f"/gradio_api/file={ADDRESSES[0]}")
        return answers

    already, folders = len(proxied[1]), len(list(space.home.glob("tmp/page/*")))
    answers = during(attack)

    assert events
    assert [] == [answer for answer in answers if not answer.error]
    assert [] == proxied[1][already:]
    assert folders == len(list(space.home.glob("tmp/page/*")))


REACHED = ["/", "/config", "/theme.css", "/rankviz/visitor", "/gradio_api/info", "/nothing"]
REACHED += ["/gradio_api/queue/data?session_hash=x", "/gradio_api/mcp/", "/gradio_api/file=/etc/passwd"]
SENT = ["queue/join", "run/predict", "call/start_sweep", "call/v2/start_sweep", "upload", "mcp/", "cancel"]
SENT = [f"/gradio_api/{name}" for name in SENT] + ["/rankviz/answer", "/rankviz/admin", "/login"]
ANOTHERS = {
    421: [{"host": "evil.example"}, {"host": "evil.example:7860"}, {"host": "127.0.0.1.evil.example"}],
    403: [{"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}],
}


def test_another_sites_page_reads_and_starts_nothing(during, ann, space):
    """Neither under a name that was bound to this address, nor from the browser of somebody who may use the page."""
    event, text = ann.events.api("start_sweep"), {"content-type": "text/plain"}
    body = json.dumps({"fn_index": event, "session_hash": "x", "data": ann.events.data(event, {})})

    def attack():
        found = {}
        for status, kinds in ANOTHERS.items():
            reads = {ann.http.get(address, headers=headers).status_code for headers in kinds for address in REACHED}
            sends = [
                ann.http.request(method, address, content=body, headers=headers | text).status_code
                for headers in kinds
                for address in SENT
                for method in ("POST", "OPTIONS")
            ]
            found[status] = reads | set(sends)
        return found

    before, logged = len(ann.endpoint("runs").data[0]), len(space.log.read_text())

    assert {status: {status} for status in ANOTHERS} == during(attack)
    assert before == len(ann.endpoint("runs").data[0])
    assert "" == space.log.read_text()[logged:]


SOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
SOCKET += "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n\r\nzz\r\n"
FORM = "Content-Type: multipart/form-data; boundary="
SPOILT = [f"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: {other}\r\n" for other in ("h2c", "x")]
SPOILT += [f"GET {address} HTTP/1.1\r\n{SOCKET}" for address in ("/", "/gradio_api/queue/join")]
SPOILT += [f"POST {address} HTTP/1.1\r\n{FORM}x\r\n{CHUNKED}" for address in (*SENT, "/nothing")]
UPLOAD = "POST /gradio_api/upload HTTP/1.1\r\nContent-Length: 8\r\n"
SPOILT += [f"{UPLOAD}{FORM}{boundary}\r\n\r\n--x\r\n\r\n\n" for boundary in ("", "\xff", "y")]
RANGES = ("bytes=0-0,1-1", "bytes=1-2-3", "x")


def test_what_cannot_be_read_is_no_line_in_the_log(during, ann, space):
    where, path = urlsplit(space.url), ann.upload("mine.csv", b"a,b\n1,2\n")
    cookie = "; ".join(f"{name}={value}" for name, value in ann.http.cookies.items())
    mine = [f"GET /gradio_api/file={path} HTTP/1.1\r\nRange: {each}\r\n" for each in RANGES]

    def send(request):
        first, rest = request.split("\r\n", 1)
        own = f"{first}\r\nHost: {where.netloc}\r\nCookie: {cookie}\r\n"
        with socket.create_connection((where.hostname, where.port), timeout=60) as connection:
            connection.sendall((own + rest + ("" if "\r\n\r\n" in rest else "\r\n")).encode("latin-1"))
            connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                return b"".join(iter(lambda: connection.recv(65536), b""))[9:12]

    logged = len(space.log.read_text())
    own = next(at for at, row in ann.events.rows.items() if not row["backend_fn"])  # which the browser runs alone

    body = {"fn_index": own, "data": [], "session_hash": "x"}
    assert 422 == during(lambda: ann.http.post("/gradio_api/run/predict", json=body)).status_code
    assert b"500" not in during(lambda: [send(request) for request in SPOILT + mine])
    assert "" == space.log.read_text()[logged:]
