"""Requests themselves as the attack: bodies and keys without end, several spellings of an address, cut connections."""

import json
import secrets
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.quick import chosen_quick, first_quick

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
