"""How much of a request is read before anything of it is parsed."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from rankviz.endpoints.gate import MAX_LIST
from rankviz.ui.requests.bodies import MAX_BODY_BYTES, MAX_EVENT_BYTES, MAX_VALUES, Bodies
from tests.support.quick import first_quick


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


PATHS = ["/gradio_api/call/v2/estimate", "/gradio_api/mcp/", "/gradio_api/reset", "/gradio_api/cancel", "/logout", "/x"]
PATHS += ["/rankviz/answer", "/rankviz/admin", "/gradio_api/upload/", "/gradio_api/nothing/gradio_api/queue/join"]


@pytest.mark.parametrize("method", first_quick(["POST", "PUT", "GET"]))
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


PARSED = ["/gradio_api/queue/join", "/gradio_api/run/predict", "/rankviz/answer", *PATHS[:6]]


@pytest.mark.parametrize("path", first_quick(PARSED))
@pytest.mark.parametrize("value", [b"1,", b"[],", b'{"a":{}},', b"[" * 9 + b"]" * 9 + b","])
def test_no_body_holds_more_values_than_are_parsed(path, value):
    size = sum(map(value.count, b",[{"))
    most = MAX_VALUES // size

    assert 200 == ask(path, value * most)[0]
    status, body, unread = ask(path, value * most, value, value)
    assert (413, "The request is too long: at most 10,000 values are read.", 1) == (
        status,
        json.loads(body)["detail"],
        unread,
    )


def test_the_largest_event_of_the_page_is_read():
    name = "n" * 255
    path = f"/tmp/{'f' * 32}/{'a' * 64}/{name}"
    file = {"path": path, "url": f"http://127.0.0.1:7860/gradio_api/file={path}", "orig_name": name, "size": 123456}
    file |= {"mime_type": "application/json", "is_stream": False, "meta": {"_type": "gradio.FileData"}}

    assert 200 == ask("/gradio_api/queue/join", json.dumps({"data": [[file] * MAX_LIST]}).encode())[0]


def test_uploads_have_limits_of_their_own():
    assert 200 == ask("/gradio_api/upload", b"x" * MAX_EVENT_BYTES, b"x")[0]
    assert 413 == ask("/gradio_api/upload", b"x" * MAX_BODY_BYTES, b"x", method="PUT")[0]


@pytest.mark.parametrize(
    "name", ["component_server", "component_server/", "stream/x/close", "vibe-edit", "proxy=http:"]
)
def test_what_the_page_has_no_use_for_is_not_there(name):
    status, body, unread = ask(f"/gradio_api/{name}", b"x", b"x")

    assert (404, "This page has no such address.", 2) == (status, json.loads(body)["detail"], unread)


class Coming:
    """Requests whose bodies come when the test sends them."""

    def __init__(self, **bounds):
        self._bodies = Bodies(self._app, **bounds)
        self.answers = {}

    async def _app(self, scope, receive, send):
        message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message["body"]})

    def begin(self, name):
        """Returns what sends a part of its body, and its task."""
        parts = asyncio.Queue()

        async def send(message):
            self.answers.setdefault(name, message.get("status"))

        scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "headers": []}
        task = asyncio.create_task(self._bodies(scope, parts.get, send))

        def part(body, more=True):
            parts.put_nowait({"type": "http.request", "body": body, "more_body": more})

        return part, task


def run(test):
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, test).result()


def test_a_body_that_does_not_end_is_given_up():
    async def stalled():
        coming = Coming(seconds=0.01)
        part, task = coming.begin("slow")
        part(b"x")
        await task
        return coming.answers

    assert {"slow": 408} == run(stalled())


def test_of_more_bytes_of_bodies_than_there_is_room_for_the_one_that_began_first_is_given_up():
    async def crowd():
        coming = Coming(most_bytes=25)
        first, second, third = (coming.begin(name) for name in ("first", "second", "third"))
        for part, _ in (second, first, third):
            part(b"x" * 10)
        await first[1]
        given_up = dict(coming.answers)
        for part, task in (second, third):
            part(b"x", more=False)
            await task
        return given_up, coming.answers

    assert ({"first": 408}, {"first": 408, "second": 200, "third": 200}) == run(crowd())


def test_who_has_sent_all_needs_no_room_any_more():
    async def one_after_another():
        coming = Coming(most_bytes=25)
        for name in "abcd":
            part, task = coming.begin(name)
            part(b"x" * 10)
            part(b"x" * 10, more=False)
            await task
        return set(coming.answers.values())

    assert {200} == run(one_after_another())
