"""The page and its configuration, as many visitors ask for them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rankviz.ui.made_once import MAX_KEPT, MadeOnce
from rankviz.ui.visitors import Identified, Visitors


class Gradio:
    """Makes a page for each request, and counts them."""

    def __init__(self):
        self.made, self.at_once, self.most_at_once, self.status = [], 0, 0, 200
        self._counting = threading.Lock()

    def page(self, request):
        with self._counting:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.made.append(str(request.url))
            number = len(self.made)
        threading.Event().wait(0.01)
        with self._counting:
            self.at_once -= 1
        return HTMLResponse(f"page {number} of {request.url.hostname}", self.status)

    def config(self, request):
        self.made.append(str(request.url))
        return JSONResponse({"made": len(self.made)})


@pytest.fixture
def gradio():
    return Gradio()


def client_of(gradio, *middleware):
    routes = [Route("/", gradio.page, methods=["GET", "POST"]), Route("/config", gradio.config)]
    return TestClient(Starlette(routes=routes, middleware=[*middleware, Middleware(MadeOnce)]))


@pytest.fixture
def client(gradio):
    with client_of(gradio) as client:
        yield client


@pytest.mark.parametrize("address", ["/", "/config"])
def test_the_second_visitor_gets_what_was_made_for_the_first(client, gradio, address):
    first, second = client.get(address), client.get(f"{address}?tab=runs&__theme=dark")

    assert first.content == second.content
    assert first.headers == second.headers
    assert 1 == len(gradio.made)


def test_each_name_of_the_server_has_a_page_of_its_own(client, gradio):
    inside = client.get("/")
    outside = client.get("/", headers={"x-forwarded-host": "rankviz.example"})
    secure = client.get("/", headers={"x-forwarded-host": "rankviz.example", "x-forwarded-proto": "https"})
    other = client.get("/", headers={"host": "other.example"})

    assert 4 == len({answer.text for answer in (inside, outside, secure, other)})
    assert inside.text == client.get("/").text


def test_names_without_number_push_out_the_oldest_and_are_made_one_at_a_time(client, gradio):
    first = client.get("/").text
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: client.get("/", headers={"host": f"{number}.example"}), range(MAX_KEPT)))

    assert 1 == gradio.most_at_once
    assert first != client.get("/").text


@pytest.mark.parametrize("query", ["deep_link=abc", "page=other", "all_endpoints=true"])
def test_what_asks_for_more_than_the_page_is_made_anew(client, gradio, query):
    first = client.get(f"/?{query}")

    assert first.text != client.get(f"/?{query}").text
    assert first.text != client.get("/").text


def test_an_error_is_not_kept(client, gradio):
    gradio.status = 503
    assert 503 == client.get("/").status_code

    gradio.status = 200
    assert 200 == client.get("/").status_code


def test_other_requests_go_through(client, gradio):
    client.get("/")

    assert "page 2" in client.post("/").text
    assert 404 == client.get("/elsewhere").status_code


def test_the_cookie_of_one_visitor_is_not_sent_to_the_next(gradio):
    with client_of(gradio, Middleware(Identified, visitors=Visitors("k" * 40))) as client:
        given = []
        for _ in range(3):
            given.append(client.get("/").headers.get_list("set-cookie"))
            client.cookies.clear()

    assert [1, 1, 1] == [len(cookies) for cookies in given]
    assert 3 == len({cookies[0] for cookies in given})
    assert 1 == len(gradio.made)
