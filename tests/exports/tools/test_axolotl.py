"""The YAML for Axolotl, by Axolotl's own validation; and what it and LLaMA-Factory are told of a measured file."""

import json
from dataclasses import asdict

import pytest
import yaml

from rankviz.api.data import measured, measured_from
from rankviz.core.cost.setup import TrainingData
from rankviz.dataset.rows import REQUIRED
from rankviz.errors import InvalidSettingError
from rankviz.exports.configs import AXOLOTL_VERSION as VERSION
from rankviz.exports.configs import axolotl, dataset_info, llamafactory
from tests.support.models.recipes import SETTINGS, made
from tests.support.models.tiny_llama import save_tokenizer
from tests.support.models.tool_wheels import AXOLOTL, checked, unpacked
from tests.support.runs.toy import ASSETS

CHECK = """
import json, sys
from axolotl.prompt_strategies import chat_template, completion, user_defined
from axolotl.utils.config import prepare_plugins, validate_config
from axolotl.utils.dict import DictDefault
from axolotl.integrations.liger.args import LigerArgs
from axolotl.utils.schemas.config import AxolotlInputConfig
from axolotl.utils.schemas.enums import CustomSupportedOptimizers
from transformers import AutoTokenizer
from transformers.training_args import OptimizerNames
known = {*AxolotlInputConfig.model_fields, *LigerArgs.model_fields}
optimizers = {each.value for names in (OptimizerNames, CustomSupportedOptimizers) for each in names}
card = {"bf16": True, "fp8": False, "tf32": True, "n_gpu": 1, "n_node": 1, "compute_capability": "sm_89"}
results = {}
cases = json.load(sys.stdin)
for name, config in cases["settings"].items():
    settings = DictDefault(config)
    prepare_plugins(settings)
    try:
        accepted, error = validate_config(settings, card, {"torch_version": "2.14.0"}).to_dict(), None
    except ValueError as wrong:
        accepted, error = {}, str(wrong)
    accepted = {key: value for key, value in accepted.items() if key in config}
    unknown = {*config} - known | ({config["optimizer"]} - optimizers)
    results[name] = {"unknown": sorted(unknown), "error": error, "accepted": accepted}

def learned(config, eos, row):
    tokenizer = AutoTokenizer.from_pretrained(cases["tokenizer"])
    tokenizer.eos_token = eos
    (rows,), cfg = config["datasets"], DictDefault(config)
    if rows["type"] == "completion":
        strategy = completion.load(tokenizer, cfg, {"field": rows["field"]})
        return tokenizer.decode(strategy.tokenize_prompt({key: [value] for key, value in row.items()})["input_ids"][0])
    if isinstance(rows["type"], dict):
        strategy = user_defined.load(tokenizer, cfg, user_defined.UserDefinedDatasetConfig(**rows["type"]))
    else:
        strategy = chat_template.load(tokenizer, cfg, ds_cfg=DictDefault(rows))
    return tokenizer.decode([label for label in strategy.tokenize_prompt(row)["labels"] if label != -100])

learnt = {name: learned(*case) for name, case in cases["cases"].items()}
print("CHECKED", json.dumps({"learned": learnt, "validated": results}, default=str))
"""
TURNS = (("system", "Be brief."), ("user", "One?"), ("assistant", "abc"), ("user", "More."), ("assistant", "xyz"))
SHAREGPT_ROLES = {"user": "human", "assistant": "gpt", "system": "system"}
CHAT = {"messages": [{"role": role, "content": text} for role, text in TURNS]}
SHAREGPT = {"conversations": [{"from": SHAREGPT_ROLES[role], "value": text} for role, text in TURNS]}
ROWS_OF = {
    "messages": CHAT,
    "conversations": SHAREGPT,
    "prompt-completion": {"prompt": "Name a letter. ", "completion": "abc"},
    "instruction": {"instruction": "Name a letter.", "input": "", "output": "abc"},
    "text": {"text": "abc"},
    "instruction.no-input": {"instruction": "Name a letter.", "output": "abc"},
}
LEARNED = {form: "abc<|im_end|>xyz<|im_end|>" for form in ROWS_OF if form[0] in "mc"}
"""By form, where it isn't "abc<|im_end|>"."""
BASE = {"model_id": "meta-llama/Llama-3.1-8B", "model_type": "llama"}
GEMMA = {"model_id": "google/gemma-3-4b-it", "model_type": "gemma3_text"}
FORMS = tuple(REQUIRED)
FORM_CASES = [f"form {form}" for form in FORMS]
BASES = {"base": BASE["model_id"], "gemma": GEMMA["model_id"]}


