"""Gradio 6.31 fetches no address for a request, by whichever door: where it does by another name, this fails."""

import asyncio

import gradio as gr
import pytest
from gradio.route_utils import secure_url_stream_response
from starlette.exceptions import HTTPException
from starlette.requests import Request

from rankviz.ui.blocks import PageBlocks
from tests.support.web.outside import outside

ADDRESS = "https://hf.co/a-file"
"""Of a name that Gradio fetches from without asking where it is."""


@pytest.fixture
def asked(monkeypatch):
    with outside() as (environment, requests):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield requests


@pytest.fixture
def widget():
    with PageBlocks(analytics_enabled=False):
        return gr.File()


def test_a_file_argument_is_not_fetched(widget, asked):
    with pytest.raises(gr.Error, match="fetches no addresses"):
        asyncio.run(widget.async_move_resource_to_block_cache(ADDRESS))
    with pytest.raises(gr.Error, match="fetches no addresses"):
        widget.move_resource_to_block_cache(ADDRESS)
    with pytest.raises(gr.Error, match="fetches no addresses"):
        widget.postprocess(ADDRESS)

    assert [] == asked


def test_an_address_behind_that_of_files_is_not_fetched(widget, asked):
    request = Request({"type": "http", "method": "GET", "headers": [], "path": "/"})

    with pytest.raises(HTTPException, match="403"):
        asyncio.run(secure_url_stream_response("http://100.64.0.1:9/a-file", request))

    assert [] == asked


def test_nothing_of_what_would_be_fetched_is_left_on_the_disk(widget, asked, tmp_path):
    widget.GRADIO_CACHE = str(tmp_path)

    with pytest.raises(gr.Error):
        asyncio.run(widget.async_move_resource_to_block_cache(ADDRESS))

    assert [] == list(tmp_path.iterdir())
