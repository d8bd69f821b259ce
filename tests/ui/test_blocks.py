"""Every function of the page runs as the visitor who called it, an open page keeps little, what is kept of answers that
nobody fetches, and what the page takes from inside Gradio (seen on gradio 6.31, safehttpx 0.1 and uvicorn 0.54)."""

import asyncio
import json

import gradio as gr
import httpx
import pytest
from gradio import routes
from gradio.blocks import BlocksConfig
from gradio.route_utils import secure_url_stream_response
from gradio.server_messages import ProcessCompletedMessage
from gradio.state_holder import SessionState
from starlette.exceptions import HTTPException
from starlette.requests import Request

from rankviz import visitor
from rankviz.api import Api
from rankviz.shared.identity import HEADER, visitors_of
from rankviz.ui.blocks import MOST_UPLOADS, TOO_LATE, PageBlocks, PageConfig, Unread
from rankviz.ui.page import build_app
from tests.support.web.outside import outside
from tests.support.web.serving import launched
from tests.support.web.stranger import Events


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"), shared=True)


@pytest.fixture(scope="module")
def page(api):
    return build_app(api)


@pytest.fixture(scope="module")
def client(api, page):
    with launched(page, api) as (_, address), httpx.Client(base_url=address, timeout=None) as client:
        yield client


@pytest.fixture
def callers(page, monkeypatch):
    """Whom each function of the page was called by, in place of what it does."""
    seen = []

    def called_with(count):
        def called(*args, **kwargs):
            seen.append(visitor.current())
            return None if count < 2 else (None,) * count

        return called

    for function in page.fns.values():
        if function.fn is not None:
            monkeypatch.setattr(function, "fn", called_with(len(function.outputs)))
            monkeypatch.setattr(function, "preprocess", False)
            monkeypatch.setattr(function, "postprocess", False)
    return seen


def test_every_function_of_the_page_runs_as_the_visitor_who_called_it(api, page, client, callers):
    visitors = visitors_of(api)
    functions = [function for function in page.fns.values() if function.fn is not None]

    for number, function in enumerate(functions):
        call(client, function, visitors.token(f"visitor-{number}"))

    assert [f"visitor-{number}" for number in range(len(functions))] == [each.id for each in callers]
    assert {True, False} == {function.queue for function in functions}


def call(client, function, token):
    """As the browser does it."""
    headers = {HEADER: token}
    data = [None if widget.stateful else widget.value for widget in function.inputs]
    body = {"fn_index": function._id, "data": data, "session_hash": "page", "event_data": {"id": "x"}}
    if not function.queue:
        answer = client.post("/gradio_api/run/predict", json=body, headers=headers)
        assert 200 == answer.status_code, (function.name, answer.text)
        return
    assert 200 == client.post("/gradio_api/queue/join", json=body, headers=headers).status_code
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "page"}, headers=headers) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:") and "process_completed" == json.loads(line[5:])["msg"]:
                assert json.loads(line[5:])["success"], (function.name, line)
                break


def test_an_open_page_keeps_the_components_that_changed_on_it_and_no_others(page, client):
    events = Events(client.get("/config").json())
    at_start = events.chain(events.loads)

    for event in at_start:
        body = {"fn_index": event, "data": events.data(event, {}), "session_hash": "opened"}
        assert 200 == client.post("/gradio_api/run/predict", json=body).status_code

    states = page.app.state_holder.session_data
    (kept,) = [state.blocks_config.blocks for name, state in states.items() if name.endswith(":opened")]
    outputs = {output._id for event in at_start for output in page.fns[event].outputs if not output.stateful}
    assert {"measure", "modules"} <= {component.elem_id for component in kept.values()}
    assert len(kept.maps[0]) < len(outputs) / 4


def test_a_value_that_no_widget_sends_is_a_sentence_and_no_traceback(client, page, capfd):
    """Of an event with a number among its inputs."""
    event, place = next(
        (fn._id, at)
        for fn in page.fns.values()
        for at, widget in enumerate(fn.inputs)
        if isinstance(widget, gr.Number) and not fn.queue and fn.fn
    )
    data = [None if widget.stateful else widget.value for widget in page.fns[event].inputs]
    data[place] = "x"

    reply = client.post("/gradio_api/run/predict", json={"fn_index": event, "data": data, "session_hash": "odd"})

    assert 422 == reply.status_code
    assert "must be a number or empty (got 'x')" in reply.json()["error"]
    assert "Traceback" not in capfd.readouterr().err


