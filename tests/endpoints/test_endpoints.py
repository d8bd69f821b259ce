"""The named endpoints as functions: what Gradio reads of them, and Unsloth's settings in them."""

from inspect import signature

import gradio as gr
import pytest
from gradio.utils import get_function_description, get_type_hints

from rankviz.api import Api
from rankviz.core.lora.config import FLAGS
from rankviz.endpoints import publish


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory):
    with gr.Blocks() as page:
        publish(Api(home=tmp_path_factory.mktemp("home")))
    return {fn.api_name: fn.fn for fn in page.fns.values()}


DATA = ["examples", "example_tokens", "longest_tokens", "epochs"]


@pytest.mark.parametrize("name", ["estimate", "fit"])
def test_settings_of_adapter_and_data_are_the_last_arguments_with_a_type_a_default_and_a_meaning(endpoints, name):
    parameters = signature(endpoints[name]).parameters
    hints, meanings = get_type_hints(endpoints[name]), get_function_description(endpoints[name])[1]
    last = ["unsloth_class", *FLAGS, *DATA, "text_only", "expert_rank"]

    assert last == list(parameters)[-11:]
    assert ["FastLanguageModel", *[None] * 8, False, "r"] == [parameters[each].default for each in last]
    assert [str, *[bool | None] * 4, *[int | None] * 3, float | None, bool, str] == [hints[each] for each in last]
    assert set(parameters) == {each for each in parameters if meanings.get(each)}


def test_data_set_the_steps_of_every_endpoint(endpoints):
    data = {"examples": 5000, "example_tokens": 400, "longest_tokens": 1600, "epochs": 3}

    assert 1875 == endpoints["estimate"]("Qwen/Qwen3-4B", **data)["steps"]
    assert 3 * 5000 * 400 == endpoints["fit"]("Qwen/Qwen3-4B", **data)["tokens"]
    advised = endpoints["advise"]("Qwen/Qwen3-4B", **data)
    assert (5000 * 400, 3.0) == (advised["data"]["tokens"], advised["data"]["epochs"])
    assert (5000, 400) == (advised["goal"]["examples"], advised["goal"]["example_tokens"])
