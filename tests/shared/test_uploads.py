"""Uploads of a shared page, as browsers send them, who reads them, and what nginx in front of the page does."""

import asyncio
import re
import shutil
import socket
import subprocess
import threading

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rankviz.machine import disk
from rankviz.paths import IMPORT_ROOT
from rankviz.shared.uploads import Arriving
from rankviz.visitor import Visitor
from tests.support.processes.hostile_disks import fill, small_disk
from tests.support.web.ports import free_port
from tests.support.web.visitors import send

FORM = (b"content-type", b"multipart/form-data; boundary=B")
NO_UPLOAD = "This is no upload as browsers send it"
FILE = b'Content-Disposition: form-data; name="files"; filename="a.txt"'
PART = b"--B\r\n" + FILE + b"\r\n\r\nhello"
BOUNDARY = b"boundary"
MB = b"x" * 1_000_000


def left(workspace):
    return sorted(path.name for path in workspace.temp.page.rglob("*") if path.is_file())


def part(name, *contents):
    """The pieces of one file of a form."""
    head = b'--%s\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n' % (BOUNDARY, name.encode())
    return [head, *contents, b"\r\n"]


def stream(client, who, pieces, *, whole=True):
    """(status, text, pieces that were read) of an upload that says nothing of its length; one that is not whole ends
    as a browser does that is closed."""
    pieces = [*pieces, b"--%s--\r\n" % BOUNDARY] if whole else pieces
    headers = {"host": "testserver", "who": who, "content-type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
    scope = {
        "type": "http", "method": "POST", "path": "/gradio_api/upload", "query_string": b"", "http_version": "1.1",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()], "scheme": "http",
        "server": ("testserver", 80), "client": ("127.0.0.1", 1), "root_path": "", "app": client.app,
    }  # fmt: skip
    read, sent = [], []

    async def receive():
        if len(read) == len(pieces):
            return {"type": "http.disconnect"}
        read.append(pieces[len(read)])
        return {"type": "http.request", "body": read[-1], "more_body": not whole or len(read) < len(pieces)}

    async def send(message):
        sent.append(message)

    asyncio.run(client.app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent).decode(), len(read)


def test_an_upload_is_written_down_as_its_visitors_and_one_of_nobody_is_refused(shared):
    client, workspace = shared()

    (path,) = send(client, "anna").json()
    refused = send(client, "")

    assert workspace.temp.owns(path, Visitor("anna"))
    assert not workspace.temp.owns(path, Visitor("ben"))
    assert (403, True) == (refused.status_code, "This page cannot tell you from other visitors" in refused.text)
    assert "X-RankViz-Visitor" in refused.text


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("", b"{}"),
        (f"multipart/form-data; boundary={'B' * 7000}", b"--B--\r\n"),
        ("multipart/form-data; boundary=B; charset=utf-16", PART + b"\r\n--B--\r\n"),
        *(("multipart/form-data; boundary=B", body) for body in (b"", PART[:30], PART, PART + b"\r\n--B\r\n")),
        ("multipart/form-data; boundary=B", PART.replace(b"files", b"others") + b"\r\n--B--\r\n"),
        ("multipart/form-data; boundary=B", PART.replace(FILE, FILE + b"\r\nEmpty:\r\n" + FILE.replace(b"s", b"x"))),
        ("multipart/form-data; boundary=B", b"--B\r\nno header\r\n\r\nx\r\n--B--\r\n"),
        ("multipart/form-data; boundary=B", b'--B\r\nX: a; filename="b"\r\n\r\nx\r\n--B--\r\n'),
    ],
)
def test_an_upload_that_no_browser_sends_is_a_sentence_and_nothing_of_it_stays(shared, kind, body):
    client, workspace = shared()

    refused = client.post("/gradio_api/upload", content=body, headers={"who": "anna", "content-type": kind})

    assert (400, True) == (refused.status_code, refused.text.startswith(NO_UPLOAD))
    assert [] == left(workspace)


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"files_mb_per_visitor": 1}, "keeps at most 1 MB of a visitor's files"),
        ({"uploads_per_visitor": 1}, "keeps at most 1 uploads of a visitor"),
    ],
)
def test_uploads_of_a_visitor_are_bounded(shared, limits, sentence):
    client, _ = shared(**limits)
    assert 200 == send(client, "anna", b"x" * 900_000).status_code

    refused = send(client, "anna", b"y" * 200_000)

    assert (413, True) == (refused.status_code, sentence in refused.text)
    assert "removed after 24 hours" in refused.text
    assert 200 == send(client, "ben", b"y" * 200_000).status_code


def test_the_files_of_one_request_are_counted_one_by_one(shared):
    client, workspace = shared(uploads_per_visitor=3)

    assert 200 == send(client, "anna", count=2).status_code
    assert 413 == send(client, "anna", b"others", count=3).status_code
    assert ["mine.jsonl"] == left(workspace)
    assert 200 == send(client, "anna", b"others", count=1).status_code


