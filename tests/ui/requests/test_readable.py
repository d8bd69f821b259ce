"""What the log has of a request that failed: nothing that its sender caused."""

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from rankviz.shared.gate import Answered, Readable


async def cut(request):
    raise ClientDisconnect


async def no_session(request):
    async def stream():
        yield b"no such session"
        raise HTTPException(404)

    return StreamingResponse(stream())


async def broken(request):
    raise ZeroDivisionError("ours")


@pytest.fixture
def client():
    routes = [Route(f"/{view.__name__}", view, methods=["POST"]) for view in (cut, no_session, broken)]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(Answered)]), raise_server_exceptions=False)


def test_a_connection_that_is_cut_is_not_in_the_log(client, caplog):
    client.post("/cut")

    assert "" == caplog.text


def test_a_stream_of_no_session_ends(client, caplog):
    assert b"no such session" == client.post("/no_session").content
    assert "" == caplog.text


def test_an_error_of_ours_has_a_number_that_the_log_has_too(client, caplog):
    reply = client.post("/broken")

    assert 500 == reply.status_code
    number = reply.json()["detail"].split("number ")[1].split()[0]
    assert f"Error {number} in '/broken'" in caplog.text


def test_a_header_of_a_server_that_is_none_of_ours_reaches_nobody():
    """Gradio would take the address of the page from it, and write that into what others read."""

    async def heard(request):
        return Response(str(request.headers))

    app = Readable(Starlette(routes=[Route("/", heard)]))

    assert "evil" not in TestClient(app).get("/", headers={"x-gradio-server": "http://evil.example"}).text


@pytest.mark.parametrize(
    "value", ["bytes=0-0,1-1", "bytes=1-2-3", "bytes=a-b", "items=0-1", "bytes=", "bytes=0-" + "9" * 30]
)
def test_a_range_that_gradio_does_not_read_is_left_out(value):
    async def heard(request):
        return Response(str(request.headers.get("range")))

    client = TestClient(Readable(Starlette(routes=[Route("/", heard)])))

    assert "None" == client.get("/", headers={"range": value}).text
    assert ["bytes=0-1", "bytes=5-"] == [
        client.get("/", headers={"range": each}).text for each in ("bytes=0-1", "bytes=5-")
    ]


def test_a_socket_is_closed_before_anything_reads_it():
    client = TestClient(Readable(Starlette()))

    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/gradio_api/queue/join"):
        pass
