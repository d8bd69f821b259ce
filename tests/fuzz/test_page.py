"""What opens the page, an address, and what a program sends it: arguments of endpoints."""

import json
from urllib.parse import parse_qsl, urlencode

import gradio as gr
import pytest

from rankviz.api import Api
from rankviz.ui.endpoints import publish
from rankviz.ui.explore.answer import answer
from rankviz.ui.page import restore
from rankviz.ui.parts.question import DEFAULTS
from rankviz.visitor import Visitor, acting_as
from tests.fuzz import mutate
from tests.fuzz.in_process import InProcess

ADDRESS = {
    "model": "Qwen/Qwen3-4B",
    "r": "32",
    "use_case": "complex",
    "targets": "q_proj,v_proj",
    "gpu": "l4",
    "batch": "4",
    "length": "1024",
    "steps": "200",
    "x": "memory",
    "y": "loss",
    "tab": "runs",
    "sweep": "20261125-015906-370c",
    "metric": "loss",
    "tolerance": "0.02",
}
ARGUMENTS = {
    "estimate": {"model": "Qwen/Qwen3-4B", "ranks": [8, 16], "targets": "qv", "alpha": "2r", "batch": 2, "steps": 10},
    "fit": {"model": "Qwen/Qwen3-4B", "r": 8, "prices": {"l4": 0.5}, "gpu": "l4", "precision": "bf16", "examples": 9},
    "advise": {"model": "Qwen/Qwen3-4B", "use_case": "complex", "examples": 1000, "example_tokens": 100, "epochs": 2.0},
    "forecast": {"model": "Qwen/Qwen3-4B", "use_case": "complex", "metric": "score", "base": True, "runs": None},
    "run": {"run_id": "20261125-015906-370c-001-r1"},
    "status": {"sweep_id": "20261125-015906-370c"},
    "runs": {"limit": 5, "offset": 1},
    "models": {"limit": 5, "offset": 1},
    "studies": {"model": "Qwen/Qwen3-4B", "use_case": "complex", "limit": 3, "offset": 1},
    "verdict": {"sweep_id": "20261125-015906-370c", "tolerance": "2%", "metric": "loss"},
    "spectrum": {"adapter": "sample", "limit": 3, "offset": 1},
    "resize": {"adapter": "sample", "r": 2, "energy": None, "dtype": "bf16"},
    "export": {"model": "Qwen/Qwen3-4B", "r": 8, "framework": "trl", "learning_rate": 1e-4, "use_case": "complex"},
    "start_sweep": {
        "model": "embedded",
        "data": "phonemes",
        "mode": "sweep",
        "ranks": [4, 16],
        "targets": "qv",
        "alpha": "2r",
        "learning_rates": [1e-3],
        "seeds": 2,
        "steps": 3,
        "batch": 2,
        "max_length": 64,
        "held_out": 8,
        "exact_match": 2,
        "answers": 1,
        "rslora": True,
    },
    "cancel": {"id": "20261125-015906-370c"},
    "resume": {"sweep_id": "20261125-015906-370c"},
    "delete": {"id": "20261125-015906-370c"},
    "share": {"id": "20261125-015906-370c", "shared": True},
    "export_runs": {"ids": ["20261125-015906-370c-001-r1"]},
}
NEVER_A_RESULT = ("cancel", "resume", "delete", "share")
"""The sweep is one that RankViz ships."""


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    api = Api(home=tmp_path_factory.mktemp("home"), shared=True)
    api.workspace.work_queue = lambda: None  # what is queued here is not trained
    InProcess.of(api.workspace)
    api.adapters.spectrum("sample")
    answer(api, {"values": dict(DEFAULTS)})  # reads what RankViz ships, once and not in every process
    return api


@pytest.fixture(scope="module")
def endpoints(api):
    with gr.Blocks() as page:
        publish(api)
    return {fn.api_name: fn.fn for fn in page.fns.values()}


MOST_OF_AN_ADDRESS = 2**16
"""Letters that the server reads of one."""


def query(rng):
    row = mutate.value(ADDRESS, rng)
    if not isinstance(row, dict):
        row = {"model": str(row)[:5000]}
    text = urlencode({str(key): str(value) for key, value in row.items()}, errors="surrogatepass")
    text = text if rng.random() < 0.8 else mutate.file_bytes(text.encode(), rng).decode("latin-1")
    return text[:MOST_OF_AN_ADDRESS]


def test_any_address_opens_the_page(fuzz, api):
    def opened(text):
        restored = restore(api, dict(parse_qsl(text)))
        json.dumps(restored.question, allow_nan=False).encode()
        restored.notice.encode()

    fuzz(query, opened, refuses=False)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_any_arguments_of_an_endpoint_are_answered_or_refused(fuzz, endpoints, name):
    def arguments(rng):
        row = mutate.value(ARGUMENTS[name], rng) if rng.random() < 0.8 else ARGUMENTS[name]
        return {key: value for key, value in row.items() if key in ARGUMENTS[name]} if isinstance(row, dict) else {}

    def called(row):
        with acting_as(Visitor("ann")):
            given = endpoints[name](**row)
        json.dumps(given, allow_nan=False, default=str).encode()

    fuzz(arguments, called, answers=name not in NEVER_A_RESULT)
