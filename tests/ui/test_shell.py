"""The page around its tabs: what the browser is told, the head, the health, addresses, and who one is."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rankviz import __version__
from rankviz.api import Api
from rankviz.core.runs.events import StageReached
from rankviz.ui import addresses, link, page
from rankviz.ui.link import CUSTOM
from rankviz.ui.mcp import mcp_messages
from rankviz.ui.page import build_app
from rankviz.ui.parts.question import DEFAULTS
from rankviz.visitor import Visitor
from tests.support.runs import questions
from tests.support.web.ports import free_port


def test_the_page_is_short_and_endpoints_are_told_to_those_who_call_them_alone(address):
    html = urllib.request.urlopen(address).read()
    described = json.load(urllib.request.urlopen(f"{address}/gradio_api/info"))["named_endpoints"]
    events = json.load(urllib.request.urlopen(f"{address}/config"))["dependencies"]

    assert len(html) <= 220_000
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


def test_runs_of_all_visitors_are_counted_and_none_is_named(tmp_path):
    api = Api(home=tmp_path, shared=True)
    store = api.workspace.store
    store.create(questions.sweep(ranks=(4, 8)), "someone")
    run = store.sweep(store.create(questions.sweep(ranks=(16,)), "another")).runs[0].run_id
    store.append(run, StageReached(time=time.time(), stage="training"))

    answer = TestClient(Starlette(routes=addresses.health_routes(api))).get("/rankviz/health")

    assert 200 == answer.status_code
    assert {"version": __version__, "home_writable": True, "queued": 2, "running": 1} == answer.json()


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


ROOT = Path(__file__).parents[2]


def test_a_shared_page_keeps_bases_in_its_runs_folder_and_its_memory_from_its_workers(tmp_path):
    """One's own keeps bases where all programs do, and can be looked into by one's own programs."""
    is_dumpable = "ctypes.CDLL(None).prctl(3)"  # PR_GET_DUMPABLE
    shows = f"print(os.environ.get('HF_HUB_CACHE'), {is_dumpable}, flush=True), os._exit(0)"
    code = f"import ctypes, os; from rankviz.ui import serve; serve.build_app = lambda api: ({shows}); serve.serve()"
    env = {name: value for name, value in os.environ.items() if name != "HF_HUB_CACHE"}
    env |= {"RANKVIZ_HOME": str(tmp_path), "GRADIO_SERVER_PORT": str(free_port())}

    def found(shared: str) -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=ROOT, env=env | {"RANKVIZ_SHARED": shared}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip().splitlines()[-1]

    assert f"{tmp_path / 'hub'} 0" == found("true")
    assert "None 1" == found("false")


def address_of(**changes):
    return {name: value for name, value in link.write({**DEFAULTS, **changes}).items() if value is not None}


def test_the_address_names_what_differs():
    address = address_of(r=64, alpha_rule="2r", rslora=True, usd_per_hour=1.5, batch=4)

    assert {"r": "64", "alpha": "2r", "rslora": "1", "usd": "1.5", "batch": "4"} == address


@pytest.mark.parametrize(
    "changes",
    [
        {"preset": CUSTOM, "names": "q_proj, v_proj"},
        {"dora": True, "modules_to_save": "lm_head, embed_tokens", "moe": "linear-only"},
        {"parts": ["vision", "mlp"], "unsloth_class": "FastModel"},
        {"gpu": "none", "precision": "bf16", "framework": "trl", "optim": "sgd", "checkpointing": "hf"},
        {"usd_per_hour": 12345.678},
        {"batch": 4096, "accumulation": 65_536, "max_length": 4_194_304},
        {"alpha_rule": "fixed", "alpha_fixed": 1_000_000},
        {"length": 10**14, "length_unit": "tokens"},
        {"use_case": "complex", "examples": 20_000, "example_tokens": 300, "forgetting": True},
        {"examples": 5000, "example_tokens": 400, "longest_tokens": 1600, "epochs": 3},
        {"examples": 80, "longest_tokens": 3, "measured_file": "prompt-completion:3:my rows, 2.jsonl"},
    ],
)
def test_a_copied_address_restores_what_was_asked(changes):
    values, notes = link.read(address_of(**changes))

    assert {**DEFAULTS, **changes} == DEFAULTS | values
    assert [] == notes


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"r": "5000"}, "r must be a whole number from 1 to 1,024"),
        ({"file": "text:9:../x.csv"}, "file must be the form, longest example and name of a file"),
        ({"r": "١٦"}, "r must be a whole number"),
        ({"alpha": "nan"}, "alpha must be r, 2r or a number above 0"),
        ({"targets": " , "}, "targets must be one of all-linear"),
        ({"rslora": "yes"}, "rslora must be 0 or 1"),
        ({"parts": "vision,tail"}, "parts must be some of vision, language, attention, mlp"),
        ({"usd": "inf"}, "usd must be a number from 0 to 1,000,000"),
        ({"precision": "fp8"}, "precision must be one of nf4-dq"),
        ({"model": "x" * 301}, "model must be at most 300 characters"),
    ],
)
def test_a_bad_parameter_gives_a_sentence_and_the_default(params, sentence):
    values, notes = link.read(params)

    assert {} == values
    assert 1 == len(notes)
    assert sentence in notes[0]


@pytest.mark.parametrize("text", ["x" * 5000, "\ud800", "a\0b", "1" * 5000, "a\nb"], ids=ascii)
def test_a_parameter_that_is_no_short_text_gets_a_note(text):
    for name in link.PARAMS:
        values, (note,) = link.read({name: text})

        assert {} == values
        assert note.isprintable()
        assert len(note) < 500
