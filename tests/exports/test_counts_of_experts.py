"""The files for other tools of a mixture of experts, asked of Unsloth: real PEFT trains the count that each states."""

import ast
import functools
import json
import re

import pytest
import yaml

from rankviz.catalog.models import load_index, load_model
from rankviz.core.model.towers import LOADED_WHOLE
from rankviz.errors import InvalidSettingError
from rankviz.exports import recipe, script, write
from tests.support.models.shallow import shallow
from tests.support.models.tiny_models import make_tiny
from tests.support.quick import first_quick
from tests.support.runs import questions
from tests.support.runs.toy import ASSETS

pytestmark = pytest.mark.torch

ALL = [load_model(ASSETS, row.id) for row in load_index(ASSETS)]
BY_FAMILY = {model.model_type: model for model in sorted(ALL, key=lambda m: -m.total_parameters) if model.has_experts}
"""The smallest of each."""
FORMATS = ("trl", "peft", "adapter-config", "axolotl")
COUNT = r"counts ([\d,]+) trainable"
R = 8


@pytest.fixture(scope="module", autouse=True)
def many():
    from tests.support.models.meta_models import many_models

    with many_models():
        yield


@pytest.fixture(scope="module")
def built_of(tmp_path_factory):
    """A family's model and the config.json of it: of a text model that is loaded alone, the first blocks."""
    folder = tmp_path_factory.mktemp("shallow")

    @functools.cache
    def built(family):
        model = BY_FAMILY[family]
        return shallow(model.id, folder) if model.whole is None and not model.is_whole else (model, config_of(model))

    return built


@pytest.mark.parametrize(
    ("targets", "rank"), first_quick([("unsloth", "r"), ("all-linear", "r"), ("unsloth", "r/active")])
)
@pytest.mark.parametrize("family", BY_FAMILY)
def test_peft_trains_the_count_of_the_file(built_of, family, targets, rank):
    model, config = built_of(family)
    question = questions.question(model.id, target_modules=targets, expert_rank=rank)
    if (family, targets) == ("gemma4", "unsloth"):  # its vision tower wraps linear layers of these names
        with pytest.raises(InvalidSettingError, match=r"model\.vision_tower"):
            write(model, question, R, "peft")
        return
    files = {name: write(model, question, R, name) for name in FORMATS}

    assert stated(files) == {trained(config, *names_in(name, file.text)) for name, file in files.items()}


def stated(files):
    """The counts in the files that have comments."""
    return {int(found[1].replace(",", "")) for file in files.values() if (found := re.search(COUNT, file.text))}


def names_in(name, text):
    """target_modules, target_parameters and rank_pattern of a file."""
    if name == "axolotl":
        values = yaml.safe_load(text)
        modules = "all-linear" if values.get("lora_target_linear") else values["lora_target_modules"]
        return frozen(modules), frozen(values.get("lora_target_parameters")), patterns(values, "lora_")
    values = json.loads(text) if name == "adapter-config" else arguments(text)
    return frozen(values["target_modules"]), frozen(values.get("target_parameters")), patterns(values)


def arguments(text):
    """Keyword arguments of the script's LoraConfig."""
    calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    (call,) = (node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "LoraConfig")
    return {each.arg: ast.literal_eval(each.value) for each in call.keywords}


def patterns(values, prefix=""):
    return tuple(values.get(f"{prefix}rank_pattern", {}).items())


def frozen(names):
    return names if names is None or isinstance(names, str) else tuple(names)


@functools.cache
def trained(path, modules, parameters, ranks=()):
    """By PEFT itself, on the model as the scripts load it."""
    from peft import LoraConfig, get_peft_model

    from tests.support.models.meta_models import build

    base = build(path)
    config = LoraConfig(
        r=R,
        target_modules=modules if isinstance(modules, str) else list(modules),
        target_parameters=list(parameters) if parameters else None,
        rank_pattern=dict(ranks),
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(base, config, low_cpu_mem_usage=True)
    return sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def config_of(model):
    """The config.json of what transformers loads: a text tower of these families comes with the rest."""
    path = ASSETS / "configs" / f"{model.id.removesuffix(':whole').replace('/', '__')}.json"
    whole = path.with_suffix(".full.json")
    return whole if whole.is_file() and (model.tower == "whole model" or model.model_type in LOADED_WHOLE) else path


MOE = "Qwen/Qwen3-30B-A3B"
NAMES = ["q_proj", "gate_proj", "up_proj", "down_proj"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


@pytest.mark.torch
def test_these_lines_load_the_adapter_as_it_was_trained(tmp_path):
    import torch
    from peft import LoraConfig as PeftConfig
    from peft import PeftModel, get_peft_model
    from peft.utils import transformers_weight_conversion as conversion
    from transformers import AutoModelForCausalLM

    made = recipe(load_model(ASSETS, MOE), questions.question(MOE), 8, framework="unsloth")
    # the commented lines between the import and the load, as code
    lines = [line.removeprefix("# ") for line in script(made).splitlines() if "conversion" in line]
    assert 2 == len(lines)
    base, own = make_tiny("qwen3_moe", tmp_path / "base"), conversion._convert_peft_config_moe
    tokens = torch.tensor([[5, 6, 7, 8]])

    def loaded():
        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")

    def counted(model):
        return sum(parameter.numel() for name, parameter in model.named_parameters() if "lora_" in name)

    try:
        conversion._convert_peft_config_moe = lambda config, model: None  # as Unsloth keeps PEFT from it
        config = PeftConfig(r=4, target_modules=NAMES, target_parameters=EXPERTS, init_lora_weights=False)
        trained = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
        trained.save_pretrained(tmp_path / "adapter")
        conversion._convert_peft_config_moe = own
        with pytest.raises(RuntimeError, match="size mismatch"):
            loaded()

        exec("\n".join(lines), {})
        model = loaded()
    finally:
        conversion._convert_peft_config_moe = own

    assert counted(trained) == counted(model)
    assert torch.equal(trained(input_ids=tokens).logits, model(input_ids=tokens).logits)
