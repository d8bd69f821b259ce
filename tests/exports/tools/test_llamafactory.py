"""The YAML for LLaMA-Factory, of multimodal models too, and what LLaMA-Factory's own code makes of it."""

import csv
import json

import pytest
import yaml

from rankviz.catalog.models import load_index, load_model
from rankviz.core.cost.setup import TrainingData
from rankviz.exports import write
from rankviz.exports.configs import LLAMAFACTORY_VERSION, dataset_info, llamafactory
from rankviz.exports.recipe import composite, data, listed, llamafactory_template
from rankviz.paths import IMPORT_ROOT
from tests.exports.test_formats import whole_config
from tests.support.models.recipes import SETTINGS, made
from tests.support.models.tool_wheels import LLAMAFACTORY, checked, unpacked
from tests.support.runs import questions
from tests.support.runs.toy import ASSETS

CHECK = """
import ast, importlib.machinery, json, re, sys, types
audio = types.ModuleType("torchaudio")  # imported for models that hear, used by none here
audio.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
sys.modules["torchaudio"] = audio
from llamafactory.data.converter import get_dataset_converter
from llamafactory.data.mm_plugin import get_mm_plugin
from llamafactory.data.parser import get_dataset_list
from llamafactory.data.processor.supervised import SupervisedDatasetProcessor
from llamafactory.data.template import TEMPLATES, get_template_and_fix_tokenizer
from llamafactory.extras import constants
from llamafactory.hparams import DataArguments
from llamafactory.hparams.parser import get_train_args
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
cases, results = json.load(sys.stdin), {}
for name, config in cases["settings"].items():
    config["use_cpu"] = True  # this machine's card, or none, is not what is checked
    config.pop("enable_liger_kernel", None) if name != "liger" else None
    try:
        model, data, training, tuning, _ = get_train_args(config)
        results[name] = {
            "error": None, "model": model.model_name_or_path, "bits": model.quantization_bit, "r": tuning.lora_rank,
            "alpha": tuning.lora_alpha, "targets": tuning.lora_target, "saved": tuning.additional_target,
            "dora": tuning.use_dora, "rslora": tuning.use_rslora, "length": data.cutoff_len,
            "steps": training.max_steps, "rate": training.learning_rate, "optim": str(training.optim.value),
            "batch": training.per_device_train_batch_size, "accumulation": training.gradient_accumulation_steps,
        }
    except (ValueError, ImportError) as error:
        results[name] = {"error": str(error)}

def tokenizer_of(template):
    forms = (template.format_user, template.format_assistant, template.format_system, template.format_prefix)
    text = " ".join(map(str, [*(slot for form in forms for slot in form.slots), *template.stop_words]))
    marks = re.findall("<[^<>\\s]+>|\\[/?[A-Z]+\\]", text)
    markers = list(dict.fromkeys(["<s>", "</s>", *marks]))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(markers + alphabet)}, merges=[], unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", additional_special_tokens=markers[2:]
    )

def learned(name, row):
    data = DataArguments(template=name, dataset_dir=cases["folder"], dataset=row["dataset"])
    tokenizer = tokenizer_of(TEMPLATES[name])
    template = get_template_and_fix_tokenizer(tokenizer, data)
    template.mm_plugin = get_mm_plugin("base")  # these rows have no pictures, and there is no processor to put them in
    (attributes,) = get_dataset_list([row["dataset"]], cases["folder"])
    aligned = get_dataset_converter(attributes.formatting, attributes, data)(row["row"])
    processor = SupervisedDatasetProcessor(template, tokenizer, None, data)
    (labels,) = processor.preprocess_dataset({key: [value] for key, value in aligned.items()})["labels"]
    tokens = [token for token in labels if token != -100]
    return tokenizer.decode(tokens).rstrip()

def groups():
    # Hub id and the template of its group, read in the source: what is registered forgets it for most names.
    for node in ast.walk(ast.parse(open(constants.__file__).read())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "register_model_group":
            given = {each.arg: each.value for each in node.keywords}
            for sources in given["models"].values if "template" in given else ():
                name = next(value.value for key, value in zip(sources.keys, sources.values) if key.attr == "DEFAULT")
                yield name, given["template"].value

print("CHECKED", json.dumps({
    "forms": {row["dataset"]: learned("qwen", row) for row in cases["forms"]},
    "own": dict(groups()),
    "parsed": results,
}))
"""
FORM_ROWS = {
    "prompt-completion": {"prompt": "Name a letter.", "completion": "abc"},
    "messages": {"messages": [{"role": "user", "content": "Name one."}, {"role": "assistant", "content": "abc"}]},
    "conversations": {"conversations": [{"from": "human", "value": "Name a letter."}, {"from": "gpt", "value": "abc"}]},
    "instruction": {"instruction": "Name a letter.", "input": "Any.", "output": "abc"},
    "instruction.no-input": {"instruction": "Name a letter.", "output": "abc"},
}
"""The forms but plain text, which stage pt learns whole."""


