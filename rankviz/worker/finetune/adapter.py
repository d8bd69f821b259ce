"""The adapter of a run: what the plan says, handed to Unsloth, and taken off again."""

from typing import Any

from rankviz.core.lora.plan import AdapterPlan


def peft_arguments(plan: AdapterPlan) -> dict[str, Any]:
    """What the plan says of modules, as get_peft_model and PEFT's LoraConfig take it.

    tests/core/lora/test_worker_trains_what_is_counted.py compares it with what an estimate counts.
    """
    modules = plan.target_modules
    arguments: dict[str, Any] = {"target_modules": modules if isinstance(modules, str) else list(modules)}
    if plan.target_parameters:
        arguments["target_parameters"] = list(plan.target_parameters)
    if plan.modules_to_save:
        arguments["modules_to_save"] = list(plan.modules_to_save)
    return arguments
