"""The gate: names and sites that are answered, how an address and a body are read, envelopes, and what the log has."""

import asyncio
import json
import logging
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest
from fastapi import Depends, FastAPI
from gradio.routes import App
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from rankviz.api import Api
from rankviz.endpoints.gate import MAX_LIST
from rankviz.errors import InvalidSettingError
from rankviz.settings import read
from rankviz.shared import gate
from rankviz.shared.gate import (
    ANSWERS,
    API,
    MAX_BODY_BYTES,
    MAX_EVENT_BYTES,
    MAX_VALUES,
    answer_errors,
    check_request_body,
    check_request_head,
    is_closed,
    trusted,
)
from rankviz.shared.page_cache import MadeOnce
from rankviz.ui.explore.answer import routes

LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "referer": "http://elsewhere.example/"}


def test_a_further_start_adds_no_filter_to_the_log():
    counts = [gate.keep_log_ours() or len(logging.getLogger("uvicorn.error").filters) for _ in range(2)]

    assert counts[0] == counts[1]


class TestNamesAndSites:
    """Under which names the page answers, and to which sites' pages, at every address of it."""

    def client(self, hosts="", shared=False):
        async def answer(request):
            return PlainTextResponse("a private file")

        app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
        return TestClient(
            check_request_head(app, server="127.0.0.1", given=hosts, shared=shared), base_url="http://127.0.0.1:7860"
        )

    def test_what_cannot_be_names_is_a_sentence_at_the_start(self, monkeypatch):
        monkeypatch.setenv("RANKVIZ_HOSTS", "ranks*.example")
        with pytest.raises(InvalidSettingError, match="RANKVIZ_HOSTS cannot be"):
            read()

    @pytest.mark.parametrize("host", ["localhost:7860", "LOCALHOST.", "127.0.0.1:1", "[::1]:7860", "192.168.1.5:7860"])
    def test_addresses_of_numbers_and_the_loopback_name_are_ours(self, host):
        assert 200 == self.client().get("/", headers={"host": host}).status_code

    OTHERS = ("evil.example:7860", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "evil.example@127.0.0.1", "")
    OTHERS += ("127.0.0.1,evil.example", "[::1].evil.example", "evil.localhost.example", "127.1")

    @pytest.mark.parametrize("host", OTHERS)
    def test_any_other_name_is_refused_and_nothing_is_read(self, host):
        for method in ("GET", "POST", "OPTIONS"):
            answer = self.client().request(method, "/rankviz/answer", headers={"host": host})

            assert (answer.status_code == 421 and "RANKVIZ_HOSTS" in answer.text) or answer.status_code == 400
            assert "private" not in answer.text

    def test_the_health_of_the_server_is_told_under_any_name(self):
        assert 200 == self.client().get("/rankviz/health", headers={"host": "rankviz-1:7860"}).status_code

    def test_the_names_that_a_server_is_told_are_trusted_as_browsers_write_them(self, monkeypatch):
        monkeypatch.setenv("SPACE_HOST", "somebody-rankviz.hf.space, ranks.example.com")
        monkeypatch.setenv("GRADIO_ROOT_PATH", "https://tools.example.org/lora")
        monkeypatch.setattr("socket.gethostname", lambda: "Gpu7.cluster.example")
        names = ["somebody-rankviz.hf.space", "tools.example.org", "a.lab.example", "ranks.example", "gpu7.local"]

        page = self.client(hosts="Ranks.example, *.lab.example.")

        for name in (*names, "app.localhost:7860"):
            assert 200 == page.get("/", headers={"host": name}).status_code
        assert 421 == page.get("/", headers={"host": "lab.example.evil.example"}).status_code
        assert {"gpu7", "ranks.lan"} <= set(trusted("ranks.lan", ""))

    FOREIGN = ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"})
    FOREIGN += ({"origin": "http://127.0.0.1:3000"}, {"sec-fetch-site": "same-site"})

    @pytest.mark.parametrize("headers", FOREIGN)
    def test_another_sites_page_starts_nothing_and_reads_nothing(self, headers):
        answers = [
            self.client().post("/gradio_api/queue/join", content="{}", headers=headers),
            self.client().post("/x", headers={"referer": "http://evil.example/a"}),
            self.client().get("/config", headers=headers),
            self.client().options("/x", headers=headers | {"access-control-request-method": "POST"}),
        ]

        assert {403} == {answer.status_code for answer in answers}
        assert not any("private" in each.text or "access-control-allow-origin" in each.headers for each in answers)

    OWN = ({}, {"origin": "http://127.0.0.1:7860"}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"})

    @pytest.mark.parametrize("headers", [*OWN, {"referer": "http://127.0.0.1:7860/?tab=runs"}])
    def test_its_own_page_and_programs_are_answered(self, headers):
        assert "a private file" == self.client().post("/", headers=headers).text

    @pytest.mark.parametrize(
        ("host", "origin"), [("ranks.lan:80", "http://ranks.lan"), ("ranks.lan:443", "https://ranks.lan")]
    )
    def test_a_proxy_may_write_the_default_port_into_the_name(self, host, origin):
        page, inner = self.client(hosts="ranks.lan"), {"host": "127.0.0.1:7860", "x-forwarded-host": f"{host}, in.lan"}

        assert 200 == page.post("/", headers={"host": host, "origin": origin}).status_code
        assert 200 == page.post("/", headers=inner | {"origin": origin}).status_code

    def test_a_link_on_another_site_opens_the_page_alone(self):
        for address in ("/logout", "/gradio_api/file=a", "/gradio_api/call/runs/1", "/login/huggingface"):
            assert 403 == self.client().get(address, headers=LINK).status_code
        assert 200 == self.client().get("/?tab=runs", headers=LINK).status_code

    @pytest.fixture
    def space(self, monkeypatch):
        monkeypatch.setenv("SPACE_ID", "somebody/rankviz")
        monkeypatch.setenv("SYSTEM", "spaces")

    def test_a_shared_space_answers_other_sites_as_nobody_and_one_of_ones_own_does_not(self, space):
        assert 200 == self.client(shared=True).post("/", headers=self.FOREIGN[0]).status_code
        assert 403 == self.client().post("/", headers=self.FOREIGN[0]).status_code
        assert 200 == self.client().get("/", headers=LINK).status_code  # the frame that shows a Space

    def framed_by(self, **options):
        return self.client(**options).get("/").headers.get("content-security-policy")

    @pytest.mark.parametrize("shared", [True, False])
    def test_only_sites_that_the_owner_names_show_the_page_in_a_frame(self, shared):
        named = self.framed_by(hosts="Lab.example, *.wiki.example", shared=shared)

        assert "frame-ancestors 'self' lab.example:* *.wiki.example:*" == named
        assert "frame-ancestors 'self'" == self.framed_by(shared=shared)
        assert self.framed_by(hosts="*", shared=shared) is None

    def test_the_hub_shows_a_space_in_a_frame_and_any_site_a_shared_one(self, space):
        assert "frame-ancestors 'self' https://huggingface.co" == self.framed_by()
        assert self.framed_by(shared=True) is None


class TestAddresses:
    OPEN = frozenset({
        "api/{api_name}", "app_id", "call/v2/{api_name}", "call/v2/{api_name}/{event_id}", "call/{api_name}",
        "call/{api_name}/{event_id}", "cancel", "file/{path:path}", "file={path_or_url:path}",
        "info", "login_check", "openapi.json", "queue/data", "queue/join", "queue/status", "reset", "run/{api_name}",
        "runs", "startup-events", "theme.css", "token", "upload", "upload_progress", "user",
    })  # fmt: skip
    """Gradio's addresses. A new one has to be looked at: what it opens, keeps and reads."""
    OPEN_AT_ROOT = frozenset({
        "", "assets/{path:path}", "config", "favicon.ico", "logout", "manifest.json", "pwa_icon", "pwa_icon/{size}",
        "robots.txt", "static/{path:path}", "svelte/{path:path}", "theme.css",
    })  # fmt: skip
    """The same beside them; the file that describes them is turned off at the launch."""

    def routes_in(self, routes):
        for route in routes:
            yield from self.routes_in(route.original_router.routes) if hasattr(route, "original_router") else [route]

    def test_every_address_of_gradios_is_known_here_as_open_or_closed(self):
        with gr.Blocks(analytics_enabled=False) as page:
            gr.Textbox()
        routes = self.routes_in(App.create_app(page, app_kwargs={"openapi_url": None}).routes)
        paths = [getattr(route, "path", "") for route in routes]
        names = {path.removeprefix(API).rstrip("/") for path in paths if path.startswith(API)}

        assert self.OPEN == {name for name in names if not is_closed(API + name)}
        root = {path.strip("/") for path in paths if not path.startswith(API) and not is_closed(path)}
        assert self.OPEN_AT_ROOT == root
        assert {"component_server", "deep_link", "process_recording", "proxy={url_path:path}"} <= names - self.OPEN

    @pytest.mark.parametrize("path", ["/login", "/login/", "/monitoring", "/monitoring/summary"])
    def test_a_login_and_figures_that_the_page_does_not_have_are_closed(self, path):
        assert is_closed(path)
        assert is_closed(path, asks_login=True) == path.startswith("/monitoring")
        assert not is_closed("/login/huggingface") and not is_closed("/logout")


PATHS = ["/gradio_api/call/v2/estimate", "/gradio_api/mcp/", "/gradio_api/cancel", "/logout", "/rankviz/answer"]
PATHS += ["/gradio_api/upload/", "/gradio_api/nothing/gradio_api/queue/join"]


class TestBodies:
    def ask(self, path, *parts, method="POST"):
        """(status, body, unread parts) of an app that answers 200 with what it was sent, behind the limit."""

        async def echo(scope, receive, send):
            body, more = b"", True
            while more:
                message = await receive()
                body, more = body + message.get("body", b""), message.get("more_body", False)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})

        waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        waiting[-1]["more_body"] = False
        answers = []

        async def receive():
            return waiting.pop(0)

        async def send(message):
            answers.append(message)

        scope = {"type": "http", "method": method, "path": path, "headers": []}
        # In a thread: a browser test before may have left this one with a running loop.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, check_request_body(echo)(scope, receive, send)).result()
        return answers[0]["status"], answers[1]["body"], len(waiting)

    @pytest.mark.parametrize("path", PATHS)
    def test_every_request_is_read_up_to_its_limit_however_it_comes_in_parts(self, path):
        whole = b"x" * MAX_BODY_BYTES

        assert (200, whole, 0) == self.ask(path, whole[:10], whole[10:], method="PUT")
        status, body, unread = self.ask(path, whole, b"x", whole, whole)  # the rest is not waited for
        assert (413, 2) == (status, unread)
        assert "The request is too long: at most 100,000 bytes are read." == json.loads(body)["detail"]

    def test_the_largest_event_of_the_page_is_read(self):
        name = "n" * 255
        path = f"/tmp/{'f' * 32}/{'a' * 64}/{name}"
        file = {"path": path, "url": f"http://127.0.0.1:7860/gradio_api/file={path}", "orig_name": name}
        file |= {"size": 123456, "mime_type": "application/json", "is_stream": False}
        file |= {"meta": {"_type": "gradio.FileData"}}

        assert 200 == self.ask("/gradio_api/queue/join", json.dumps({"data": [[file] * MAX_LIST]}).encode())[0]
        assert 413 == self.ask("/gradio_api/queue/join", b"x" * MAX_EVENT_BYTES, b"x")[0]
        assert 200 == self.ask("/gradio_api/upload", b"x" * MAX_EVENT_BYTES, b"x")[0]  # which has limits of its own

    @pytest.mark.parametrize("value", [b"1,", b"[],", b'{"a":{}},', b"[" * 9 + b"]" * 9 + b","])
    def test_no_body_holds_more_values_than_are_parsed(self, value):
        most = MAX_VALUES // sum(map(value.count, b",[{"))

        assert 200 == self.ask("/rankviz/answer", value * most)[0]
        status, body, unread = self.ask("/rankviz/answer", value * most, value, value)
        assert (413, 1) == (status, unread)
        assert "The request is too long: at most 10,000 values are read." == json.loads(body)["detail"]

    @pytest.mark.parametrize("name", ["component_server", "stream/x/close", "vibe-edit", "proxy=http:"])
    def test_what_the_page_has_no_use_for_is_not_there(self, name):
        status, body, unread = self.ask(f"/gradio_api/{name}", b"x", b"x")

        assert (404, "This page has no such address.", 2) == (status, json.loads(body)["detail"], unread)


