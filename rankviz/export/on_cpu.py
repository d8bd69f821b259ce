"""Says where Unsloth's CPU backend trains something else than Unsloth on a GPU, with the same script."""

from dataclasses import replace

from rankviz.core.lora.config import UNSLOTH_VERSION, LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError

FUSED = {
    "qkv_proj": frozenset({"q_proj", "k_proj", "v_proj"}),
    "gate_up_proj": frozenset({"gate_proj", "up_proj"}),
}
"""What the CPU backend adds for which names, where the model has the first and not the others (unsloth_zoo
cpu/loader.py, _with_fused_projections)."""


def on_cpu(model: ModelSpec, lora: LoraConfig, plan: AdapterPlan, on_gpu: int) -> tuple[str, ...]:
    """A sentence with the number of parameters that train there; none where it is the same as on a GPU (`on_gpu`)."""
    begins = f"Without a GPU, Unsloth {UNSLOTH_VERSION} "
    try:
        count = plan_on_cpu(model, lora, plan).parameters(lora.r)
    except InvalidSettingError as error:
        return (f"{begins}stops at this script: {error}",)
    if count == on_gpu:
        return ()
    return (f"{begins}trains {count:,} parameters with this script instead of {on_gpu:,}.",)


def plan_on_cpu(model: ModelSpec, lora: LoraConfig, plan: AdapterPlan) -> AdapterPlan:
    """The adapter of the CPU backend, which hands the names of the script to plain PEFT with fused projections added.

    InvalidSettingError where PEFT refuses them.
    """
    names = plan.target_modules
    if not isinstance(names, str):
        there = {layer.name for layer in model.layers if layer.kind not in ("experts", "router")}
        names = (*names, *(f for f, split in FUSED.items() if f in there and split & set(names) - there))
    asked = replace(lora, target_modules=names, modules_to_save=plan.modules_to_save, moe_scheme="default")
    return resolve(model, asked, "peft")
