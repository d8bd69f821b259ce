"""What a browser's request may hold: texts and lists with limits, whichever widget they are of."""

import json

import pytest

from rankviz.api import Api
from rankviz.errors import InvalidSettingError
from rankviz.paths import ASSETS
from rankviz.ui.explore.answer import given, reply
from rankviz.ui.parts.question import DEFAULTS


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"), assets=ASSETS, shared=True)


TEXTS = [name for name, default in DEFAULTS.items() if isinstance(default, str)]
LISTS = [name for name, default in DEFAULTS.items() if isinstance(default, list)]


@pytest.mark.parametrize("text", ["x" * 5000, "\ud800", "a\0b"], ids=ascii)
def test_a_text_that_no_widget_holds_is_refused(api, text):
    for name in TEXTS:
        with pytest.raises(InvalidSettingError) as refused:
            given(api, {"values": {**DEFAULTS, name: text}})
        assert str(refused.value).startswith(f"{name} ")
        assert len(str(refused.value)) < 200


@pytest.mark.parametrize("value", [["x"] * 300, ["x" * 5000], ["\ud800"]], ids=["many", "long", "half"])
def test_a_list_that_no_widget_holds_is_refused(api, value):
    for name in LISTS:
        with pytest.raises(InvalidSettingError):
            given(api, {"values": {**DEFAULTS, name: value}})


@pytest.mark.parametrize("search", ["?" + "r=1&" * 9000, "?model=\ud800", "?model=a\0b"], ids=["long", "half", "nul"])
def test_an_address_that_is_none_is_answered_with_a_notice(api, search):
    response = reply(lambda body: given(api, body), json.dumps({"search": search}).encode())

    assert "The address" in json.loads(response.body)["notice"]
