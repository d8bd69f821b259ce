"""Whatever the Hub answers, and however much, is one kind of error, or is taken as far as it goes."""

import contextlib
import json
import time
import traceback

import pytest

from rankviz.errors import EngineDeclinedError, EngineError, EngineUnavailableError
from rankviz.jobs.hub import Hub, Logins
from tests.support.web.loopback import Answering, Loopback

CALLS = {
    "whoami": lambda hub: Hub("hf_alice", endpoint=hub._api.endpoint).name,
    "flavors": lambda hub: hub.flavors(),
    "run": lambda hub: hub.run(image="i", command=["c"], flavor="f", timeout=60, labels={}),
    "job": lambda hub: hub.job("1"),
    "find": lambda hub: hub.find({"a": "b"}),
    "cancel": lambda hub: hub.cancel("1"),
    "send": lambda hub: hub.send({"a": b"b"}, "m"),
}


TOKEN = "hf_alicesOwnToken0123456789"
SAID = f"bad header Bearer {TOKEN}"


class Same(Answering):
    """Says the same to everything, and gives a cookie where it is to collect those that come back."""

    def answer(self):
        self.body()
        cookies = {} if self.cookies is None else {"Set-Cookie": "session=of-alice; Path=/"}
        if self.cookies is not None:
            self.cookies.append(self.headers.get("Cookie"))
        self.reply(self.said, self.status, cookies)


@contextlib.contextmanager
def answering(body, status=200, cookies=None, token="hf_alice"):
    """A Hub where a server says this to everything."""
    server = Loopback(Same, said=body, status=status, cookies=cookies)
    try:
        yield Hub(token, "alice", server.url)
    finally:
        server.stop()


@pytest.mark.parametrize("body", [b"<html>Sign in to the network</html>", b"[1]", b'{"name": 1}'])
@pytest.mark.parametrize("call", [name for name in CALLS if name != "cancel"])
def test_an_answer_that_cannot_be_read_is_asked_for_again(call, body):
    with answering(body) as hub, pytest.raises(EngineUnavailableError):
        CALLS[call](hub)


def test_no_visitor_sends_the_cookies_of_another():
    cookies = []
    with answering(b"[]", cookies=cookies) as hub:
        hub.find({"a": "b"})
        Hub("hf_ben", "ben", hub._api.endpoint).find({"a": "b"})
        hub.read("f", 0, 9)
    assert [None] * 3 == cookies


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, EngineDeclinedError),
        (429, EngineDeclinedError),
        (404, EngineError),
        (402, EngineError),
        (408, EngineUnavailableError),
        (503, EngineUnavailableError),
    ],
)
def test_which_answers_say_that_nothing_was_done(status, error):
    with answering(b"{}", status) as hub, pytest.raises((EngineError, EngineUnavailableError)) as raised:
        CALLS["run"](hub)
    assert error is raised.type


@pytest.mark.parametrize("status", [400, 401, 402, 403, 429, 500])
@pytest.mark.parametrize("token", ["hf_alicesOwnToken0123456789", "ofAMirror/0123456789+"])
def test_a_hub_that_says_the_token_back_is_told_without_it_also_in_a_log(status, token):
    body = json.dumps({"error": f"no rights for Bearer {token}"}).encode()
    with answering(body, status, token=token) as hub, pytest.raises((EngineError, EngineUnavailableError)) as raised:
        CALLS["run"](hub)

    assert token not in "".join(traceback.format_exception(raised.value))


def test_every_error_of_the_library_is_one_of_hugging_face(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError(SAID)

    with answering(b"{}") as hub, pytest.raises(EngineUnavailableError) as raised:
        monkeypatch.setattr(hub._api, "inspect_job", fail)
        hub.job("1")

    assert TOKEN not in "".join(traceback.format_exception(raised.value))


def test_of_a_file_no_more_is_read_than_was_asked_for():
    with answering(bytes(range(250)) * 100, 206) as hub:
        assert bytes(range(70)) == hub.read("f", 0, 70)
        assert 1000 == len(hub.read("f", 0, 1000, sent=True))
    with answering(bytes(range(250)), 200) as hub:  # where it does not know Range
        assert bytes(range(240, 250)) == hub.read("f", 240, 99)
        assert bytes(range(100, 102)) == hub.read("f", 100, 2)


SOON, LATER = time.time() + 1e6, time.time() + 2e6


@pytest.fixture
def logins():
    logins = Logins("http://127.0.0.1:9", of_machine=False)
    logins.give("ann", "hf_1", "alice", SOON)
    return logins


def test_of_two_logins_of_an_account_the_first_is_kept_while_it_lasts(logins):
    assert "hf_1" == logins.give("ann", "hf_2", "alice", LATER).token
    assert "ben" == logins.give("ann", "hf_3", "ben", SOON).name
    logins.of("ann").rejected = True
    assert logins.of("ann") is None
    assert "hf_2" == logins.give("ann", "hf_2", "alice", SOON).token
    logins.give("ben", "hf_3", "ben", time.time() - 1)
    assert logins.of("ben") is None


def test_a_request_that_came_before_its_visitor_logged_out_brings_no_login_back(logins):
    came_at = time.monotonic()
    logins.forget("ann")

    assert logins.give("ann", "hf_1", "alice", LATER, came_at=came_at) is None
    assert logins.of("ann") is None