def test_of_an_upload_that_is_given_up_nothing_stays(shared):
    client, workspace = shared()

    stream(client, "anna", part("a.csv", *[MB] * 3), whole=False)

    assert [] == left(workspace)
    assert 0 == workspace.room.used_bytes(Visitor("anna"))


def test_who_announces_much_and_sends_nothing_keeps_nobody_out(shared):
    client, workspace = shared(temp_mb=8, files_mb_per_visitor=8)
    asyncio.run(Arriving(workspace, Visitor("anna"), Headers(raw=[FORM])).begin("8000000"))

    assert 200 == stream(client, "ben", part("a.csv", MB))[0]


@pytest.mark.parametrize("is_shared", (True, False))
def test_of_an_upload_that_fills_the_disk_nothing_stays_and_the_reason_is_said(shared, is_shared):
    with small_disk(8) as folder:
        client, workspace = shared(home=folder, is_shared=is_shared)

        status, text, read = stream(client, "anna", [*part("a.csv", *[MB] * 2), *part("b.csv", *[MB] * 20)])

        full = disk.FOR_VISITORS[disk.FULL_SENTENCE] if is_shared else disk.FULL_SENTENCE
        assert (507, full) == (status, text)
        assert 15 > read
        assert [] == left(workspace)
        fill(folder)
        assert (507, full) == stream(client, "anna", part("c.csv", b"1"))[:2]


def test_an_upload_is_refused_while_nobody_would_be_known_after_a_restart(shared):
    client, workspace = shared()
    (workspace.home / "cookie.key").mkdir(parents=True)

    refused = send(client, "anna")

    assert (507, disk.NOTHING_NOW) == (refused.status_code, refused.text)
    (workspace.home / "cookie.key").rmdir()
    assert 200 == send(client, "anna").status_code


def test_nothing_but_uploads_and_downloads_is_opened(shared):
    client, workspace = shared()
    path = workspace.download("runs.zip", lambda target: target.write_bytes(b"zip"))

    assert b"zip" == client.get(f"/gradio_api/file={path}", headers={"who": "anna"}).content
    for other in ("https://example.com/a", "README.md", "", "/etc/passwd", "~", "%00", "a" * 5000):
        assert client.get(f"/gradio_api/file={other}", headers={"who": "anna"}).status_code in (403, 404)


def test_an_upload_that_says_no_length_is_counted_as_it_comes(shared):
    client, workspace = shared(files_mb_per_visitor=6)

    status, text, read = stream(client, "anna", [*part("a.csv", *[MB] * 2), *part("b.csv", *[MB] * 90)])

    assert (413, True) == (status, "at most 6 MB of a visitor's files" in text)
    assert 15 > read
    assert [] == left(workspace)
    assert 200 == stream(client, "anna", [*part("a.csv", *[MB] * 2), *part("b.csv", *[MB] * 2)])[0]
    assert ["a.csv", "b.csv"] == left(workspace)


ASKED = b"GET /lora/ HTTP/1.1\r\nHost: x\r\n"
BODY = ASKED.replace(b"GET", b"POST") + b"Content-Length: 499000\r\n\r\n" + b"x" * 498_000


@pytest.fixture
def proxy(tmp_path):
    """The port of nginx as docs/server.md sets it up, with a second in place of each minute, before a server."""
    if not (nginx := shutil.which("nginx")):
        pytest.skip("nginx is not installed")

    async def answer(request):
        return PlainTextResponse("answered")

    behind, port = socket.create_server(("127.0.0.1", 0)), free_port()
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=[Route("/", answer)]), lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [behind]}, daemon=True)
    thread.start()
    text = (IMPORT_ROOT / "docs" / "server.md").read_text()
    location = re.search(r"```nginx\n(.*?)```", text, re.DOTALL)[1].replace("7860", str(behind.getsockname()[1]))
    zones = "".join(re.findall(r"limit_\w+_zone [^`;]*;", text))
    seconds = "client_header_timeout 1s; client_body_timeout 1s; keepalive_timeout 1s;"
    server_block = f"server {{ listen 127.0.0.1:{port}; {seconds} {location} }}"
    paths = "".join(
        f"{name}_temp_path {tmp_path}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}}\n"
        f"http {{ access_log off; {paths} {zones} {server_block} }}\n"
    )
    running = subprocess.Popen([nginx, "-p", tmp_path, "-c", tmp_path / "nginx.conf"])
    yield port
    running.terminate()
    running.wait(20)
    server.should_exit = True
    thread.join(20)
    behind.close()


def connected(port):
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=30)
        except ConnectionRefusedError:
            threading.Event().wait(0.05)
    raise ConnectionRefusedError


@pytest.mark.parametrize(
    ("sent", "answers"), [(b"", 0), (ASKED[:20], 0), (ASKED + b"\r\n", 1), (ASKED + b"\r\n" + ASKED, 1), (BODY, 0)]
)
def test_the_proxy_closes_a_connection_without_a_request(proxy, sent, answers):
    with connected(proxy) as connection:
        connection.sendall(sent)

        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answers == answer.count(b"answered")
