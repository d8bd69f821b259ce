"""Whatever the Hub answers, and however much, is one kind of error, or is taken as far as it goes."""

import contextlib
import json
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import huggingface_hub
import pytest
from huggingface_hub.utils._http import default_client_factory
from rankviz.jobs.hf_jobs.following import log

from rankviz.errors import EngineDeclinedError, EngineError, EngineUnavailableError
from rankviz.jobs.hf_jobs import hub as hub_module
from rankviz.jobs.hub import BUCKET, REPOSITORY, Hub
from tests.support.engines.hub_jobs import sweep
from tests.support.processes.workers import HANG_IN_EACH, states, wait_for

CALLS = {
    "whoami": lambda hub: Hub("hf_alice", endpoint=hub._api.endpoint).name,
    "flavors": lambda hub: hub.flavors(),
    "run": lambda hub: hub.run(image="i", command=["c"], flavor="f", timeout=60, labels={}),
    "job": lambda hub: hub.job("1"),
    "find": lambda hub: hub.find({"a": "b"}),
    "cancel": lambda hub: hub.cancel("1"),
    "make_places": lambda hub: hub.make_places(),
    "send": lambda hub: hub.send({"a": b"b"}, "m"),
    "files": lambda hub: hub.files("f"),
}


TOKEN = "hf_alicesOwnToken0123456789"
SAID = f"bad header Bearer {TOKEN}"


def answered(status):
    response = httpx.Response(status, json={"error": SAID}, request=httpx.Request("POST", "https://hub/verify"))
    return huggingface_hub.errors.HfHubHTTPError(SAID, response=response)


