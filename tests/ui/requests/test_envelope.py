"""What a request may say beside its data, on a page of Gradio's own addresses."""

import json

import gradio as gr
import pytest
from fastapi import Depends
from starlette.testclient import TestClient

from rankviz.shared import gate

LONG = "x" * 65


@pytest.fixture(scope="module")
def client():
    def twice(number: float) -> float:
        return 2 * number

    with gr.Blocks(analytics_enabled=False) as page:
        gr.api(twice, api_name="twice")
    page.queue()
    app = gr.routes.App.create_app(page, app_kwargs={"dependencies": [Depends(gate.readable)]})
    with TestClient(app) as client:
        yield client


def body(**fields):
    return {"data": [2], "fn_index": 0, "session_hash": "ab12", "event_id": "cd-34", **fields}


ADDRESSES = ("queue/join", "run/twice", "api/twice", "cancel", "reset")


@pytest.mark.parametrize("name", ["session_hash", "event_id"])
@pytest.mark.parametrize("value", [LONG, "", "\ud800", "a b", "a\n", "ä", 5, [], {}, True])
def test_a_key_is_at_most_64_letters_and_digits(client, name, value):
    for address in ADDRESSES:
        text = json.dumps(body(**{name: value}))
        reply = client.post(f"/gradio_api/{address}", content=text, headers={"content-type": "application/json"})

        assert (422, True) == (reply.status_code, name in reply.json()["detail"]), address
        assert len(reply.content) < 300


KINDS = ["application/json", "\xa0application/json", "\x85application/json", "application/x+json", " application/json"]
KINDS += ["text/plain", "application/JSON; charset=utf-16", "application\t/json", ""]


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_checked_whatever_the_body_says_that_it_is(client, kind):
    text = json.dumps(body(session_hash="\ud800"))

    for address in ADDRESSES:
        reply = client.post(f"/gradio_api/{address}", content=text, headers={"content-type": kind.encode("latin-1")})

        assert 422 == reply.status_code, address


@pytest.mark.parametrize("value", ["0", 10**10, 1.5, True, "\ud800"])
@pytest.mark.parametrize("name", ["fn_index", "trigger_id"])
def test_numbers_are_numbers(client, name, value):
    text = json.dumps(body(**{name: value}))

    reply = client.post("/gradio_api/queue/join", content=text, headers={"content-type": "application/json"})

    assert (422, True) == (reply.status_code, name in reply.json()["detail"])


@pytest.mark.parametrize(
    "address",
    [
        f"queue/data?session_hash={LONG}",
        "queue/data?session_hash=a%0ab",
        f"heartbeat/{LONG}",
        f"call/twice/{LONG}",
        f"upload_progress?upload_id={LONG}",
    ],
)
def test_the_same_holds_of_an_address(client, address):
    assert 422 == client.get(f"/gradio_api/{address}").status_code


def test_what_browsers_and_clients_send_is_taken(client):
    for session in ("0a1b2c3d4e5", "123e4567-e89b-12d3-a456-426614174000", None):
        assert 200 == client.post("/gradio_api/run/twice", json=body(session_hash=session)).status_code
    assert 200 == client.post("/gradio_api/call/twice", json={"data": [2]}).status_code
    assert 200 == client.post("/gradio_api/call/v2/twice", json={"number": 2}).status_code


@pytest.mark.parametrize(("name", "arguments"), [("thrice", {}), ("twice", {"x": 1}), ("twice", {})])
def test_an_endpoint_or_argument_that_there_is_not_is_a_sentence(client, name, arguments):
    reply = client.post(f"/gradio_api/call/v2/{name}", json=arguments)

    assert (422, gate.NO_ENDPOINT) == (reply.status_code, reply.json()["detail"])


def test_a_form_is_not_read_as_json(client):
    reply = client.post("/login", data={"username": "a", "password": "b"}, follow_redirects=False)

    assert 302 == reply.status_code
