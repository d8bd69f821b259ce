"""Says where Unsloth's CPU backend trains something else than Unsloth on a GPU, with the same script."""

from dataclasses import replace

from rankviz.core.lora.config import FLAGS, UNSLOTH_VERSION, LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.core.model.towers import LOADED_WHOLE, NOT_ON_CPU
from rankviz.errors import InvalidSettingError


def on_cpu(model: ModelSpec, lora: LoraConfig, plan: AdapterPlan, precision: str, *, on_gpu: int) -> tuple[str, ...]:
    """A sentence with the number of parameters that train there; none where it is the same as on a GPU (`on_gpu`)."""
    begins = f"Without a GPU, Unsloth {UNSLOTH_VERSION} "
    if model.tower == "whole model":
        return (f"{begins}trains no multimodal models, so this script needs one.",)
    if lora.text_only and plan.model.tower == "text tower":
        return (f"{begins}does not know text_only, so this script needs one.",)
    if model.tower == "text tower" and model.model_type in NOT_ON_CPU:
        return (f"{begins}cannot load this checkpoint, which is multimodal.",)
    if model.tower == "text tower" and model.model_type in LOADED_WHOLE:
        return (f"{begins}loads this checkpoint with its other towers, and target names reach into them.",)
    try:
        count = plan_on_cpu(model, lora, plan, precision).parameters(lora.r)
    except InvalidSettingError as error:
        return (f"{begins}stops at this script: {error}",)
    if count == on_gpu:
        return ()
    return (f"{begins}trains {count:,} parameters with this script instead of {on_gpu:,}.",)


def plan_on_cpu(model: ModelSpec, lora: LoraConfig, plan: AdapterPlan, precision: str) -> AdapterPlan:
    """The adapter that the CPU backend makes of the names in the script; it takes no flags and no MoE scheme. The
    script's rank_pattern comes before PEFT's own, which would double the rank of gate_up_proj.

    InvalidSettingError where PEFT refuses them.
    """
    as_written = replace(
        lora,
        target_modules=plan.target_modules,
        modules_to_save=plan.modules_to_save,
        moe_scheme="default",
        expert_rank=plan.expert_rank,
        **dict.fromkeys(FLAGS),
    )
    made = resolve(model, as_written, "unsloth", precision=precision, cuda=False)
    if plan.expert_rank == "r":
        return made
    factors = {each.layer.path: each.rank_factor for each in plan.adapted}
    adapted = (replace(a, rank_factor=factors.get(a.layer.path, a.rank_factor)) for a in made.adapted)
    return replace(made, adapted=tuple(adapted))
