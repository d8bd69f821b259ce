"""Multimodal models in LLaMA-Factory: what its own functions hand to PEFT is what the export counts."""

import pytest
import yaml

from rankviz.catalog.models import load_index, load_model
from rankviz.exports import write
from rankviz.exports.families import composite, data
from rankviz.paths import IMPORT_ROOT
from tests.exports.test_towers import whole_config
from tests.support.models.tool_wheels import LLAMAFACTORY, checked, unpacked
from tests.support.runs import questions
from tests.support.runs.toy import ASSETS

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
from llamafactory.model.model_utils.misc import find_all_linear_modules
from llamafactory.model.model_utils.visual import COMPOSITE_MODELS, patch_target_modules
from peft import LoraConfig, get_peft_model
from tests.support.models.meta_models import build, many_models

def count(case):
    model, frozen = build(case["config"]), case["frozen"]
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
def real(tmp_path_factory):
    """What LLaMA-Factory's functions and PEFT make of each exported file."""
    models = {}
    for model_id, targets in CASES:
        config = yaml.safe_load(written(model_id, targets).text)
        models[f"{model_id} {targets}"] = {
            "config": str(whole_config(model_id)),
            "targets": config["lora_target"],
            "frozen": config.get("freeze_vision_tower", True),
        }
    folder = unpacked(LLAMAFACTORY, tmp_path_factory.mktemp("llamafactory"))
    return checked(folder, REACH, {"root": str(IMPORT_ROOT), "models": models}, tmp_path_factory.mktemp("run"))


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