@contextlib.contextmanager
def answering(body, status=200, cookies=None, headers=None, token="hf_alice"):
    """A server that says the same to everything, and gives a cookie where it is to collect those that come back."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            if cookies is not None:
                cookies.append(self.headers.get("Cookie"))
                self.send_header("Set-Cookie", "session=of-alice; Path=/")
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield Hub(token, "alice", f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


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
        hub.read("f", 0)
    assert [None] * 3 == cookies


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, EngineDeclinedError),
        (409, EngineDeclinedError),
        (423, EngineDeclinedError),
        (429, EngineDeclinedError),
        (404, EngineError),
        (402, EngineError),
        (408, EngineUnavailableError),
        (500, EngineUnavailableError),
        (503, EngineUnavailableError),
    ],
)
def test_which_answers_say_that_nothing_was_done(status, error):
    with answering(b"{}", status) as hub, pytest.raises((EngineError, EngineUnavailableError)) as raised:
        CALLS["run"](hub)
    assert error is raised.type


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>Bad Gateway of a proxy</html>", "Hugging Face answered 502: Bad Gateway"),
        (b"{}", "Hugging Face answered 502: Bad Gateway"),
        (
            b'{"error": "Too busy (Request ID: Root=1-67;ab-1). See\\nhttps://huggingface.co/x?y=1 now"}',
            "Hugging Face answered 502: Too busy. See now",
        ),
        (b'{"error": "The request id is missing"}', "Hugging Face answered 502: The request id is missing"),
    ],
)
def test_what_hugging_face_answers_is_told_without_addresses_and_numbers_of_requests(body, said):
    headers = {"x-request-id": "Root=1-67abcdef", "Content-Type": "text/html"}
    with answering(body, 502, headers=headers) as hub, pytest.raises(EngineUnavailableError) as raised:
        hub.job("1")

    assert said == str(raised.value)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 409, 412, 423, 429, 500, 503])
@pytest.mark.parametrize("token", ["hf_alicesOwnToken0123456789", "ofAMirror/0123456789+"])
def test_a_hub_that_says_the_token_back_is_told_without_it_also_in_a_log(status, token):
    body = json.dumps({"error": f"no rights for Bearer {token}"}).encode()
    with answering(body, status, token=token) as hub, pytest.raises((EngineError, EngineUnavailableError)) as raised:
        CALLS["run"](hub)

    assert token not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    ("cause", "error"),
    [
        (answered(403), EngineError),
        (answered(401), EngineDeclinedError),
        (answered(503), EngineUnavailableError),
        (httpx.ConnectError(SAID), EngineDeclinedError),
        (None, EngineUnavailableError),
    ],
)
def test_what_kept_a_file_from_being_sent_is_told_as_any_answer(monkeypatch, cause, error):
    def create_commit(*_, **__):  # as huggingface_hub wraps it
        raise RuntimeError(f"Error while uploading 'x' to the Hub. {SAID}") from cause

    with answering(b"{}", token=TOKEN) as hub, pytest.raises((EngineError, EngineUnavailableError)) as raised:
        monkeypatch.setattr(hub._api, "create_commit", create_commit)
        hub.send({"a": b"b"}, "m")

    assert error is raised.type
    assert hub.rejected == (getattr(cause, "response", None) is not None and cause.response.status_code == 401)
    assert TOKEN not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError, NotImplementedError, Exception, KeyError])
def test_every_error_of_the_library_is_one_of_hugging_face(monkeypatch, kind):
    def fail(*_, **__):
        raise kind(SAID)

    with answering(b"{}") as hub, pytest.raises(EngineUnavailableError) as raised:
        monkeypatch.setattr(hub._api, "inspect_job", fail)
        hub.job("1")

    assert TOKEN not in "".join(traceback.format_exception(raised.value))


def test_an_error_of_ours_within_a_call_stays_as_it_is():
    with answering(b"{}", 401) as hub, pytest.raises(EngineDeclinedError), hub._reaching():
        hub.job("1")


def test_where_nobody_listens_nothing_was_done():
    with answering(b"{}") as hub:
        gone = Hub("hf_alice", "alice", "http://127.0.0.1:9")
        with pytest.raises(EngineDeclinedError):
            CALLS["run"](gone)
        with pytest.raises(EngineUnavailableError):
            CALLS["run"](hub)


def test_of_a_file_no_more_is_read_or_fetched_than_was_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(hub_module, "READ_BYTES", 1000)
    with answering(bytes(range(250)) * 100, 206) as hub:
        assert 1000 == len(hub.read("f", 0))
        assert 1000 == len(hub.sent("f"))
        hub.fetch("f", tmp_path / "f", 0, 70)
        assert bytes(range(70)) == (tmp_path / "f").read_bytes()
    with answering(bytes(range(250)), 200) as hub:  # where it does not know Range
        assert bytes(range(240, 250)) == hub.read("f", 240)


def test_the_word_of_an_old_token_does_not_end_a_login_that_was_renewed():
    with answering(b"{}", 401) as hub:
        with pytest.raises(EngineUnavailableError), hub._reaching():
            hub.renew("hf_new")
            hub._api.inspect_job(job_id="1", namespace="alice", token="hf_old")
        assert not hub.rejected
        with pytest.raises(EngineUnavailableError):
            hub.job("1")
        assert hub.rejected


def event(text):
    return b'data: {"data": "' + text + b'"}\n\n'


def test_of_a_log_lines_that_are_too_long_are_left_out(monkeypatch):
    monkeypatch.setattr(log, "MAX_LINE_BYTES", 100)
    body = event(b"a") + event(b"x" * 1000) + b"data: {\n: keep-alive\n\n" + event(b"b")
    with answering(body) as hub:
        assert ["a", "", "b"] == list(hub.lines(hub.log("1")))


def test_a_log_without_end_is_cut(monkeypatch):
    monkeypatch.setattr(log, "MAX_BYTES", 100_000)
    with answering(event(b"a") * 100_000) as hub:
        read = hub.log("1")
        assert len(list(hub.lines(read))) < 10_000
        assert read.is_cut


def test_a_log_that_is_followed_takes_no_connection_of_other_calls_and_ends_when_it_is_closed(supervise, store, hub):
    sweep(store, 4)
    supervise(HANG_IN_EACH)
    wait_for(lambda: any(job.log for job in hub.jobs.values()))
    (job_id,) = hub.jobs
    api = Hub("hf_alice", "alice", hub.url)
    logs, read = [api.log(job_id) for _ in range(5)], [[] for _ in range(5)]
    huggingface_hub.set_client_factory(lambda: httpx.Client(limits=httpx.Limits(max_connections=3)))
    try:
        threads = [
            threading.Thread(target=lines.extend, args=(api.lines(log),), daemon=True)
            for log, lines in zip(logs, read, strict=True)
        ]
        for thread in threads:
            thread.start()
        wait_for(lambda: all("StepLogged" in "".join(lines) for lines in read))
        assert job_id == api.job(job_id).id
        for each in logs:
            each.close()
        wait_for(lambda: not any(thread.is_alive() for thread in threads))
    finally:
        huggingface_hub.set_client_factory(default_client_factory)


@pytest.mark.parametrize("name", [REPOSITORY, BUCKET])
def test_nothing_is_sent_where_others_can_read_it(supervise, store, hub, name):
    (run_id,) = sweep(store, 4)
    hub.public = {name}

    supervise().settle()

    assert ["failed"] == states(store, [run_id])
    assert f"alice/{name} on Hugging Face, so nothing is sent there" in store.get(run_id).error
    assert {} == hub.jobs
    assert not [path for path in hub.folder("dataset", "alice/rankviz-jobs").rglob("*") if path.is_file()]
