"""What a browser sends with events and in addresses: an answer or a sentence, and never a traceback in the log."""

import asyncio
import json
from functools import partial
from urllib.parse import parse_qsl, urlencode

import gradio as gr
import pytest
from gradio.helpers import EventData
from gradio.state_holder import SessionState
from starlette.requests import Request

from rankviz.api import Api
from rankviz.errors import UserError
from rankviz.shared.identity import MARK
from rankviz.ui import link
from rankviz.ui.blocks import parsed
from rankviz.ui.explore.answer import answer, question_of, reply
from rankviz.ui.page import build_app
from rankviz.ui.parts.question import DEFAULTS
from rankviz.visitor import Visitor
from tests.fuzz import mutate
from tests.support.processes.code_errors import none_logged

IDS = ("r16", "20261125-015906-370c-001-r1", "gpu=l4", "m0-q_proj", "r²", "e²", "r" + "9" * 5000, "e" + "9" * 400)
CLICKS = (*({"id": each} for each in IDS), {"id": "l4", "text": "0.5"})
SWEEP = "20261125-015906-370c"
SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b"tab=runs&r=32"}
SERVERS_OWN = {"": ("", SWEEP, f"{SWEEP}-001-r1", "sample"), (): ([], [f"{SWEEP}-001-r1"])}
"""What a State holds by what it starts with: never what a browser sends."""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    api = Api(home=tmp_path_factory.mktemp("home"), shared=True)
    api.workspace.work_queue = lambda: None  # what is queued here is not trained
    return build_app(api)


def values_of(function):
    """What a browser sends for the page as it was built."""
    return [None if widget.stateful else widget.value for widget in function.inputs]


def test_any_event_of_the_page_is_answered_or_refused(fuzz, page):
    functions = [each for each in page.fns.values() if each.fn is not None and each.api_visibility == "private"]

    def event(rng):
        function = rng.choice(functions)
        values = values_of(function)
        kind = rng.random()
        if values and kind < 0.6:
            sent = mutate.value(values, rng)
            values = sent if isinstance(sent, list) else [sent]
        elif kind < 0.7:
            values = [mutate.junk(rng) for _ in values]
        elif values and kind < 0.85:
            values[rng.randrange(len(values))] = None
        click = rng.choice((None, *CLICKS)) if rng.random() < 0.5 else mutate.value(rng.choice(CLICKS), rng)
        return function._id, values, click, rng.randrange(4)

    def sent(case):
        number, values, click, nth = case
        function, state = page.fns[number], SessionState(page)
        for widget in function.inputs:
            if widget.stateful:
                start = tuple(widget.value) if isinstance(widget.value, list) else widget.value
                held = SERVERS_OWN.get(start, (widget.value,))
                state[widget._id] = held[nth % len(held)]
        request = gr.Request(request=Request({**SCOPE, MARK: Visitor("ann")}), session_hash="s")
        try:
            asyncio.run(page.process_api(function, values, state, request, event_data=EventData(None, click)))
        except gr.Error as error:
            assert not error.print_exception
            assert len(error.message.encode()) < 2000
            raise UserError(error.message) from error

    with none_logged():
        fuzz(event, sent)


ADDRESS = {
    "model": "Qwen/Qwen3-4B", "r": "32", "use_case": "complex", "examples": "1000", "example_tokens": "300",
    "longest": "900", "epochs": "2.5", "file": "messages:1600:chats.jsonl", "forgetting": "1", "save": "lm_head",
    "rslora": "1", "dora": "0", "parts": "attention", "framework": "trl", "precision": "bf16", "batch": "4",
    "accum": "2", "max_length": "1024", "gpu": "l4", "usd": "0.7",
    "targets": "q_proj,v_proj", "alpha": "2r", "steps": "100", "tokens": "100000", "class": "FastModel",
    "pin": "model=Qwen/Qwen3-4B",
}  # fmt: skip


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"), shared=True)


def broken_address(rng):
    params = {name: ADDRESS[name] for name in rng.sample(list(ADDRESS), 6)}
    broken = mutate.value(params, rng)
    if not isinstance(broken, dict):
        return {"model": repr(broken)[:3000]}
    return {str(name): each if isinstance(each, str) else repr(each)[:3000] for name, each in broken.items()}


def broken_body(rng, api=None):
    kind = rng.random()
    if kind < 0.2:
        text = urlencode(broken_address(rng), errors="surrogatepass")
        body = {"search": f"?{text}", "x": "file"}
    else:
        body = {"values": DEFAULTS, "x": "memory", "y": "loss"}
    return mutate.json_bytes(body, rng)


def answering(view):
    """As the page's address answers: whatever comes, a JSON text. 422 and a notice are answers too."""

    def read(body):
        response = reply(view, body)
        assert response.status_code in (200, 422)
        json.loads(response.body)

    return read


def test_an_address(fuzz, api):
    def read(params):
        values, notes = question_of(api, params)
        assert all(len(note) < 2000 for note in notes)
        json.dumps(link.write(values)).encode()

    fuzz(broken_address, read, refuses=False)


def test_an_answer(fuzz, api):
    fuzz(broken_body, answering(partial(answer, api)), refuses=False)


MESSAGES = (
    {"jsonrpc": "2.0", "id": 7, "method": "tools/call",
     "params": {"name": "estimate", "arguments": {"model": "Qwen/Qwen3-4B", "ranks": [8], "epochs": 2.5}}},
    {"jsonrpc": "2.0", "id": "a", "method": "tools/list", "params": {}},
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}},
    {"jsonrpc": "2.0", "id": 3, "result": {}},
)  # fmt: skip


def test_a_message_to_the_mcp_server(fuzz):
    """As it is read before the server's library reads it."""

    def read(body):
        try:
            message = parsed(body)
        except (ValueError, RecursionError) as error:
            raise UserError(str(error)) from None
        json.dumps(message, ensure_ascii=False, allow_nan=False).encode()  # as it is answered

    fuzz(lambda rng: mutate.json_bytes(rng.choice(MESSAGES), rng), read)


def test_the_samples_are_whole():
    """Else every case would be refused at its first check."""
    assert dict(parse_qsl(urlencode(ADDRESS))) == ADDRESS
    assert [] == link.read({**ADDRESS, "tokens": "1"})[1]
