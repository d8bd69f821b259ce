"""What a browser sends with the events of a shared page: an answer, or a sentence, and never a traceback in the log."""

import asyncio

import gradio as gr
import pytest
from gradio.helpers import EventData
from gradio.state_holder import SessionState
from starlette.requests import Request

from rankviz.api import Api
from rankviz.errors import UserError
from rankviz.shared.identity import MARK
from rankviz.ui.page import build_app
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
