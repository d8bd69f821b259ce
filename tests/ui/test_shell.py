"""The page around its tabs: what the browser is told, the head, the health, addresses, and who one is."""

import json
import time
import urllib.request
from collections import Counter

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rankviz import __version__
from rankviz.api import Api
from rankviz.core.runs.events import StageReached
from rankviz.ui import addresses, page
from rankviz.ui.mcp import mcp_messages
from rankviz.ui.page import build_app
from rankviz.visitor import Visitor
from tests.support.runs import questions


def test_the_page_is_short_and_endpoints_are_told_to_those_who_call_them_alone(address):
    html = urllib.request.urlopen(address).read()
    described = json.load(urllib.request.urlopen(f"{address}/gradio_api/info"))["named_endpoints"]
    events = json.load(urllib.request.urlopen(f"{address}/config"))["dependencies"]

    assert len(html) <= 255_000
    assert b"finetune_vision_layers" not in html
    assert "/estimate" in described
    assert "estimate" in [event.get("api_name") for event in events]


def test_no_event_has_two_answers_that_wait_for_themselves(tmp_path):
    config = build_app(Api(home=tmp_path)).get_config_file()
    waiting = Counter(
        tuple(target)
        for dependency in config["dependencies"]
        if dependency["backend_fn"] and dependency["trigger_mode"] == "always_last"
        for target in dependency["targets"]
        if target[1] not in ("load", "then", "success")  # these come once
    )
    named = {each["id"]: each["props"].get("label") or each["props"].get("elem_id") for each in config["components"]}

    assert len(waiting) > 10
    assert [] == [(named[component], event) for (component, event), count in waiting.items() if count > 1]


def health_of(api):
    answer = TestClient(Starlette(routes=addresses.health_routes(api))).get("/rankviz/health")
    assert 200 == answer.status_code
    return answer.json()


def test_runs_of_all_visitors_are_counted_and_none_is_named(tmp_path):
    api = Api(home=tmp_path, shared=True)
    store = api.workspace.store
    store.create(questions.sweep(ranks=(4, 8)), "someone")
    run = store.sweep(store.create(questions.sweep(ranks=(16,)), "another")).runs[0].run_id
    store.append(run, StageReached(time=time.time(), stage="training"))

    answer = health_of(api)

    assert {"version": __version__, "home_writable": True, "queued": 2, "running": 1} == answer


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", ["mcp", "mcp/", "mcp/http", "mcp/http/", "mcp/sse"])
def test_no_stream_of_mcp_is_held_open_of_which_nothing_will_come(name, method):
    served = Starlette(routes=[Route("/{path:path}", lambda request: PlainTextResponse("served"))])
    mcp = mcp_messages(served, is_installed=True)
    stream = {"accept": "application/json, text/event-stream"}
    answer = TestClient(mcp).request(method, f"/gradio_api/{name}", headers=stream)

    assert (405, "POST") == (answer.status_code, answer.headers["allow"])


def test_who_one_is_stands_on_a_shared_page_only_and_no_login_where_nobody_could_be_believed(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKVIZ_ADMIN_TOKEN", "the token of the admin")
    monkeypatch.delenv("OAUTH_CLIENT_SECRET", raising=False)
    shared, own = (build_app(Api(home=tmp_path, shared=is_shared)) for is_shared in (True, False))
    shared_ids, own_ids = ({getattr(block, "elem_id", None) for block in app.blocks.values()} for app in (shared, own))

    assert "who" in shared_ids and not {"who", "login"} & own_ids
    assert "login" not in shared_ids
    assert "<img" not in page.who_html(Visitor("hf:1", "<img src=x>"), has_admin=False)
