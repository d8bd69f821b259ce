"""What is written into the HTML of the page."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rankviz.shared.identity import is_page
from rankviz.shared.page_cache import MadeOnce

PAGE = "<head><script>window.gradio_config = {};</script></head>"
TAGS = '<script defer src="é.js"></script>'


@pytest.fixture
def client():
    async def page(request):
        return HTMLResponse(PAGE)

    async def config(request):
        return JSONResponse({"html": PAGE})

    routes = [Route("/", page), Route("/config", config)]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(MadeOnce, tags=TAGS)]))


def test_the_tags_stand_before_gradios_first_script(client):
    answer = client.get("/", headers={"accept-encoding": "identity"})

    assert PAGE.replace("<script>", f"{TAGS}<script>", 1) == answer.text
    assert str(len(answer.content)) == answer.headers["content-length"]


@pytest.mark.parametrize(
    ("path", "root_path", "expected"),
    [
        ("/", "", True),
        ("/", "/team/rankviz", True),
        ("/team/rankviz/", "/team/rankviz", True),
        ("/team/rankviz/", "/team/rankviz/", True),
        ("/team/rankviz/config", "/team/rankviz", False),
        ("/config", "", False),
    ],
)
def test_the_page_is_known_below_a_path_whether_or_not_the_proxy_takes_it_off(path, root_path, expected):
    assert expected is is_page({"type": "http", "method": "GET", "path": path, "root_path": root_path})
