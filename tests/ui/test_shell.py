"""The page around its tabs: its head, health, addresses, who one is, and its stylesheets."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rankviz import __version__
from rankviz.api import Api
from rankviz.core.runs.events import StageReached
from rankviz.figures import style
from rankviz.paths import ASSETS
from rankviz.ui import link, page, serve
from rankviz.ui.blocks import mcp_messages
from rankviz.ui.link import CUSTOM
from rankviz.ui.page import build_app
from rankviz.ui.parts.question import DEFAULTS
from rankviz.ui.serve import FIRST_STYLES, STYLESHEETS
from rankviz.ui.serve import theme as ui_theme
from rankviz.visitor import Visitor
from tests.support.runs import questions
from tests.support.web.ports import free_port


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

    assert {"version": __version__, "home_writable": True, "queued": 2, "running": 1} == serve.health(api)


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
    each = "os.fork() or [os.environ.update(RANKVIZ_SHARED=shared), serve.serve()]"
    code = f"import ctypes, os; from rankviz.ui import serve; serve.build_app = lambda api: ({shows})\n"
    code += f"for shared in ('true', 'false'): {each}; os.wait()"
    env = {name: value for name, value in os.environ.items() if name != "HF_HUB_CACHE"}
    env |= {"RANKVIZ_HOME": str(tmp_path), "GRADIO_SERVER_PORT": str(free_port())}

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)

    assert [f"{tmp_path / 'hub'} 0", "None 1"] == re.findall("^(.+ [01])$", done.stdout, re.M)


def address_of(**changes):
    return {name: value for name, value in link.write({**DEFAULTS, **changes}).items() if value is not None}


def test_the_address_names_what_differs():
    address = address_of(r=64, alpha_rule="2r", rslora=True, usd_per_hour=1.5, batch=4)

    assert {"r": "64", "alpha": "2r", "rslora": "1", "usd": "1.5", "batch": "4"} == address
    assert ({"expert_rank": "8"}, []) == link.read({"expert_rank": "08"})


@pytest.mark.parametrize(
    "changes",
    [
        {"preset": CUSTOM, "names": "q_proj, v_proj"},
        {"dora": True, "modules_to_save": "lm_head, embed_tokens", "moe": "linear-only", "expert_rank": "r/all"},
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
        ({"epochs": "nan"}, "epochs must be a number from 0 to 10,000"),
        ({"batch": "²"}, "batch must be a whole number from 1 to 4,096"),
        ({"expert_rank": "x"}, "one of r, r/active, r/all, or a whole number from 1 to 1,024"),
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


EVERY = [*dict.fromkeys((*STYLESHEETS, *FIRST_STYLES))]
TOKENS = next(path for path in EVERY if path.stem == "tokens")
SHARED = {
    "estimated": style.ESTIMATED,
    "measured": style.MEASURED,
    "published": style.PUBLISHED,
    "fast-curve": style.FAST_CURVE,
    "chosen": style.CHOSEN,
    "neutral": style.NEUTRAL,
}
SIZES = {"small": style.SMALL, "base": style.BASE, "medium": style.MEDIUM, "large": style.LARGE}
TEXT = ("text", "quiet", "error")


def code(path):
    return re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)


def tokens(selector):
    (block,) = re.findall(re.escape(selector) + r" \{(.*?)\}", code(TOKENS), re.S)
    return dict(re.findall(r"--rv-([\w-]+): ([^;]+);", block))


LIGHT = tokens(":root")
DARK = LIGHT | tokens(".dark")


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_figures_and_page_have_the_same_colours_and_sizes():
    assert SHARED == {name: LIGHT[name] for name in SHARED}
    assert {name: f"{size}px" for name, size in SIZES.items()} == {name: LIGHT[name] for name in SIZES}


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_every_colour_can_be_seen_on_the_page(theme):
    page, raised = theme["page"], theme["raised"]

    marks = {name: contrast(theme[name], page) for name in SHARED}
    texts = {name: min(contrast(theme[name], page), contrast(theme[name], raised)) for name in TEXT}

    assert {} == {name: ratio for name, ratio in marks.items() if ratio < 3}
    assert {} == {name: ratio for name, ratio in texts.items() if ratio < 4.5}
    assert contrast(theme["on-chosen"], theme["chosen"]) >= 4.5

    border = getattr(ui_theme(), f"checkbox_border_color{'_dark' if theme is DARK else ''}")
    assert contrast(getattr(ui_theme(), border.removeprefix("*")), raised) >= 3, "an empty box or circle"


def test_every_class_of_the_stylesheets_is_on_the_page():
    """Those that end a name are put together from a prefix and a word: rv-fit-tight, rv-wrap."""
    sources = [
        *(ASSETS.parent / "rankviz").rglob("*.py"),
        *(ASSETS / "js").glob("*.js"),
        *(ASSETS / "html").glob("*.html"),
    ]
    written = "".join(path.read_text() for path in sources)
    classes = set(chain.from_iterable(re.findall(r"\.(rv-[\w-]+)", code(path)) for path in EVERY))
    composed = {"rv-narrow", "rv-wrap", "rv-fit-tight", "rv-fit-uncertain", "rv-fit-does_not_fit"}

    assert set() == classes - composed - set(re.findall(r"\brv-[\w-]+", written))
