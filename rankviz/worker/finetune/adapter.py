"""The adapter of a run in the arguments of PEFT and Unsloth, from its plan, and its files as PEFT loads them."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.worker.base import Base


def peft_arguments(lora: LoraConfig, plan: AdapterPlan) -> dict[str, Any]:
    """Return the modules of the plan as PEFT's LoraConfig takes them."""
    modules = plan.target_modules
    arguments: dict[str, Any] = {"target_modules": modules if isinstance(modules, str) else list(modules)}
    if plan.target_parameters:
        arguments["target_parameters"] = list(plan.target_parameters)
    if plan.modules_to_save:
        arguments["modules_to_save"] = list(plan.modules_to_save)
    return arguments | plan.patterns(lora)


def with_peft_adapter(model: Any, lora: LoraConfig, plan: AdapterPlan) -> Any:
    """Attach the adapter of the plan by PEFT alone."""
    import peft  # not above: runs import Unsloth before PEFT

    config = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=0,
        bias="none",
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        task_type="CAUSAL_LM",
        **peft_arguments(lora, plan),
    )
    return peft.get_peft_model(model, config)


def unsloth_arguments(lora: LoraConfig, plan: AdapterPlan, left_out: Sequence[str] = ()) -> dict[str, Any]:
    """Return the modules of the plan as Unsloth's get_peft_model takes them, with its flags.

    left_out: paths of towers that no target name may reach (PEFT's exclude_modules).

    On a GPU Unsloth adds the experts by itself, unless it is told of no parameters. Its CPU backend leaves PEFT's own
    rewrite of experts on, and runs and probes there take no other MoE scheme. tests/worker/finetune/test_experts.py
    compares what is trained with what is counted.
    """
    arguments = peft_arguments(lora, plan) | plan.unsloth_flags
    if plan.route.kind == "model" and plan.scheme == "linear-only":
        arguments["target_parameters"] = []
    if left_out:
        arguments["exclude_modules"] = rf"({'|'.join(map(re.escape, left_out))})(\..*)?"
    return arguments


def save(adapter: Any, folder: Path, base: Base, **changed: Any) -> int:
    """Write the adapter's files and return the bytes of its weights.

    PEFT names the base in two of them by where it was loaded from, which for the embedded model is a folder of this
    machine. changed: values of adapter_config.json that are not the model's own.
    """
    adapter.save_pretrained(folder)
    config, card = folder / "adapter_config.json", folder / "README.md"
    values = json.loads(config.read_text(encoding="utf-8")) | changed
    if base.published_as:
        values["base_model_name_or_path"] = base.published_as
        card.write_text(card.read_text(encoding="utf-8").replace(base.name, base.published_as), encoding="utf-8")
    config.write_text(json.dumps(values, indent=2, sort_keys=True), encoding="utf-8")
    return (folder / "adapter_model.safetensors").stat().st_size
