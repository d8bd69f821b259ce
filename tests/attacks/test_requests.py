"""Requests as the attack: bodies without end, spellings of an address, cut connections, and other sites."""

import json
import secrets
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.quick import chosen_quick, first_quick
from tests.support.web.stranger import file_data

JSON = {"content-type": "application/json"}
ADDRESSES = ["reset", "cancel", "stream/x", "vibe-edit", "component_server", "queue/join", "run/predict", "nothing"]
ADDRESSES = [f"/gradio_api/{name}" for name in ADDRESSES] + ["/rankviz/answer", "/rankviz/admin", "/login", "/nothing"]
BODY_MB = 60


def parts():
    yield b'{"session_hash": "x", "event_id": "y", "data": ['
    for _ in range(BODY_MB):
        yield b"[{}" + b",{}" * 333_332 + b"],"
    yield b"[]]}"


@pytest.mark.parametrize("address", chosen_quick(ADDRESSES, ["/gradio_api/queue/join"]))
def test_a_body_without_end_is_not_read(during, ann, address):
    reply = during(lambda: ann.http.post(address, content=parts(), headers=JSON))

    assert reply.status_code in (404, 413)


MANY = {"objects": b'{"a":{}},' * 430_000, "lists": b"[]," * 1_290_000, "numbers": b"1," * 1_900_000}
"""Each within 4 MB."""
AT_ONCE = 20


