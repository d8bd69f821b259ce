"""What a run says of its base before it starts, with models of the catalogue."""

import pytest

from rankviz.api import Api
from rankviz.core.cost.setup import Device
from rankviz.core.lora.config import FLAGS, LoraConfig
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.towers import text_part
from rankviz.core.runs.estimate import refuse_base
from rankviz.core.runs.request import SHORT_TRAINING
from rankviz.errors import InvalidSettingError
from tests.support.runs.toy import ASSETS

API = Api(assets=ASSETS)
CPU, GPU = Device(), Device(cuda=True)
TOWERS = [row.id for row in API.models.all() if row.tower == "text tower"]
LOADED_WHOLE_ON_CPU = [name for name in TOWERS if name.startswith("google/")]
"""Gemma 3 and 4: AutoModelForCausalLM of transformers 5.17 has the whole model for their checkpoints."""


def check(model_id, device, **lora):
    refuse_base(API.models.get(model_id), LoraConfig(**lora), SHORT_TRAINING, device)


@pytest.mark.parametrize("model_id", ["google/gemma-3-4b-it:whole", "Qwen/Qwen3.5-4B:whole"])
@pytest.mark.parametrize(("device", "what"), [(CPU, "A run without a GPU"), (GPU, "A run")])
def test_a_whole_multimodal_model_is_refused_and_its_text_tower_named(model_id, device, what):
    tower = model_id.removesuffix(":whole")

    with pytest.raises(InvalidSettingError, match=f"{what} trains on text only: choose {tower} instead.$"):
        check(model_id, device)


def test_a_whole_model_without_a_text_tower_of_its_own_is_refused_without_a_gpu():
    with pytest.raises(InvalidSettingError, match="A run without a GPU trains on text only: choose a text model"):
        check("Qwen/Qwen3-VL-2B-Instruct", CPU)

    check("Qwen/Qwen3-VL-2B-Instruct", GPU)


def test_a_text_tower_that_the_cpu_backend_cannot_load_is_refused_there_alone():
    with pytest.raises(InvalidSettingError, match="cannot load mistralai/Ministral-3-3B-Instruct-2512 without a GPU"):
        check("mistralai/Ministral-3-3B-Instruct-2512", CPU)

    check("mistralai/Ministral-3-3B-Instruct-2512", GPU)


@pytest.mark.parametrize(
    "lora", [{"finetune_vision_layers": True}, {"unsloth_class": "FastModel"}], ids=["flag", "FastModel's default"]
)
def test_a_vision_tower_that_would_train_with_its_text_tower_is_refused_on_a_gpu(lora):
    with pytest.raises(InvalidSettingError, match=r"which would train too.*Turn finetune_vision_layers off"):
        check("google/gemma-3-4b-it", GPU, **lora)

    check("google/gemma-3-4b-it", CPU, **lora)
    check("google/gemma-3-4b-it", GPU, **lora | {"finetune_vision_layers": False})


@pytest.mark.parametrize("flag", FLAGS[1:])
def test_a_flag_that_nothing_follows_is_refused_before_the_start(flag):
    with pytest.raises(InvalidSettingError, match=f"^{flag} cannot be off here"):
        check("embedded", CPU, **{flag: False})


@pytest.mark.parametrize("preset", ["unsloth", "all-linear", "attention"])
def test_the_text_part_of_what_is_loaded_has_the_count_of_the_text_tower(preset):
    lora = LoraConfig(target_modules=preset)
    for model_id in LOADED_WHOLE_ON_CPU:
        parts = API.models.get(model_id), text_part(API.models.get(f"{model_id}:whole"))

        tower, trained = (resolve(part, lora, "unsloth", cuda=False).parameters(1) for part in parts)

        assert tower == trained, model_id


@pytest.mark.parametrize("unsloth_class", ["FastLanguageModel", "FastModel"])
def test_on_a_gpu_the_whole_with_vision_off_has_the_count_of_the_text_tower(unsloth_class):
    lora = LoraConfig(unsloth_class=unsloth_class, finetune_vision_layers=False)
    for model_id in TOWERS:
        names = model_id, f"{model_id}:whole"

        tower, whole = (resolve(API.models.get(name), lora, "unsloth").parameters(1) for name in names)

        assert tower == whole, model_id
