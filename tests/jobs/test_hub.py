"""Whatever the Hub answers is one kind of error, or is taken as far as it goes; and what its jobs cost."""

import contextlib
import json
import time
import traceback

import pytest

from rankviz.errors import EngineDeclinedError, EngineError, EngineUnavailableError, InvalidSettingError
from rankviz.jobs.bundle import JobTerms, Submission
from rankviz.jobs.engine import End
from rankviz.jobs.hub import Hub, Ledger, Logins, cost_of, cost_so_far, seconds_left
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


def test_a_minute_that_has_begun_is_paid_whole_and_a_limit_pays_for_a_time_and_the_longest_start():
    """A week at most, and where a machine has no price a day."""
    assert (0.02, 0.0) == (cost_of(61.0, 0.01), cost_of(0.0, 0.01))
    assert (100 - 10) * 60 == seconds_left(1.0, 0.0, 0.01)
    assert (604_800 - 600, 86_400 - 600) == (seconds_left(1e6, 0.0, 0.01), seconds_left(1.0, 0.0, 0.0))
    assert (300, 300) == (seconds_left(0.15, 0.0, 0.01), seconds_left(0.31, 0.11, 0.2 / 15))


@pytest.mark.parametrize(
    ("usd", "spent", "per_minute", "words"),
    [
        *((usd, 0.0, 0.01, "above 0") for usd in (0.0, -1.0, float("nan"), float("inf"))),
        (0.14, 0.0, 0.01, r"Give at least \$0\.15"),
        *((usd, 0.11, 0.2 / 15, r"jobs have cost up to \$0\.11: .* Give at least \$0\.31 for") for usd in (0.05, 0.3)),
    ],
)
def test_a_limit_that_pays_for_no_job_is_refused_with_what_would_do(usd, spent, per_minute, words):
    with pytest.raises(InvalidSettingError, match=words):
        seconds_left(usd, spent, per_minute)


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path)


def test_each_job_of_a_sweep_is_on_the_bill_once_with_those_that_run(ledger):
    assert (0, 0, True, 0) == ledger.bill("s", {})
    for job, usd in (("r4-a1", 0.5), ("r4-a2", 0.25), ("r4-a1", 0.5)):
        ledger.note("s", costs={job: (usd, usd)})
    ledger.note("another", costs={"r4-a3": (9.0, 9.0)})

    assert (2, 0.75, True, 0.75) == ledger.bill("s", {})
    assert (3, 0.75, False, 1.75) == ledger.bill("s", {"r8-a1": (0.0, 1.0)})


def test_the_latest_limit_of_a_sweep_is_kept_with_its_costs(ledger):
    ledger.note("s", limit=3.0)
    ledger.note("s", costs={"r4-a1": (0.5, 0.5)})
    ledger.note("s", limit=2.0)

    assert (2.0, None) == (ledger.limit("s"), ledger.limit("t"))
    assert 1 == ledger.bill("s", {}).jobs


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"limit": -1, "jobs": {}}', '{"limit": NaN, "jobs": {}}', '{"limit": 1, "jobs": {"j": [2, 1]}}'],
)
def test_costs_that_cannot_be_read_are_said_of_their_sweep_only(ledger, tmp_path, content):
    (tmp_path / "s.json").write_text(content)

    for ask in (ledger.limit, lambda sweep_id: ledger.bill(sweep_id, {}), lambda sweep_id: ledger.note("s", limit=1.0)):
        with pytest.raises(EngineUnavailableError, match=r"mend hf-jobs/s\.json"):
            ask("s")
    assert ledger.limit("t") is None


def test_a_job_costs_what_is_billed_and_all_that_it_may_where_that_is_not_known():
    now = time.time()

    price = {"account": "alice", "flavor": "l4x1", "usd_per_minute": 0.01, "timeout_seconds": 600}

    def cost(**known):
        return cost_so_far(Submission(**known, terms=JobTerms(**price, sweep_id="s", limit_usd=1.0)))

    assert (0.0, 0.0) == cost()
    assert (0.0, 0.2) == cost(submitted=True)
    assert (0.02, 0.02) == cost(submitted=True, seconds=61.0, seconds_at=now)
    assert (0.02, pytest.approx(0.07)) == cost(submitted=True, seconds=61.0, seconds_at=now - 310)
    assert (0.02, 0.02) == cost(submitted=True, handle="1", seconds=61.0, seconds_at=now - 310, end=End())
    assert (0.0, 0.2) == cost(submitted=True, handle="1", end=End())
    assert (0.0, 0.0) == cost(submitted=True, end=End(lost=True))