def config(**changes):
    return yaml.safe_load(axolotl(made(**{"framework": "trl", **changes})))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """What Axolotl's validation says of each setting and of three that are wrong, and what its strategies learn of a
    row: the tokenizer's end token ends a turn, or another token does."""
    assert f"axolotl=={VERSION}" == AXOLOTL[0]
    save_tokenizer(folder := tmp_path_factory.mktemp("tokenizer"))
    cases, settings = {}, {name: config(**changes) for name, changes in SETTINGS.items()}
    for form, row in ROWS_OF.items():
        name, *traits = form.split(".")
        data = TrainingData(form=name, traits=tuple(traits), file_name="mine.csv")
        cases[f"chat {form}"] = (config(data=data), "<|im_end|>", row)
        cases[f"base {form}"] = (config(data=data, **BASE), "<|im_end|>", row)
    settings |= {f"form {form}": config(data=TrainingData(form=form, file_name="mine.csv")) for form in FORMS}
    experts = {"target_parameters": ("mlp.experts.down_proj",)}
    settings |= {"base": config(**BASE), "gemma": config(**GEMMA), "experts": config(**experts)}
    settings["experts alone"] = config(target_modules=(), **experts)
    wrong = {"misspelt": {"lora_rank": 8}, "wrong": {"lora_r": "many"}, "optimizer": {"optimizer": "no_such_optimizer"}}
    settings |= {name: {**config(), **values} for name, values in wrong.items()}
    wheels = unpacked(AXOLOTL, tmp_path_factory.mktemp("axolotl"))
    return checked(wheels, CHECK, {"tokenizer": str(folder), "cases": cases, "settings": settings}, folder)


@pytest.mark.torch
@pytest.mark.parametrize("setting", [*SETTINGS, "experts", "experts alone", "base", "gemma", *FORM_CASES])
def test_axolotls_own_validation_takes_it(theirs, setting):
    result = theirs["validated"][setting]

    assert result["error"] is None
    assert [] == result["unknown"]
    assert BASES.get(setting, "Qwen/Qwen3-4B") == result["accepted"]["base_model"]
    assert SETTINGS.get(setting, {}).get("r", 8) == result["accepted"]["lora_r"]


@pytest.mark.torch
def test_the_check_sees_a_key_and_a_value_that_axolotl_does_not_know(theirs):
    validated = theirs["validated"]
    assert ["lora_rank"] == validated["misspelt"]["unknown"]
    assert "lora_r" in validated["wrong"]["error"]
    assert ["no_such_optimizer"] == validated["optimizer"]["unknown"]


@pytest.mark.torch
@pytest.mark.parametrize("model", ["chat", "base"])
@pytest.mark.parametrize("form", ROWS_OF)
def test_axolotls_own_code_learns_the_answers_of_each_form_with_their_end(theirs, form, model):
    assert LEARNED.get(form, "abc<|im_end|>") == theirs["learned"][f"{model} {form}"]


def turn(role, content="a", keys=("role", "content")):
    return dict(zip(keys, (role, content), strict=True))


def shared(role, content="a"):
    return turn(role, content, ("from", "value"))


OPENAI, SHARED = [turn("user"), turn("assistant")], [shared("human"), shared("gpt")]
REFUSED = {
    "a number": {"prompt": "3+1=", "completion": 4},
    "a number in a chat": {"messages": [turn("user", 3), turn("assistant")]},
    "lists": {"prompt": OPENAI[:1], "completion": OPENAI[1:]},
    "JSON in text": {"messages": json.dumps(OPENAI)},
    "both keys": {"messages": [turn("user"), shared("assistant")]},
    "from under messages": {"messages": SHARED},
    "human and gpt under role": {"messages": [turn("human"), turn("gpt")]},
}


def data(folder, *rows, name="mine.jsonl", text=""):
    path = folder / name
    path.write_text(text or "".join(json.dumps(row) + "\n" for row in (*rows, *rows)))
    return measured_from(json.loads(json.dumps(asdict(measured(str(path), ASSETS))))).training


@pytest.mark.parametrize(("column", "chat"), [("messages", OPENAI), ("conversations", SHARED)])
def test_keys_and_roles_are_those_of_the_form(tmp_path, column, chat):
    recipe = made(framework="trl", data=data(tmp_path, {column: chat}))
    (role, user), (content, _) = chat[0].items()

    described = json.loads(dataset_info(recipe))["train"]
    (rows,) = yaml.safe_load(axolotl(recipe))["datasets"]
    shown = next(line for line in axolotl(recipe).splitlines() if line.startswith(f'# {{"{column}"'))

    names = {"role_tag": role, "content_tag": content, "user_tag": user, "assistant_tag": chat[1][role]}
    assert ({"messages": column}, names | {"system_tag": "system"}) == (described["columns"], described["tags"])
    assert column == rows["field_messages"]
    assert (rows.get("message_property_mappings") or {"role": "role"})["role"] == role
    assert json.loads(shown.removeprefix("# ").replace("…", "a")) == {column: chat}


@pytest.mark.parametrize("tool", [axolotl, llamafactory])
@pytest.mark.parametrize("kind", REFUSED)
def test_rows_that_the_tools_cannot_read_are_refused(tmp_path, kind, tool):
    with pytest.raises(InvalidSettingError, match=r"rows of mine.jsonl: .* Use the Unsloth or TRL script"):
        tool(made(framework="trl", data=data(tmp_path, REFUSED[kind])))
