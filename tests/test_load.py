"""Parts of `make load`, on small crowds without a server."""

import asyncio
import contextlib
import json
import math
import random
from collections import Counter
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from benchmarks import load
from benchmarks.visit import RANK, SETTINGS, WIDGETS, Visit
from rankviz.api import Api
from rankviz.paths import ASSETS
from rankviz.ui.explore.answer import answer
from rankviz.ui.page import build_app
from rankviz.ui.parts.question import DEFAULTS
from tests.support.web.stranger import Events, Stranger

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


def test_sections_are_asked_for_with_what_the_visitor_chose(page):
    """Under the names of the page's widgets: a name that it does not have would leave the usual setting."""
    for name in ("section-fit", "section-memory", "section-modules", "section-accuracy"):
        (event,) = page.of(name, "select")
        values = {widget: f"my {widget}" for widget in (*WIDGETS.values(), RANK)}

        assert set(values.values()) <= set(map(str, page.data(event, values)))


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_one_that_the_page_takes(tmp_path, name):
    api = Api(home=tmp_path, assets=ASSETS)
    assert set(WIDGETS) == set(SETTINGS) < set(DEFAULTS)

    for value in SETTINGS[name]:
        assert answer(api, {"values": {name: value}})["values"][name] == value


def test_visitors_look_at_the_run_that_is_trained(client, asked, page):
    visited(client, page, watched="a-sweep")

    assert any("a-sweep" in body["data"] for _, body in asked if "data" in body)


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


def test_memory_is_counted_from_the_start_of_the_app_for_each_crowd(monkeypatch, tmp_path):
    """Not from where the crowd before it left off."""

    class Still:
        def __init__(self, *_):
            pass

        async def stay(self, until):
            for _ in range(20):
                await asyncio.sleep(0)

    for name, value in {"ARRIVE_SECONDS": 0, "STILL_SECONDS": 0, "EVERY_SECONDS": 0, "Visit": Still}.items():
        monkeypatch.setattr(load, name, value)
    monkeypatch.setattr(load, "events_of", lambda url: None)
    monkeypatch.setattr(load, "open_pages", lambda space: asyncio.sleep(0, {"errors": 0, "page_mb": 0.0}))
    run = SimpleNamespace(sweep_id="", begin=lambda: None, goes_on=lambda figures: contextlib.nullcontext())
    monkeypatch.setattr(load, "Training", lambda space: run)
    space = a_space(chain([200.0], repeat(320.0)))
    monkeypatch.setattr(load, "Space", lambda *_, **__: contextlib.nullcontext(space))
    monkeypatch.setattr("sys.argv", ["load", "--visitors", "1", "--report", str(tmp_path / "load.jsonl")])

    with pytest.raises(SystemExit):  # nobody has asked anything
        load.main()

    rows = [json.loads(line) for line in (tmp_path / "load.jsonl").read_text().splitlines()]
    assert [120, 120] == [row["memory_mb"] for row in rows if "memory_mb" in row]


def test_the_run_is_queued_by_the_page_under_test_and_other_visitors_see_it(monkeypatch, tmp_path):
    monkeypatch.setattr(load.subprocess, "run", lambda command, **_: Path(command[-1]).mkdir(parents=True))
    with load.Space(tmp_path, **load.LIMITS) as space:
        run = load.Training(space)

        other = Stranger(space.url)
        looked = other.run("Filter", "change", named={"runs-showing": "showing", "runs-sweep": run.sweep_id})

    (request,) = space.home.glob("runs/*/request.json")
    assert load.STEPS == json.loads(request.read_text())["training"]["max_steps"]
    assert any(run.sweep_id in answer.text for answer in looked)
