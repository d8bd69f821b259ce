"""Multimodal models in the scripts for TRL and PEFT: the class that loads them, and targets that keep to the text tower
where transformers loads all of the model."""

import pytest

from rankviz.catalog.models import load_index, load_model
from rankviz.exports import recipe
from tests.support.quick import first_quick
from tests.support.runs import questions
from tests.support.runs.toy import ASSETS

MULTIMODAL = [row.id for row in load_index(ASSETS) if row.tower != "text"]
WHOLE_FOR_TEXT = ("google/gemma-3-4b-it", "google/gemma-4-26B-A4B", "mistralai/Ministral-3-3B-Instruct-2512")


def made(model_id, framework="trl", **settings):
    question = questions.question(model_id, framework=framework, **settings)
    return recipe(load_model(ASSETS, model_id), question, 8, framework=framework)


def whole_config(model_id):
    """The config.json as the Hub has it: of the whole model."""
    file = model_id.removesuffix(":whole").replace("/", "__")
    full = ASSETS / "configs" / f"{file}.full.json"
    return full if full.is_file() else ASSETS / "configs" / f"{file}.json"


@pytest.mark.torch
def test_the_class_that_loads_it_makes_the_architecture_that_was_counted():
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    for model_id in MULTIMODAL:
        export, config = made(model_id, "unsloth"), AutoConfig.from_pretrained(whole_config(model_id))
        classes = AutoModelForImageTextToText if export.plan.model.is_whole else AutoModelForCausalLM

        loaded = classes._model_mapping[type(config)].__name__
        assert export.loads_whole_for_text is (loaded != load_model(ASSETS, model_id).architecture), model_id


@pytest.mark.torch
@pytest.mark.parametrize("model_id", WHOLE_FOR_TEXT)
@pytest.mark.parametrize("targets", first_quick(["all-linear", "unsloth"]))
def test_peft_trains_by_the_pattern_what_was_counted(model_id, targets):
    from peft import LoraConfig, get_peft_model

    from tests.support.models.meta_models import build

    export = made(model_id, target_modules=targets)
    adapter = LoraConfig(
        r=8,
        target_modules=export.target_modules,
        target_parameters=list(export.target_parameters) or None,
        task_type="CAUSAL_LM",
    )

    model = get_peft_model(build(whole_config(model_id)), adapter, low_cpu_mem_usage=True)
    assert export.adapter_parameters == model.get_nb_trainable_parameters()[0]
