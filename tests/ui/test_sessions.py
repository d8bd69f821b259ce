"""A session, or an event, whose name another visitor knows: on a page that serves, over HTTP."""

import secrets
from threading import Event

import gradio as gr
import httpx
import pytest
from fastapi import Depends
from starlette.middleware import Middleware

from rankviz.shared import gate
from rankviz.shared.gate import answer_errors
from rankviz.ui.blocks import PageBlocks
from tests.shared.conftest import As
from tests.support.web.ports import free_port


@pytest.fixture(scope="module")
def url():
    with PageBlocks(analytics_enabled=False) as page:
        kept, box, shown = gr.State("nothing"), gr.Textbox(), gr.Textbox()
        box.submit(lambda text: text, box, kept, api_name="keep", queue=False)
        box.change(lambda state: state, kept, shown, api_name="recall", queue=False)
        gr.api(secret, api_name="secret")
    app_kwargs = {"dependencies": [Depends(gate.readable)], "middleware": [Middleware(answer_errors), Middleware(As)]}
    options = {"app_kwargs": app_kwargs, "prevent_thread_lock": True, "quiet": True, "_frontend": False}
    page.launch(server_name="127.0.0.1", server_port=free_port(), ssr_mode=False, **options)
    yield page.local_url
    page.close()


WAITS, GO_ON = "who waits", Event()


def secret(word: str) -> str:
    if word == WAITS:
        assert GO_ON.wait(60)
    return f"the secret of {word}"


@pytest.fixture
def visitor(url):
    """visitor(name): a client of this visitor; of "" one without a cookie."""
    made = []

    def of(name):
        made.append(httpx.Client(base_url=f"{url}gradio_api", headers={"who": name}, timeout=60))
        return made[-1]

    yield of
    for client in made:
        client.close()


@pytest.fixture
def session():
    return secrets.token_hex(5)


def call(client, session=None, word="x"):
    """The id of an event whose answer waits."""
    body = {"data": [word]} if session is None else {"data": [word], "session_hash": session}
    return client.post("/call/secret", json=body).json()["event_id"]


def events_of(client, address, **query):
    """What a stream gives until it ends."""
    with client.stream("GET", address, params=query) as stream:
        return "\n".join(stream.iter_lines())


@pytest.mark.parametrize("named", [True, False])
def test_an_event_is_read_by_who_called_it_alone(visitor, session, named):
    ann, ben, nobody = map(visitor, ("ann", "ben", ""))
    event = call(ann, session if named else None)

    for other in (ben, nobody):
        reply = other.get(f"/call/secret/{event}")
        assert (404, gate.NO_EVENT) == (reply.status_code, reply.json()["detail"])

    assert "the secret of x" in events_of(ann, f"/call/secret/{event}")


def test_a_session_whose_answers_are_all_read_is_not_waited_for(visitor, session):
    ann = visitor("ann")
    event = call(ann, session)
    assert "the secret of x" in events_of(ann, f"/call/secret/{event}")
    ann.timeout = 5

    assert "404: " in events_of(ann, f"/call/secret/{event}")
    assert "404: " in events_of(ann, "/queue/data", session_hash=session)


def test_mcp_calls_as_a_visitor_and_reads_as_itself(visitor, session):
    ann, ben, mcp = visitor("ann"), visitor("ben"), visitor("")
    ann.headers["x-gradio-user"] = mcp.headers["x-gradio-user"] = "mcp"
    call(ann, session)

    assert "secret of" not in events_of(ben, "/queue/data", session_hash=session)
    assert "the secret of x" in events_of(mcp, "/queue/data", session_hash=session)
