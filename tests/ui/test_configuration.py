"""What the browser is told of the page."""

import json
import urllib.request

import pytest

from rankviz.api import Api
from rankviz.ui.blocks import DESCRIPTIONS
from rankviz.ui.page import build_app


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return build_app(Api(home=tmp_path_factory.mktemp("home")))


def test_the_widgets_of_the_page_are_not_described_for_endpoints_that_they_do_not_belong_to(app):
    described = {c["type"] for c in app.get_config_file()["components"] if set(DESCRIPTIONS) & set(c)}

    assert {"api"} == described


def test_the_parts_of_the_page_are_described_once_however_often_gradio_asks(app):
    assert app.config["components"] is app.get_config_file()["components"]


def test_the_html_of_the_page_has_at_most_255_kilobytes(address):
    assert len(urllib.request.urlopen(address).read()) <= 255_000


def test_endpoints_are_told_to_those_who_call_them_and_not_in_the_page(address):
    page = urllib.request.urlopen(address).read().decode()
    described = json.load(urllib.request.urlopen(f"{address}/gradio_api/info"))["named_endpoints"]
    events = json.load(urllib.request.urlopen(f"{address}/config"))["dependencies"]

    assert "finetune_vision_layers" not in page
    assert "/estimate" in described
    assert "estimate" in [event.get("api_name") for event in events]


def test_no_widget_starts_with_more_than_a_kilobyte_of_content_except_the_choice_of_models(app):
    """The page is built from this configuration, and each event copies the values that it takes."""
    values = {
        c["props"].get("elem_id") or c["id"]: len(json.dumps(c["props"].get("value")))
        for c in app.get_config_file()["components"]
    }

    assert [] == [name for name, size in values.items() if size > 4_000]
