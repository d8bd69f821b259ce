"""The named endpoints as functions: what Gradio reads of them, and Unsloth's settings in them."""

from inspect import signature

import gradio as gr
import pytest
from gradio.utils import get_function_description, get_type_hints

from rankviz.api import Api
from rankviz.core.lora.config import FLAGS
from rankviz.endpoints import publish

GEMMA = "google/gemma-3-4b-it:whole"


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


def test_the_advice_counts_the_expert_rank_and_compares_studies_with_it(endpoints):
    whole, divided = (endpoints["advise"]("openai/gpt-oss-20b", expert_rank=each) for each in ("r", "r/active"))

    assert divided["capacity"]["parameters"] < whole["capacity"]["parameters"]
    assert [True, False] == ["divided by the number of active" in str(each["nearest"]) for each in (whole, divided)]


def test_the_class_and_the_flags_change_what_is_counted(endpoints):
    def counted(**unsloth):
        answer = endpoints["estimate"](model=GEMMA, ranks=[1], **unsloth)
        return answer["ranks"][0]["adapter_parameters"]

    # Vision's q, k and v: 27 blocks, 1152 in and out.
    vision = 27 * 3 * (1152 + 1152)
    assert vision == counted(finetune_vision_layers=True) - counted()
    assert vision == counted(unsloth_class="FastModel") - counted()
    # MLP of the text model: 34 blocks, gate, up and down of 2560 and 10240.
    assert 34 * 3 * (2560 + 10240) == counted() - counted(finetune_mlp_modules=False)
