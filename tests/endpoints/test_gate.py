"""What is checked of an endpoint's arguments before any of its code runs, and the types of what it returns."""

import inspect
import json
import math
from typing import Literal

import gradio as gr
import pytest

from rankviz.api import Api
from rankviz.endpoints import publish
from rankviz.endpoints.gate import MAX_ARGUMENT, MAX_LIST, finite, require
from rankviz.errors import InvalidSettingError
from rankviz.ui.wiring import with_defaults
from tests.support.web.endpoints import ENDPOINTS

DEEP = json.loads("[" * 900 + "]" * 900)
HOSTILE = [
    *("x" * (MAX_ARGUMENT + 1), "\ud800", "\x00"),
    *(math.nan, math.inf, -math.inf, 1e300, 10**300),
    *([16] * (MAX_LIST + 1), ["x"] * 1_000_000, DEEP, {"path": "/etc/passwd"}),
    {"path": ["/etc/passwd"], "meta": {"_type": "gradio.FileData"}},
    {str(number): 1.0 for number in range(1000)},
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with gr.Blocks() as page:
        publish(Api(home=tmp_path_factory.mktemp("home"), shared=True))
    return page


@pytest.fixture(scope="module")
def endpoints(page):
    return {fn.api_name: fn.fn for fn in page.fns.values()}


@pytest.mark.parametrize(
    ("kind", "accepted", "refused"),
    [
        (str, ["", "q_proj", "x" * MAX_ARGUMENT], [None, 1, ["x"]]),
        (int, [0, -1, 10**18], [None, "1", 1.0, True, 10**18 + 1]),
        (float, [0, 0.5], [None, "1", True, math.nan, math.inf]),
        (bool, [True, False], [0, "yes", None]),
        (int | None, [None, 3], ["3", 3.0]),
        (str | float, ["2r", 32, 0.5], [None, [1], True]),
        (list[int], [[], [1] * MAX_LIST], [None, 1, [1.5], [True], [[1]], [1] * (MAX_LIST + 1)]),
        (list[str], [["a"]], [["a", 1], ["\ud800"]]),
        (Literal["2r", "r"], ["r"], [None, 1, "x", ["r"]]),
        (Literal["2r", "r"] | None, [None, "2r"], [1, "x"]),
        (dict[str, float], [{"L4": 1}], [[1], {"L4": "1"}, {"L4": math.nan}, {"\ud800": 1.0}]),
    ],
)
def test_a_value_is_accepted_as_far_as_its_type_and_its_size_go(kind, accepted, refused):
    for value in accepted:
        require(value, kind, "it")
    for value in refused:
        with pytest.raises(InvalidSettingError, match=r"^it "):
            require(value, kind, "it")


def test_a_file_that_a_client_claims_to_have_uploaded_is_a_path_like_any_other(endpoints):
    forged = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}

    for name, argument in (("spectrum", "adapter"), ("resize", "adapter")):
        with pytest.raises(InvalidSettingError, match="it reads no files of its machine"):
            endpoints[name](**{argument: forged})
    with pytest.raises(InvalidSettingError, match="model must be a text"):
        endpoints["estimate"](model=forged)


def endpoint(model: str = "", ranks: list[int] = [16], data: str | None = None) -> None: ...  # noqa: B006


def test_a_call_by_place_gets_the_defaults_of_what_it_leaves_out(page, endpoints):
    for function in page.fns.values():
        defaults = [each.default for each in inspect.signature(endpoints[function.api_name]).parameters.values()]
        assert defaults == with_defaults(function, [])
        assert not defaults or [5, *defaults[1:]] == with_defaults(function, [5])
        assert defaults == with_defaults(function, defaults)
        with pytest.raises(InvalidSettingError, match=rf"{function.api_name} has {len(defaults)} arguments \(got 50\)"):
            with_defaults(function, range(50))


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_argument_of_every_endpoint_refuses_what_is_hostile_with_a_sentence(endpoints, name):
    function = endpoints[name]
    for argument, parameter in inspect.signature(function).parameters.items():
        for value in HOSTILE:
            with pytest.raises(InvalidSettingError, match=argument) as refusal:
                function(**{argument: value})
            assert len(str(refusal.value)) < 400, parameter


def test_numbers_that_json_does_not_have_are_null():
    assert {"a": [None, 1.5, None]} == finite({"a": (math.nan, 1.5, math.inf)})


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    with gr.Blocks() as page:
        publish(Api(home=tmp_path_factory.mktemp("home")))
    return {
        name.strip("/"): each["returns"][0]["type"] for name, each in page.get_api_info()["named_endpoints"].items()
    }


def untyped(schema, path=""):
    """Where a schema says nothing of a value."""
    if isinstance(schema, list):
        return [found for each in schema for found in untyped(each, path)]
    if not schema or schema.get("additionalProperties") == {}:
        return [path]
    inner = {**schema.get("properties", {}), "[]": schema.get("items"), "{}": schema.get("additionalProperties")}
    found = [place for name, each in inner.items() if each is not None for place in untyped(each, f"{path}.{name}")]
    return found + untyped([*schema.get("oneOf", []), *schema.get("anyOf", [])], path)


@pytest.mark.parametrize("name", ENDPOINTS)
def test_each_field_of_a_result_has_a_type(published, name):
    assert [] == untyped(published[name], name)
    one = published[name].get("items", published[name])
    assert set(one["properties"]) == set(one["required"])
