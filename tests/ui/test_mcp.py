"""Requests to the MCP server's addresses that its library must not see."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rankviz.ui.mcp import Mcp

STREAM = {"accept": "application/json, text/event-stream"}


@pytest.fixture
def client():
    async def answer(request):
        return PlainTextResponse("served")

    mcp = Mcp(Starlette(routes=[Route("/{path:path}", answer, methods=["GET"])]))
    mcp._is_installed = True
    return TestClient(mcp)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", ["mcp", "mcp/", "mcp/http", "mcp/http/", "mcp/sse"])
def test_no_stream_is_held_open_of_which_nothing_will_come(client, name, method):
    answer = client.request(method, f"/gradio_api/{name}", headers=STREAM)

    assert (405, "POST") == (answer.status_code, answer.headers["allow"])
