"""What is written into the HTML of the page."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from rankviz.ui.head import Head

PAGE = "<head><script>window.gradio_config = {};</script></head>"
TAGS = '<script defer src="é.js"></script>'


@pytest.fixture
def get():
    async def page(request):
        return HTMLResponse(PAGE)

    async def config(request):
        return JSONResponse({"html": PAGE})

    routes = [Route("/", page), Route("/config", config)]
    app = Starlette(routes=routes, middleware=[Middleware(Head, tags=TAGS)])

    async def get(address):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page") as client:
            return await client.get(address)

    return lambda address: asyncio.run(get(address))


def test_the_tags_stand_before_gradios_first_script(get):
    answer = get("/")

    assert PAGE.replace("<script>", f"{TAGS}<script>", 1) == answer.text
    assert str(len(answer.content)) == answer.headers["content-length"]


def test_other_addresses_are_answered_as_they_were(get):
    assert {"html": PAGE} == get("/config").json()
