"""How much of a request is read before anything of it is parsed."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from rankviz.ui.requests.bodies import MAX_BODY_BYTES, MAX_EVENT_BYTES, Bodies


def ask(path, *parts, method="POST"):
    """(status, body) of an app that answers 200 with what it was sent, behind the limit."""

    async def echo(scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    waiting[-1]["more_body"] = False
    answers = []

    async def receive():
        return waiting.pop(0)

    async def send(message):
        answers.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": []}
    # In a thread: a browser test before may have left this one with a running loop.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, Bodies(echo)(scope, receive, send)).result()
    return answers[0]["status"], answers[1]["body"], len(waiting)


PATHS = ["/gradio_api/call/v2/estimate", "/gradio_api/mcp/", "/gradio_api/reset", "/gradio_api/cancel", "/login", "/x"]
PATHS += ["/rankviz/answer", "/rankviz/admin", "/gradio_api/upload/", "/gradio_api/nothing/gradio_api/queue/join"]


@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
@pytest.mark.parametrize("path", PATHS)
def test_every_request_is_read_up_to_its_limit_however_it_comes_in_parts(path, method):
    whole = b"x" * MAX_BODY_BYTES

    assert (200, whole, 0) == ask(path, whole, method=method)
    assert (200, whole, 0) == ask(path, whole[:10], whole[10:], method=method)
    status, body, _ = ask(path, whole, b"x", method=method)
    assert (413, "The request is too long: at most 100,000 bytes are read.") == (status, json.loads(body)["detail"])


def test_what_comes_after_the_limit_is_not_waited_for():
    part = b"x" * MAX_BODY_BYTES

    status, _, unread = ask("/gradio_api/call/estimate", part, part, part, part)

    assert (413, 2) == (status, unread)


def test_an_event_of_the_page_may_send_its_widgets():
    assert 200 == ask("/gradio_api/queue/join", b"x" * MAX_EVENT_BYTES)[0]
    assert 413 == ask("/gradio_api/queue/join", b"x" * MAX_EVENT_BYTES, b"x")[0]


def test_uploads_have_limits_of_their_own():
    assert 200 == ask("/gradio_api/upload", b"x" * MAX_EVENT_BYTES, b"x")[0]
    assert 413 == ask("/gradio_api/upload", b"x" * MAX_BODY_BYTES, b"x", method="PUT")[0]


@pytest.mark.parametrize(
    "name", ["component_server", "component_server/", "stream/x/close", "vibe-edit", "proxy=http:"]
)
def test_what_the_page_has_no_use_for_is_not_there(name):
    status, body, unread = ask(f"/gradio_api/{name}", b"x", b"x")

    assert (404, "This page has no such address.", 2) == (status, json.loads(body)["detail"], unread)
