"""Every function of the page runs as the visitor who called it, and an open page keeps little."""

import json

import gradio as gr
import httpx
import pytest

from rankviz import visitor
from rankviz.api import Api
from rankviz.shared.identity import HEADER, visitors_of
from rankviz.ui.page import build_app
from tests.support.web.serving import launched
from tests.support.web.stranger import Events

STATE_KILOBYTES = 200
"""Of an open page."""


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
    assert len(kept) < len(outputs) / 4


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
