"""Whether the Hub answers, asked of a session that answers as the test says."""

import httpx
import pytest

from rankviz.hub.reach import ask_hub


def session(answer):
    return httpx.Client(transport=httpx.MockTransport(answer))


@pytest.fixture(autouse=True)
def online(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_an_answer_is_an_answer_even_a_refusal():
    assert ask_hub(session(lambda request: httpx.Response(200))).reached
    assert ask_hub(session(lambda request: httpx.Response(401))).reached


def test_a_failing_server_and_no_route_are_none():
    def no_route(request):
        raise httpx.ConnectError("no route to host")

    assert "status 503" == ask_hub(session(lambda request: httpx.Response(503))).reason
    assert (False, "no route to host") == (ask_hub(session(no_route)).reached, ask_hub(session(no_route)).reason)
