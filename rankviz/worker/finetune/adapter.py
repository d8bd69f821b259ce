"""Attaches the adapter of a run: it passes the plan to Unsloth or PEFT."""

from collections.abc import Iterator
from typing import Any

from rankviz.core.lora.plan import Adapted, AdapterPlan

PARAMETERS = ("experts", "router")
"""Kinds of layers that are an nn.Parameter, which PEFT reaches by target_parameters."""


def peft_arguments(plan: AdapterPlan) -> dict[str, Any]:
    """What the plan says of modules, as PEFT's LoraConfig takes it."""
    modules = plan.target_modules
    arguments: dict[str, Any] = {"target_modules": modules if isinstance(modules, str) else list(modules)}
    if plan.target_parameters:
        arguments["target_parameters"] = list(plan.target_parameters)
    if plan.modules_to_save:
        arguments["modules_to_save"] = list(plan.modules_to_save)
    return arguments


def unsloth_arguments(plan: AdapterPlan) -> dict[str, Any]:
    """The same for Unsloth's get_peft_model, with its flags.

    On a GPU Unsloth adds the experts by itself, unless it is told of no parameters. Its CPU backend leaves PEFT's own
    rewrite of experts on: where another MoE scheme is asked for, modules and parameters are named one by one there.
    tests/worker/finetune/test_experts.py compares what is trained with what is counted.
    """
    arguments = peft_arguments(plan) | plan.unsloth_flags
    if plan.route.kind == "model" and plan.scheme == "linear-only":
        arguments["target_parameters"] = []
    if plan.route.kind == "cpu" and plan.scheme_was_chosen:
        arguments["target_modules"] = _names(a for a in plan.adapted if a.layer.kind not in PARAMETERS)
        if parameters := _names(a for a in plan.adapted if a.layer.kind in PARAMETERS):
            arguments["target_parameters"] = parameters
    return arguments


def _names(adapted: Iterator[Adapted]) -> list[str]:
    """Ends of paths that hit these modules alone: without a block number where all blocks are hit."""
    names: list[str] = []
    for each in adapted:
        path = each.layer.path
        whole = each.blocks == each.layer.blocks
        names += [path.split("{}.")[-1]] if whole else [path.replace("{}", str(block)) for block in each.blocks]
    return list(dict.fromkeys(names))
