"""Every endpoint publishes the fields of its result with their types, and answers with these and no others."""

import gradio as gr
import pytest

from rankviz import paths
from rankviz.api import Api
from rankviz.catalog.models import load_index
from rankviz.endpoints import publish
from rankviz.errors import RankVizError
from tests.support.web.endpoints import ENDPOINTS, functions_of

MODELS = [row.id for row in load_index(paths.ASSETS)]
SETUPS = [
    ("l4", "nf4-dq", "unsloth"),
    ("h100-80gb-sxm", "bf16", "trl"),
    (None, "nf4-dq", "trl"),
    ("l4", "bf16", "unsloth"),
]


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def call(api):
    return functions_of(api)


@pytest.fixture(scope="module")
def published(api):
    with gr.Blocks() as page:
        publish(api)
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


@pytest.mark.parametrize("place", range(len(SETUPS)))
def test_the_cost_of_each_model_of_the_catalogue(call, place):
    gpu, precision, framework = SETUPS[place]
    setup = {"gpu": gpu, "precision": precision, "framework": framework, "targets": "all-linear"}
    models = MODELS[place :: 3 * len(SETUPS)]

    answered = [model for model in models if _costs(call, model, setup)]
    assert len(models) / 2 < len(answered)


def _costs(call, model, setup):
    """Whether this can be combined."""
    try:
        answers = call["estimate"](model, [1, 64], **setup), call["fit"](model, 64, **setup)
    except RankVizError:
        return False
    return {model} == {answer["model_id"] for answer in answers}


def test_data_set_the_steps_of_every_endpoint(call):
    data = {"examples": 5000, "example_tokens": 400, "longest_tokens": 1600, "epochs": 3}

    assert 1875 == call["estimate"]("Qwen/Qwen3-4B", **data)["steps"]
    assert 3 * 5000 * 400 == call["fit"]("Qwen/Qwen3-4B", **data)["tokens"]
    advised = call["advise"]("Qwen/Qwen3-4B", **data)
    assert (5000 * 400, 3.0) == (advised["data"]["tokens"], advised["data"]["epochs"])
    assert (5000, 400) == (advised["goal"]["examples"], advised["goal"]["example_tokens"])
