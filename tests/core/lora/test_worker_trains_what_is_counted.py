"""The names that the worker hands to Unsloth on a GPU mean what the page counts: every catalogue model and preset.

What is really trained is compared in tests/worker/test_experts.py.
"""

import pytest

from rankviz.catalog.models import load_index, load_model
from rankviz.core.lora.config import PRESETS, LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError
from rankviz.worker.finetune.adapter import peft_arguments
from tests.support.toy import ASSETS

MODELS = [load_model(ASSETS, row.id) for row in load_index(ASSETS)]


def plan_of(model: ModelSpec, targets: str | tuple[str, ...], **more) -> AdapterPlan | None:
    """None where the adapter is refused."""
    try:
        return resolve(model, LoraConfig(target_modules=targets, **more), "unsloth")
    except InvalidSettingError:
        return None


def trained(model: ModelSpec, plan: AdapterPlan) -> int | None:
    """Parameters at r = 16 that Unsloth trains when it is given names and no preset, by Unsloth's rules for names."""
    passed = peft_arguments(plan, cuda=True)
    names = passed["target_modules"]
    again = plan_of(
        model,
        names if isinstance(names, str) else tuple(names),
        modules_to_save=tuple(passed.get("modules_to_save", ())),
    )
    return again and again.parameters(16)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_worker_trains_what_the_page_counts(preset):
    plans = {model.id: plan_of(model, preset) for model in MODELS}

    counted = {model.id: plans[model.id] and plans[model.id].parameters(16) for model in MODELS}
    worker = {model.id: plans[model.id] and trained(model, plans[model.id]) for model in MODELS}

    assert counted == worker
    assert 0.9 * len(MODELS) < sum(count is not None for count in counted.values())


def test_the_mlp_preset_names_the_experts():
    """629,145,600 parameters at r = 16: 48 blocks of 128 experts, gate_up 2048 to 2 x 768 and down 768 to 2048."""
    model = load_model(ASSETS, "Qwen/Qwen3-30B-A3B")
    plan = plan_of(model, "mlp")

    assert ["gate_proj", "up_proj", "down_proj"] == peft_arguments(plan, cuda=True)["target_modules"]
    assert 16 * 48 * 128 * ((2048 + 1536) + (768 + 2048)) == trained(model, plan) == 629_145_600