LOGINS = {
    "a password": ({"auth": [("ann", "secret"), ("ben", "secret")]}, 200),
    "a login of the host's": ({"auth_dependency": lambda request: request.headers.get("who")}, 401),
}


class TestLogins:
    """Where a host embeds the page with a login, nothing is answered before it."""

    @pytest.fixture
    def embedded(self, tmp_path):
        """Makes a client of a host's own app, with the page below it."""

        def make(**login):
            with gr.Blocks(analytics_enabled=False) as page:
                gr.Textbox()
            middleware = [Middleware(check_request_body), Middleware(MadeOnce)]
            own = {"openapi_url": None, "middleware": middleware, "routes": routes(Api(home=tmp_path))}
            host = gr.mount_gradio_app(FastAPI(), page, "/ranks", app_kwargs=own, **login)
            return TestClient(host, base_url="https://testserver")  # whose cookies are secure

        return make

    def answers(self, client, **headers):
        return {client.post(f"/ranks{address}", json={}, headers=headers).status_code for address in ANSWERS}

    def test_with_a_password_only_who_has_logged_in_is_answered(self, embedded, tmp_path):
        assert set(ANSWERS) == {route.path for route in routes(Api(home=tmp_path))}
        assert 401 not in self.answers(embedded())
        client = embedded(auth=("ann", "secret"))
        assert {401} == self.answers(client)
        client.cookies.set("access-token-", "x")
        assert {401} == self.answers(client)
        assert 400 == client.post("/ranks/login", data={"username": "ann", "password": "wrong"}).status_code
        client.post("/ranks/login", data={"username": "ann", "password": "secret"})
        assert 401 not in self.answers(client)

    @pytest.mark.parametrize("login", LOGINS)
    def test_the_page_of_who_has_logged_in_is_theirs_alone(self, embedded, login):
        options, status = LOGINS[login]
        client = embedded(**options)

        def pages(name=""):
            client.cookies.clear()
            if name and "auth" in options:
                client.post("/ranks/login", data={"username": name, "password": "secret"})
            headers = {"who": name} if name else {}
            answers = [client.get(f"/ranks{address}", headers=headers) for address in ("/", "/config")]
            return [answer.status_code for answer in answers], "".join(answer.text for answer in answers)

        for name, other in (("ann", "ben"), ("ben", "ann"), ("ann", "ben")):
            codes, text = pages(name)
            assert [200, 200] == codes
            assert f'"username":"{name}"' in text
            assert f'"{other}"' not in text and "auth_required" not in text
            codes, text = pages()
            assert [status, 401] == codes
            assert '"ann"' not in text and '"ben"' not in text

    def test_a_login_of_the_hosts_lets_in_whom_it_knows_and_answers_itself(self, embedded):
        async def by_header(request):
            return request.headers.get("who")

        def refuse(request):
            raise HTTPException(403, "Not for you.", {"where": "/login"})

        client = embedded(auth_dependency=by_header)
        assert {401} == self.answers(client)
        assert 401 not in self.answers(client, who="ann")
        answer = embedded(auth_dependency=refuse).post(f"/ranks{ANSWERS[0]}", json={})
        assert (403, "Not for you.", "/login") == (answer.status_code, answer.json()["detail"], answer.headers["where"])