def config(**changes):
    return yaml.safe_load(llamafactory(made(**{"framework": "trl", **changes})))


@pytest.mark.parametrize(
    ("model_id", "template"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3"),
        ("unsloth/Qwen3-4B-Instruct-2507-unsloth-bnb-4bit", "qwen3_nothink"),
        ("google/gemma-3-4b-it", "gemma3"),
        ("/models/Phi-4-mini-instruct", "phi4_mini"),
        ("meta-llama/Llama-3.1-8B", "fewshot"),
        ("Qwen/Qwen3-4B-Base", "fewshot"),
        ("baidu/ERNIE-4.5-21B-A3B-Base-PT", "fewshot"),
    ],
)
def test_the_template_is_the_familys_for_chat_models_and_plain_text_for_base_models(model_id, template):
    assert template == config(model_id=model_id, model_type="")["template"]


def test_a_model_that_is_not_listed_goes_by_its_type_or_by_what_it_is_a_copy_of():
    assert "gemma3" == llamafactory_template("me/medgemma-tuned-it", "gemma3")
    assert "falcon_h1" == llamafactory_template("unsloth/Falcon-H1-7B-Instruct-bnb-4bit", "")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"precision": "fp32"}, "no fp32 base"),
        ({"loss_path": "triton"}, "no setting for the loss path 'triton'"),
        ({"framework": "unsloth", "gradient_checkpointing": "none"}, "checkpointing is always Unsloth's"),
    ],
)
def test_what_it_has_no_word_for_is_said_in_a_comment(changes, sentence):
    text = llamafactory(made(**{"framework": "trl", **changes}))

    comments = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    assert sentence in comments
    assert "not of LLaMA-Factory" in comments


def data_of(kind):
    """ "messages.from.user": a form and traits."""
    form, *traits = kind.split(".")
    return TrainingData(form=form, traits=tuple(traits))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    return unpacked(LLAMAFACTORY, tmp_path_factory.mktemp("llamafactory"))


@pytest.fixture(scope="module")
def theirs(wheels, tmp_path_factory):
    """What LLaMA-Factory's own code makes of each setting, of some that are wrong, and of a row of each form, and its
    models' templates."""
    assert f"llamafactory=={LLAMAFACTORY_VERSION}" == LLAMAFACTORY[0]
    folder = tmp_path_factory.mktemp("data")
    described = {form: json.loads(dataset_info(made(data=data_of(form))))["train"] for form in FORM_ROWS}
    (folder / "dataset_info.json").write_text(json.dumps(described), encoding="utf-8")
    forms = [{"dataset": form, "row": row} for form, row in FORM_ROWS.items()]
    settings = {name: config(**changes) for name, changes in SETTINGS.items()}
    settings |= {"liger": config(), "misspelt": {**config(), "lora_r": 8}, "wrong": {**config(), "optim": "no_such"}}
    return checked(wheels, CHECK, {"folder": str(folder), "forms": forms, "settings": settings}, folder)


@pytest.mark.torch
@pytest.mark.parametrize("setting", SETTINGS)
def test_llamafactorys_own_parser_takes_it(theirs, setting):
    result, recipe = theirs["parsed"][setting], made(**{"framework": "trl", **SETTINGS[setting]})

    assert result["error"] is None
    assert (recipe.lora.r, recipe.lora_alpha) == (result["r"], result["alpha"])
    assert (recipe.lora.use_dora, recipe.lora.use_rslora) == (result["dora"], result["rslora"])
    assert {"nf4": 4, "nf4-dq": 4, "int8": 8}.get(recipe.training.precision) == result["bits"]
    assert (list(recipe.plan.modules_to_save) or None) == result["saved"]
    assert (recipe.max_steps, recipe.learning_rate) == (result["steps"], result["rate"])
    assert recipe.training.max_length == result["length"]
    assert recipe.training.per_device_train_batch_size == result["batch"]
    assert recipe.training.gradient_accumulation_steps == result["accumulation"]


@pytest.mark.torch
def test_the_check_sees_an_argument_and_a_value_that_llamafactory_does_not_know(theirs):
    assert "lora_r" in theirs["parsed"]["misspelt"]["error"]
    assert "no_such" in theirs["parsed"]["wrong"]["error"]


@pytest.mark.torch
def test_the_list_is_llamafactorys_own(theirs):
    with (ASSETS / "llamafactory_templates.csv").open(encoding="utf-8", newline="") as file:
        names = [row["id"] for row in csv.DictReader(file)]

    assert theirs["own"] == {name: listed()[name.lower()]["template"] for name in names}
    assert sorted(names) == names


