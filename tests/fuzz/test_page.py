"""What opens the page: an address."""

import json
from urllib.parse import parse_qsl, urlencode

import pytest

from rankviz.api import Api
from rankviz.ui.explore.answer import answer
from rankviz.ui.page import restore
from rankviz.ui.parts.question import DEFAULTS
from tests.fuzz import mutate

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


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    api = Api(home=tmp_path_factory.mktemp("home"), shared=True)
    api.workspace.work_queue = lambda: None  # what is queued here is not trained
    answer(api, {"values": dict(DEFAULTS)})  # reads what RankViz ships, once and not in every process
    return api


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