@pytest.mark.parametrize("values", first_quick(MANY))
def test_a_body_of_values_without_number_is_not_parsed(during, ann, space, values):
    event = ann.events.api("estimate")
    body = b'{"fn_index":%d,"session_hash":"x","data":[%s1]}' % (event, MANY[values])

    def post(name):
        return ann.http.post(f"/gradio_api/{name}", content=body, headers=JSON).status_code

    def attack():
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return set(pool.map(post, ["queue/join", "run/predict"] * (AT_ONCE // 2)))

    before = space.rss.memory_info().rss

    assert {413} == during(attack)
    assert space.rss.memory_info().rss - before < KEPT_BYTES


KEYS = ["x" * 65, "x" * 490_000, "\ud800", "", 5, ["x"], {"x": "x"}]
TIMES = 300
"""More than that many of the longest would not be noticed."""
KEPT_BYTES = 100 * 10**6


@pytest.mark.slow
def test_a_key_that_no_browser_sends_is_not_kept(during, ann, space):
    event = ann.events.api("models")

    def attack():
        codes = []
        for name in ("session_hash", "event_id"):
            for key in (*KEYS, *["y" * 490_000] * TIMES):
                text = json.dumps({"fn_index": event, "data": [], "session_hash": "x", "event_id": "y", name: key})
                for address in ("queue/join", "run/predict", "cancel"):
                    codes.append(ann.http.post(f"/gradio_api/{address}", content=text, headers=JSON).status_code)
        odd = b"\xa0application/json", b"\x85application/json", b"application/x+json", b"text/plain", b""
        for kind in odd:
            text = json.dumps({"fn_index": event, "data": [], "session_hash": "\ud800"})
            reply = ann.http.post("/gradio_api/queue/join", content=text, headers={b"content-type": kind})
            codes.append(reply.status_code)
        for query in ("queue/data?session_hash=", "upload_progress?upload_id=", "call/models/"):
            codes.append(ann.http.get(f"/gradio_api/{query}{'x' * 65}").status_code)
        return codes

    before = space.rss.memory_info().rss
    codes = during(attack)

    assert {413, 422} >= set(codes)
    assert space.rss.memory_info().rss - before < KEPT_BYTES


@pytest.mark.slow
def test_answers_that_nobody_fetches_do_not_add_up(during, ann, space):
    event = ann.events.api("models")
    data = [500, *ann.events.data(event, {})[1:]]

    def ask_and_leave(times):
        for _ in range(times):
            body = {"fn_index": event, "data": data, "session_hash": secrets.token_hex(6)}
            assert 200 == ann.http.post("/gradio_api/queue/join", json=body).status_code

    during(lambda: ask_and_leave(250))
    before = space.rss.memory_info().rss
    during(lambda: ask_and_leave(300))

    assert space.rss.memory_info().rss - before < KEPT_BYTES


def raw(space, path):
    """The whole answer to a path that is sent as it is."""
    where = urlsplit(space.url)
    with socket.create_connection((where.hostname, where.port), timeout=60) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


LONG = [f"/{name}/{'a' * 5000}" for name in ("svelte", "assets", "static", "rankviz", "gradio_api/file=", "x")]
LONG += ["/assets/" + "a/" * 4000, f"/assets/{'ä' * 200}", "/assets/%00", "/" + "%2e%2e/" * 900]


def test_an_address_of_any_length_is_an_answer_and_no_line_in_the_log(during, space):
    malformed = b"\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"x" * 70_000
    where = urlsplit(space.url)

    def attack():
        for request in malformed:
            with socket.create_connection((where.hostname, where.port), timeout=60) as connection:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                with suppress(ConnectionError):
                    while connection.recv(65536):
                        pass
        return {raw(space, path)[9:12] for path in LONG}

    before = len(space.log.read_text())

    assert {b"400", b"403", b"404"} >= during(attack)
    assert "" == space.log.read_text()[before:]


def test_no_spelling_of_an_address_gives_the_file_of_another(during, ben, space):
    path = ben.upload("other.txt", b"a secret of another")
    folder, name = str(Path(path).parent), Path(path).name
    spellings = [f"file={path}", f"file/{path}", f"file%3d{path}", f"file={path[1:]}", f"file=file://{path}"]
    spellings += [f"file/{folder}/gradio_api/file=/k/{up * 3}{name}" for up in ("../", "..%2f", "%2e%2e/", "%2e%2e%2f")]
    spellings += [f"file={folder}/x/../{name}", f"file={folder}/%2e/{name}", f"file=//{path}", f"proxy=file://{path}"]
    spellings = [f"/gradio_api/{each}" for each in spellings] + [f"/x/gradio_api/file={path}", f"/file={path}"]

    answers = during(lambda: [raw(space, f"{each}{end}") for each in spellings for end in ("", "?a=b", "/")])

    assert [] == [each for each in answers if b"a secret of another" in each or b" 5" == each[8:10]]
    assert "a secret of another" == ben.http.get(f"/gradio_api/file={path}").text


CUT = ["/rankviz/answer", "/rankviz/admin", "/gradio_api/run/predict", "/gradio_api/queue/join", "/gradio_api/upload"]


def test_a_connection_that_is_cut_is_no_error_of_ours(during, space):
    where = urlsplit(space.url)

    def attack():
        for path in CUT * 3:
            with socket.create_connection((where.hostname, where.port)) as connection:
                head = f"POST {path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
                connection.sendall(f'{head}Content-Length: 50\r\n\r\n{{"'.encode())

    before = len(space.log.read_text())
    during(attack)

    assert "" == space.log.read_text()[before:]


ENDLESS_MB = 40


@pytest.mark.parametrize("start", first_quick(["GET / HTTP/1.1\r\nX-Long: ", "GET /", "GET / HTTP/1.1\r\nX: y\r\nX: "]))
def test_an_address_or_header_without_end_is_not_read(during, space, start):
    where = urlsplit(space.url)

    def attack():
        with socket.create_connection((where.hostname, where.port), timeout=60) as connection:
            connection.sendall(start.encode())
            sent_mb = 0
            with suppress(ConnectionError):
                while sent_mb < ENDLESS_MB:
                    connection.sendall(b"x" * 10**6)
                    sent_mb += 1
            return sent_mb

    assert during(attack) < ENDLESS_MB / 2


def test_what_there_is_not_is_a_sentence_and_no_line_in_the_log(during, ann, space):
    """Endpoints, arguments, sessions, functions of components, boundaries."""
    boundary = {"content-type": f"multipart/form-data; boundary={'B' * 300}"}
    server = {"session_hash": "x", "component_id": 1, "fn_name": "__init__", "data": 1}

    def attack():
        replies = [ann.http.post(f"/gradio_api/call/v2/{name}", json={"x": 1}) for name in ("nothing", "models")]
        replies += [ann.http.post("/gradio_api/component_server", json=server)]
        replies += [ann.http.post("/gradio_api/upload", content=f"--{'B' * 300}--\r\n", headers=boundary)]
        replies += [ann.http.post("/rankviz/admin", content="&".join(f"a{i}=1" for i in range(50)))]
        sessions = [
            ann.http.get("/gradio_api/queue/data?session_hash=nobody"),
            ann.http.get("/gradio_api/call/x/nothing"),
        ]
        return [reply.status_code for reply in replies], [reply.status_code for reply in sessions]

    before = len(space.log.read_text())
    refused, ended = during(attack)

    assert {400, 403, 404, 422} >= set(refused)
    assert [200, 200] == ended
    assert "" == space.log.read_text()[before:]


OUTSIDE = [
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
    first = file_data(OUTSIDE[0])

    def attack():
        answers = [ann.call(at, data=[first]) for at in list(named)[::3]]
        answers += [ann.call(spectrum, data=[each]) for address in OUTSIDE for each in described(address)]
        answers += [ann.call(at, data=[first] * len(rows[at]["inputs"])) for at in events]
        for at, name in list(named.items())[1::3]:
            ann.http.post(f"/gradio_api/call/{name}", json={"data": [first]})
            ann.http.post(f"/gradio_api/call/v2/{name}", json={"adapter": first, "model": first})
            values = ann.events.data(at, {})  # as the text of an argument, too
            ann.call(at, data=[OUTSIDE[0] if isinstance(value, str) else value for value in values])
        ann.http.get(f"/gradio_api/file={OUTSIDE[0]}")
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
