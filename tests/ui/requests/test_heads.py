"""Connections on which no request comes, or one that cannot be read."""

import logging
import socket
import threading
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rankviz.shared import gate

ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def serve(monkeypatch):
    """serve(seconds): connects to a server that waits so long for a head."""

    @contextmanager
    def connected(seconds):
        monkeypatch.setattr(gate, "HEAD_SECONDS", seconds)
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="warning", lifespan="off", http=gate.Connection, timeout_keep_alive=600)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        with socket.create_connection(listening.getsockname(), timeout=30) as connection:
            yield connection
        server.should_exit = True
        thread.join(20)
        listening.close()

    async def answer(request):
        return PlainTextResponse("answered")

    app = Starlette(routes=[Route("/", answer)])
    return connected


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHo", ASKED + b"\r\n", ASKED + b"\r\n" + ASKED])
def test_a_connection_without_a_request_is_closed(serve, sent):
    with serve(0.2) as connection:
        connection.sendall(sent)

        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert sent.count(b"\r\n\r\n") == answer.count(b"answered")


def test_one_that_asks_in_time_is_answered_each_time(serve):
    with serve(30) as connection:
        connection.sendall((ASKED + b"\r\n") * 3)
        answers = b""
        while answers.count(b"answered") < 3:
            answers += connection.recv(65536)


def test_what_others_send_is_not_logged_and_an_error_is(caplog):
    gate.bound()
    log = logging.getLogger("uvicorn.error")
    log.propagate, before = True, log.propagate
    try:
        log.warning("Unsupported upgrade request.")
        log.error("Exception in ASGI application")
    finally:
        log.propagate = before

    for name in ("asyncio", "python_multipart.multipart"):
        logging.getLogger(name).warning("Expected boundary character 255, got 120 at index 4")
    assert ["Exception in ASGI application"] == [record.message for record in caplog.records]
