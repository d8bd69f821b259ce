"""The page and its scripts as many visitors ask for them, and while the runs folder is read for the first time."""

import gc
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from rankviz.api import Api
from rankviz.shared.identity import Visitors, identify
from rankviz.shared.page_cache import MadeOnce
from rankviz.store import RunStore
from rankviz.ui.page import build_app
from rankviz.ui.serve import read_ahead
from tests.support.processes.opened_files import opened_files
from tests.support.processes.slow_store import SlowStore
from tests.support.runs import questions
from tests.support.web.serving import launched
from tests.support.web.stranger import Stranger


class Gradio:
    """Makes an answer for each request, and counts them."""

    def __init__(self):
        self.made = []

    def page(self, request):
        self.made.append(request.url.path)
        number = len(self.made)
        time.sleep(0.01)  # meanwhile others ask
        return HTMLResponse(f"page {number} of {request.base_url} {request.url.query}")

    def script(self, request):
        self.made.append(request.url.path)
        return Response(f"// {len(self.made)} {request.headers.get('range')}" + "x" * 200_000)


@pytest.fixture
def gradio():
    return Gradio()


def client_of(gradio, *middleware):
    routes = [Route("/", gradio.page), Route("/assets/{name}", gradio.script)]
    once = Middleware(MadeOnce, most_bytes=10**6)
    return TestClient(Starlette(routes=routes, middleware=[*middleware, once]))


@pytest.fixture
def client(gradio):
    with client_of(gradio) as client:
        yield client


def test_each_name_of_the_server_stands_on_the_page_and_all_the_same_scripts_come(client, gradio):
    names = [{}, {"x-forwarded-host": "rankviz.example"}, {"host": "other.example"}]
    names += [names[1] | {"x-forwarded-proto": "https"}]

    origins = ["http://testserver", "http://rankviz.example", "http://other.example", "https://rankviz.example"]
    assert [f"page 1 of {origin}/ " for origin in origins] == [client.get("/", headers=name).text for name in names]
    assert 1 == len({client.get("/assets/index-1.js", headers=name).text for name in names})


MADE_UP = [{"host": "10.0.0.{}:7860"}, {"host": "localhost:{}"}, {"x-gradio-server": "http://{}.example"}]
MADE_UP += [{"x-forwarded-host": "{}.example"}, {"x-forwarded-proto": "x{}"}, {"accept-encoding": "gzip;q={}"}]


@pytest.mark.parametrize("headers", MADE_UP, ids=lambda headers: next(iter(headers)))
def test_a_name_that_is_made_up_costs_no_page_and_pushes_nothing_out(client, gradio, headers):
    client.get("/assets/index-1.js")
    with ThreadPoolExecutor(8) as pool:
        made_up = [{name: value.format(number) for name, value in headers.items()} for number in range(100)]
        list(pool.map(lambda each: client.get("/", headers=each), made_up))

    assert "// 1 " == client.get("/assets/index-1.js").text[:5]
    assert ["/assets/index-1.js", "/"] == gradio.made


def test_the_cookie_of_one_visitor_is_not_sent_to_the_next(gradio):
    with client_of(gradio, Middleware(identify, visitors=Visitors("k" * 40))) as client:
        given = []
        for _ in range(3):
            given.append(client.get("/").headers.get_list("set-cookie"))
            client.cookies.clear()

    assert [1, 1, 1] == [len(cookies) for cookies in given]
    assert 3 == len({cookies[0] for cookies in given})
    assert 1 == len(gradio.made)


@pytest.fixture
def api(tmp_path):
    """Of a folder of 100 runs, of which READ have been read and no more are."""
    RunStore(tmp_path).create(questions.sweep(ranks=tuple(range(1, 101))))
    api = Api(home=tmp_path, shared=False)
    api.workspace.store = store = SlowStore(tmp_path)
    with store.being_read():
        yield api


@pytest.fixture
def visitor(api):
    with launched(build_app(api), api) as (_, address):
        visitor = Stranger(address)
        yield visitor
        visitor.close()


def test_a_page_opened_meanwhile_is_answered_with_all_that_it_loads(api, visitor):
    assert [] == visitor.load()
    assert 200 == visitor.ask().status_code

    assert api.workspace.store.reading


def test_an_app_has_read_the_runs_before_anybody_asks(tmp_path):
    store = RunStore(tmp_path)
    for run_id in store.run_ids(store.create(questions.sweep(ranks=(4, 8)))):
        os.utime(store.run_dir(run_id), (0, 0))  # long ago
    api, frozen = Api(home=tmp_path), gc.get_freeze_count()

    read_ahead(api).join()

    assert frozen < gc.get_freeze_count()  # what was read stays, and is not looked through again
    with opened_files(store.runs_dir) as opened:
        assert 2 == len(api.runs.sweeps()[0].runs)
    assert [] == opened
