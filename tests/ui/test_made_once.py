"""The page, its configuration and its scripts, as many visitors ask for them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from rankviz.shared.identity import Visitors, identify
from rankviz.shared.page_cache import MadeOnce


class Gradio:
    """Makes an answer for each request, and counts them."""

    def __init__(self):
        self.made, self.at_once, self.most_at_once = [], 0, 0
        self.status, self.more = 200, ""
        self._counting = threading.Lock()

    def page(self, request):
        with self._counting:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.made.append(request.url.path)
            number = len(self.made)
        threading.Event().wait(0.01)
        with self._counting:
            self.at_once -= 1
        text = f"page {number} of {request.base_url} {request.url.query}{self.more}"
        return HTMLResponse(text, self.status)

    def config(self, request):
        self.made.append(request.url.path)
        return JSONResponse({"made": len(self.made)})

    def script(self, request):
        self.made.append(request.url.path)
        return Response(f"// {len(self.made)} {request.headers.get('range')}" + "x" * 200_000)


@pytest.fixture
def gradio():
    return Gradio()


def client_of(gradio, *middleware, most_bytes=10**6):
    routes = [
        Route("/", gradio.page, methods=["GET", "POST"]),
        Route("/config", gradio.config),
        Route("/assets/{name}", gradio.script),
    ]
    once = Middleware(MadeOnce, most_bytes=most_bytes)
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