ADDRESS = "https://hf.co/a-file"
"""Of a name that Gradio fetches from without asking where it is."""


@pytest.fixture
def small():
    with PageBlocks(analytics_enabled=False) as page:
        gr.File()
    return page


def test_an_open_page_is_a_copy_of_the_pages_configuration(small):
    opened = SessionState(small)

    assert isinstance(small.default_config, PageConfig) and issubclass(PageConfig, BlocksConfig)
    assert isinstance(opened.blocks_config, PageConfig) and {} == dict(opened.blocks_config.blocks)
    assert not any(opened.config_values.values())


def test_unread_messages_are_ours(small):
    small.queue()

    assert isinstance(small._queue.pending_messages_per_session, Unread)
    assert small._queue.pending_messages_per_session.events is small._queue.pending_event_ids_session


@pytest.fixture
def requests(monkeypatch):
    with outside() as (environment, requests):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield requests


def test_no_address_is_fetched_and_nothing_of_it_is_left_on_the_disk(small, requests, tmp_path):
    (widget,) = small.blocks.values()
    widget.GRADIO_CACHE = str(tmp_path)
    for fetch in (
        lambda: asyncio.run(widget.async_move_resource_to_block_cache(ADDRESS)),
        lambda: widget.move_resource_to_block_cache(ADDRESS),
        lambda: widget.postprocess(ADDRESS),
    ):
        with pytest.raises(gr.Error, match="fetches no addresses"):
            fetch()
    request = Request({"type": "http", "method": "GET", "headers": [], "path": "/"})
    with pytest.raises(HTTPException, match="403"):
        asyncio.run(secure_url_stream_response("http://100.64.0.1:9/a-file", request))

    assert [] == requests
    assert [] == list(tmp_path.iterdir())


def test_the_progress_of_the_newest_uploads_alone_is_kept(small):
    statuses = routes.file_upload_statuses
    statuses.append("mine", "a.csv", b"12")
    assert statuses._signals["mine"].is_set()
    for number in range(MOST_UPLOADS):
        statuses.track(f"came {number}")
        assert not statuses._signals[f"asked {number}"].is_set()
    assert MOST_UPLOADS == len(statuses._signals) == len(statuses._statuses)

    statuses.append("mine", "a.csv", b"345")  # whose place was taken meanwhile

    assert 3 == statuses.pop("mine").chunk_size
    statuses.set_done("mine")
    assert statuses.is_done("mine")


def answer(text):
    return ProcessCompletedMessage(output={"data": [text]}, success=True)


def read(messages):
    message = messages.get_nowait()
    return message.output.get("data", message.output)


def unread_of(*sessions, events=None, **most):
    unread = Unread({} if events is None else events, **most)
    for session in sessions:
        unread[session] = asyncio.Queue()
    return unread


def test_of_more_unread_answers_than_there_is_room_for_the_oldest_says_that_it_is_gone():
    unread = unread_of("ann", "ben", answers=2)
    for session, text in (("ann", "1"), ("ben", "2"), ("ben", "3")):
        unread[session].put_nowait(answer(text))

    assert {"error": TOO_LATE} == read(unread["ann"])
    assert [["2"], ["3"]] == [read(unread["ben"]), read(unread["ben"])]


def test_large_answers_make_room_earlier_and_the_newest_stays_whatever_its_size():
    unread = unread_of("ann", "ben", size=1000)
    for session, text in (("ann", "a" * 400), ("ann", "b" * 400), ("ben", "c" * 400)):
        unread[session].put_nowait(answer(text))

    assert {"error": TOO_LATE} == read(unread["ann"])
    assert ["b" * 400] == read(unread["ann"])

    unread["ann"].put_nowait(answer("d" * 4000))

    assert {"error": TOO_LATE} == read(unread["ben"])
    assert ["d" * 4000] == read(unread["ann"])


def test_of_more_messages_of_one_session_than_there_is_room_for_the_oldest_goes_with_its_event():
    events = {"ann": {"1", "2", "3"}}
    unread = unread_of("ann", events=events, messages=2)
    for number in ("1", "2", "3"):
        unread["ann"].put_nowait(ProcessCompletedMessage(event_id=number, output={"data": [number]}, success=True))

    assert [["2"], ["3"]] == [read(unread["ann"]), read(unread["ann"])]
    assert unread["ann"].empty()
    assert {"ann": {"2", "3"}} == events