@pytest.mark.torch
@pytest.mark.parametrize("form", FORM_ROWS)
def test_llamafactorys_own_code_reads_each_form(theirs, form):
    assert "abc<|im_end|>" == theirs["forms"][form]


REACH = """
import importlib.machinery, json, sys, types
cases = json.load(sys.stdin)
sys.path.insert(0, cases["root"])
audio = types.ModuleType("torchaudio")  # imported for models that hear, used by none here
audio.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
sys.modules["torchaudio"] = audio
import llamafactory
for name in ("llamafactory.model", "llamafactory.model.model_utils"):  # without the trainers that they import
    package = types.ModuleType(name)
    package.__path__ = [llamafactory.__path__[0] + "/" + "/".join(name.split(".")[1:])]
    sys.modules[name] = package
from copy import deepcopy
from functools import lru_cache
from llamafactory.model.model_utils.misc import find_all_linear_modules
from llamafactory.model.model_utils.visual import COMPOSITE_MODELS, patch_target_modules
from peft import LoraConfig, get_peft_model
from tests.support.models.meta_models import build, many_models

fresh = lru_cache(1)(build)

def count(case):
    model, frozen = deepcopy(fresh(case["config"])), case["frozen"]
    tuning = types.SimpleNamespace(
        freeze_vision_tower=frozen, freeze_multi_modal_projector=frozen, freeze_language_model=False
    )
    names = case["targets"].split(",")
    names = find_all_linear_modules(model, frozen) if names == ["all"] else names
    adapter = LoraConfig(r=8, target_modules=patch_target_modules(model, tuning, names), task_type="CAUSAL_LM")
    try:
        return get_peft_model(model, adapter, low_cpu_mem_usage=True).get_nb_trainable_parameters()[0]
    except ValueError as error:
        return "refused: " + str(error)[:80]

with many_models():
    counts = {name: count(case) for name, case in cases["models"].items()}
known = {
    name: [sorted(keys) for keys in (each.projector_keys, each.vision_model_keys, each.lora_conflict_keys)]
    for name, each in COMPOSITE_MODELS.items()
}
print("CHECKED", json.dumps({"counts": counts, "known": known}))
"""


def one_of_each_kind():
    """The smallest catalogue model of each multimodal family, as text tower and whole."""
    kinds = {}
    for model in sorted((load_model(ASSETS, row.id) for row in load_index(ASSETS)), key=lambda each: len(each.layers)):
        if composite(model):
            kinds.setdefault((model.model_type, model.tower), model)
    return {model.id: model for model in kinds.values()}


MODELS = one_of_each_kind()
TARGETS = ("unsloth", "all-linear")
CASES = [(model_id, targets) for model_id in MODELS for targets in TARGETS]


def written(model_id, targets="unsloth"):
    question = questions.question(model_id, target_modules=targets)
    return write(MODELS[model_id], question, 8, "llamafactory")


@pytest.fixture(scope="module")
def real(wheels, tmp_path_factory):
    """What LLaMA-Factory's functions and PEFT make of each exported file."""
    models = {}
    for model_id, targets in CASES:
        config = yaml.safe_load(written(model_id, targets).text)
        models[f"{model_id} {targets}"] = {
            "config": str(whole_config(model_id)),
            "targets": config["lora_target"],
            "frozen": config.get("freeze_vision_tower", True),
        }
    return checked(wheels, REACH, {"root": str(IMPORT_ROOT), "models": models}, tmp_path_factory.mktemp("run"))


def test_unsloth_is_left_out_since_it_refuses_what_llamafactory_makes_of_the_names():
    for model_id in MODELS:
        text = written(model_id).text
        assert yaml.safe_load(text)["use_unsloth"] is False
        assert "so use_unsloth is false: PEFT trains " in " ".join(text.split("\n# "))


@pytest.mark.torch
def test_the_families_and_their_towers_are_those_that_llamafactory_knows(real):
    towers = data()["llamafactory_models"]["towers"]
    ours = {name: [sorted(each[part]) for part in ("projector", "vision", "never")] for name, each in towers.items()}

    assert real["known"] == ours


@pytest.mark.torch
@pytest.mark.parametrize(("model_id", "targets"), CASES)
def test_the_export_counts_what_llamafactory_and_peft_train(real, model_id, targets):
    count, export = real["counts"][f"{model_id} {targets}"], written(model_id, targets)

    if isinstance(count, str):
        assert any(note.startswith("As written here, training would stop") for note in export.notes), count
    else:
        assert f"counts {count:,} trainable parameters" in " ".join(export.text.split("\n# "))
        assert not any("would stop" in note for note in export.notes)
