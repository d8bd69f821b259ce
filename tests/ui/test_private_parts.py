"""What the page takes from inside Gradio (ui.blocks, ui.mcp) and uvicorn (ui.serve): each release may change it.

Seen on gradio 6.31, safehttpx 0.1 and uvicorn 0.54."""

import ast
import asyncio

import gradio as gr
import pytest
from gradio import routes
from gradio.blocks import BlocksConfig
from gradio.route_utils import secure_url_stream_response
from gradio.state_holder import SessionState
from starlette.exceptions import HTTPException
from starlette.requests import Request

from rankviz.paths import IMPORT_ROOT
from rankviz.ui.blocks import MOST_UPLOADS, PageBlocks, PageConfig, Unread
from tests.support.web.outside import outside

INSIDE = {"gradio.blocks.BlocksConfig", "gradio.processing_utils", "gradio.routes"}
INSIDE |= {"uvicorn.protocols.http.auto", "uvicorn.protocols.http.h11_impl.H11Protocol"}
ADDRESS = "https://hf.co/a-file"
"""Of a name that Gradio fetches from without asking where it is."""


def test_nothing_more_is_taken_from_inside_of_gradio_and_uvicorn():
    taken = set()
    for path in (IMPORT_ROOT / "rankviz").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            module = getattr(node, "module", None) or ""
            if isinstance(node, ast.ImportFrom) and module.split(".")[0] in ("gradio", "gradio_client", "uvicorn"):
                taken |= {f"{module}.{each.name}" for each in node.names}

    assert INSIDE == taken


@pytest.fixture
def page():
    with PageBlocks(analytics_enabled=False) as page:
        gr.File()
    return page


def test_an_open_page_is_a_copy_of_the_pages_configuration(page):
    opened = SessionState(page)

    assert isinstance(page.default_config, PageConfig) and issubclass(PageConfig, BlocksConfig)
    assert isinstance(opened.blocks_config, PageConfig) and {} == dict(opened.blocks_config.blocks)
    assert not any(opened.config_values.values())


def test_unread_messages_are_ours(page):
    page.queue()

    assert isinstance(page._queue.pending_messages_per_session, Unread)
    assert page._queue.pending_messages_per_session.events is page._queue.pending_event_ids_session


@pytest.fixture
def requests(monkeypatch):
    with outside() as (environment, requests):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield requests


def test_no_address_is_fetched_and_nothing_of_it_is_left_on_the_disk(page, requests, tmp_path):
    (widget,) = page.blocks.values()
    widget.GRADIO_CACHE = str(tmp_path)
    for fetch in (
        lambda: asyncio.run(widget.async_move_resource_to_block_cache(ADDRESS)),
        lambda: widget.move_resource_to_block_cache(ADDRESS),
        lambda: widget.postprocess(ADDRESS),
    ):
        with pytest.raises(gr.Error, match="fetches no addresses"):
            fetch()
    request = Request({"type": "http", "method": "GET", "headers": [], "path": "/"})
    with pytest.raises(HTTPException, match="403"):
        asyncio.run(secure_url_stream_response("http://100.64.0.1:9/a-file", request))

    assert [] == requests
    assert [] == list(tmp_path.iterdir())


def test_the_progress_of_the_newest_uploads_alone_is_kept(page):
    statuses = routes.file_upload_statuses
    statuses.append("mine", "a.csv", b"12")
    assert statuses._signals["mine"].is_set()
    for number in range(MOST_UPLOADS):
        statuses.track(f"came {number}")
        assert not statuses._signals[f"asked {number}"].is_set()
    assert MOST_UPLOADS == len(statuses._signals) == len(statuses._statuses)

    statuses.append("mine", "a.csv", b"345")  # whose place was taken meanwhile

    assert 3 == statuses.pop("mine").chunk_size
    statuses.set_done("mine")
    assert statuses.is_done("mine")
