"""Parts of `make load`, on small crowds without a server."""

import asyncio
import json
import math
import random
from collections import Counter
from types import SimpleNamespace

import httpx
import pytest

from benchmarks import load
from benchmarks.visit import Visit
from rankviz.api import Api
from rankviz.paths import ASSETS
from rankviz.ui.page import build_app
from tests.support.web.stranger import Events

SAMPLES = 130


def a_space(mb):
    """An app of which each look at its memory finds the next of these MB."""
    return SimpleNamespace(
        url="http://nowhere", rss=SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=next(mb) * 1e6))
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return Events(build_app(Api(home=tmp_path_factory.mktemp("home"), assets=ASSETS)).get_config_file())


@pytest.fixture
def asked():
    """The bodies of all requests to a server that answers everything."""
    return []


@pytest.fixture
def client(asked):
    def answer(request):
        asked.append((request.url.path, json.loads(request.content) if request.content else None))
        return httpx.Response(200, json={"address": {"model": "Qwen/Qwen3-8B", "batch": "4", "r": None}})

    return httpx.AsyncClient(base_url="http://nowhere", transport=httpx.MockTransport(answer))


def visited(client, page, *, times=60, visitors=5, watched=""):
    """How often each question was asked by visitors who do so much each."""
    questions, errors = Counter(), []

    async def visit():
        async with client:
            for number in range(visitors):
                visit = Visit(client, page, load.defaultdict(list), errors, number, questions, watched)
                for _ in range(times):
                    await visit.act()

    asyncio.run(visit())
    assert [] == errors
    return questions


def test_most_of_what_visitors_ask_is_new(client, asked, page):
    questions = visited(client, page)

    sent = [body["values"] | {"r": 0} for path, body in asked if path in ("/rankviz/answer", "/rankviz/words")]
    assert len({json.dumps(each, sort_keys=True) for each in sent}) > len(sent) / 2
    assert len(questions) > questions.total() / 2


@pytest.mark.parametrize(
    ("shape", "is_flat"),
    [
        (lambda i: 149 * i / SAMPLES, False),
        (lambda i: 0.5 * i, False),
        (lambda i: 0.0, True),
        (lambda i: 60 * (1 - math.exp(-i / 20)), True),
        (lambda i: 60.0 * (i > 30), True),
        (lambda i: 40.0 * (i == 100), True),
    ],
    ids=["up to the most", "half a MB a second", "none", "caches that fill", "one step", "one answer"],
)
def test_memory_is_flat_where_it_grows_no_more_whatever_single_answers_take(shape, is_flat):
    noise = random.Random(1)

    grown = load.growth([200 + shape(i) + noise.uniform(-5, 5) for i in range(SAMPLES)])

    assert is_flat == (grown <= load.MEMORY["growth_mb"])
