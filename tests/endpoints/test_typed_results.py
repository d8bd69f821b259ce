"""Every endpoint publishes the fields of its result with their types."""

import gradio as gr
import pytest

from rankviz.api import Api
from rankviz.endpoints import publish
from tests.support.web.endpoints import ENDPOINTS


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
