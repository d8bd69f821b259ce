"""Whether a run can train a base as it is counted: runs train on text, with the classes that Unsloth loads it by."""

from rankviz.core.cost.adapter import plan_on
from rankviz.core.cost.device import Device
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import UNSLOTH_VERSION, LoraConfig
from rankviz.core.model.spec import WHOLE, ModelSpec
from rankviz.core.model.towers import NOT_ON_CPU
from rankviz.errors import InvalidSettingError


def refuse_base(model: ModelSpec, lora: LoraConfig, training: TrainingSetup, device: Device) -> None:
    """InvalidSettingError where this base or this adapter on it cannot be trained as it is counted."""
    if model.tower == "whole model" and (not device.cuda or model.id.endswith(WHOLE)):
        refuse_whole(model, "A run" if device.cuda else "A run without a GPU")
    plan = plan_on(model, lora, training, device)
    if model.tower != "text tower":
        return
    if not device.cuda and model.model_type in NOT_ON_CPU:
        raise InvalidSettingError(
            f"Unsloth {UNSLOTH_VERSION} cannot load {model.id} without a GPU, since its checkpoint is multimodal. "
            "Choose another base."
        )
    if plan.model.is_whole and plan.route.kind == "model" and plan.route.flags.vision:
        raise InvalidSettingError(
            f"The checkpoint of {model.id} has a vision tower, which would train too, and a run trains on text. Turn "
            "finetune_vision_layers off."
        )


def refuse_whole(model: ModelSpec, what: str) -> None:
    """InvalidSettingError that names the text tower, where the catalogue has it."""
    tower = model.id.removesuffix(WHOLE) if model.id.endswith(WHOLE) else "a text model"
    raise InvalidSettingError(
        f"{model.id or 'This base'} is a whole multimodal model. {what} trains on text only: choose {tower} instead."
    )
