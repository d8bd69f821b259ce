"""Slow connections are closed by nginx as docs/server.md sets it up; run with nginx 1.26."""

import re
import shutil
import socket
import subprocess
import threading

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rankviz.paths import IMPORT_ROOT
from tests.support.web.ports import free_port

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
