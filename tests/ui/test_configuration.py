"""What the browser is told of the page."""

import json
import urllib.request

import pytest

from rankviz.api import Api
from rankviz.ui.page import build_app


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return build_app(Api(home=tmp_path_factory.mktemp("home")))


def test_the_html_of_the_page_has_at_most_255_kilobytes(address):
    assert len(urllib.request.urlopen(address).read()) <= 255_000


def test_endpoints_are_told_to_those_who_call_them_and_not_in_the_page(address):
    page = urllib.request.urlopen(address).read().decode()
    described = json.load(urllib.request.urlopen(f"{address}/gradio_api/info"))["named_endpoints"]
    events = json.load(urllib.request.urlopen(f"{address}/config"))["dependencies"]

    assert "finetune_vision_layers" not in page
    assert "/estimate" in described
    assert "estimate" in [event.get("api_name") for event in events]