LONG = "x" * 65
JSON = {"content-type": "application/json"}


class TestEnvelopes:
    @pytest.fixture(scope="class")
    def client(self):
        def twice(number: float) -> float:
            return 2 * number

        with gr.Blocks(analytics_enabled=False) as page:
            gr.api(twice, api_name="twice")
        page.queue()
        app = gr.routes.App.create_app(page, app_kwargs={"dependencies": [Depends(gate.readable)]})
        with TestClient(app) as client:
            yield client

    def body(self, **fields):
        return json.dumps({"data": [2], "fn_index": 0, "session_hash": "ab12", "event_id": "cd-34", **fields})

    ADDRESSES = ("queue/join", "run/twice", "api/twice", "cancel", "reset")

    @pytest.mark.parametrize("name", ["session_hash", "event_id"])
    @pytest.mark.parametrize("value", [LONG, "", "\ud800", "a\n", "ä", 5, {}, True])
    def test_a_key_is_at_most_64_letters_and_digits(self, client, name, value):
        for address in self.ADDRESSES:
            reply = client.post(f"/gradio_api/{address}", content=self.body(**{name: value}), headers=JSON)

            assert (422, True) == (reply.status_code, name in reply.json()["detail"]), address
            assert len(reply.content) < 300

    @pytest.mark.parametrize("kind", ["\xa0application/json", "application/x+json", "text/plain", ""])
    def test_a_key_is_checked_whatever_the_body_says_that_it_is(self, client, kind):
        for address in self.ADDRESSES:
            headers = {"content-type": kind.encode("latin-1")}
            reply = client.post(f"/gradio_api/{address}", content=self.body(session_hash="\ud800"), headers=headers)

            assert 422 == reply.status_code, address

    @pytest.mark.parametrize(("name", "arguments"), [("thrice", {}), ("twice", {"x": 1}), ("twice", {})])
    def test_an_endpoint_or_argument_that_there_is_not_is_a_sentence(self, client, name, arguments):
        reply = client.post(f"/gradio_api/call/v2/{name}", json=arguments)

        assert (422, gate.NO_ENDPOINT) == (reply.status_code, reply.json()["detail"])

    def test_an_event_that_the_page_does_not_have_is_a_sentence(self, client):
        reply = client.post("/gradio_api/queue/join", content=self.body(fn_index=99, event_id=None), headers=JSON)

        assert (404, gate.NO_PAGE_EVENT) == (reply.status_code, reply.json()["detail"])


def test_an_error_of_ours_has_a_number_that_the_log_has_too(caplog):
    async def broken(request):
        raise ZeroDivisionError("ours")

    app = Starlette(routes=[Route("/broken", broken)], middleware=[Middleware(answer_errors)])
    reply = TestClient(app, raise_server_exceptions=False).get("/broken")

    assert 500 == reply.status_code
    number = reply.json()["detail"].split("number ")[1].split()[0]
    assert f"Error {number} in '/broken'" in caplog.text


def test_a_socket_is_closed_before_anything_reads_it():
    page = TestClient(check_request_head(Starlette(), server="127.0.0.1", given="", shared=False))
    with pytest.raises(WebSocketDisconnect), page.websocket_connect("/gradio_api/queue/join"):
        pass
