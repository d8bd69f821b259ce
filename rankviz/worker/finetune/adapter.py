"""Attaches the adapter of a run: it passes the plan to Unsloth or PEFT."""

from collections.abc import Iterator
from typing import Any

from rankviz.core.lora.plan import Adapted, AdapterPlan

PARAMETERS = ("experts", "router")
"""Kinds of layers that are an nn.Parameter, which PEFT reaches by target_parameters."""


def peft_arguments(plan: AdapterPlan, *, cuda: bool) -> dict[str, Any]:
    """What the plan says of modules, as get_peft_model and PEFT's LoraConfig take it.

    Without a GPU the modules and parameters of the plan are named one by one where there are fused experts: Unsloth's
    CPU backend leaves PEFT's own rewrite of experts on, so that the names of the plan would reach others. On a GPU
    Unsloth adds the experts by itself. tests/worker/test_experts.py compares what is trained with what is counted.
    """
    modules = plan.target_modules
    arguments: dict[str, Any] = {"target_modules": modules if isinstance(modules, str) else list(modules)}
    parameters = list(plan.target_parameters)
    if not cuda and any(adapted.layer.kind in PARAMETERS for adapted in plan.adapted):
        arguments["target_modules"] = _names(a for a in plan.adapted if a.layer.kind not in PARAMETERS)
        parameters = _names(a for a in plan.adapted if a.layer.kind in PARAMETERS)
    if parameters:
        arguments["target_parameters"] = parameters
    if plan.modules_to_save:
        arguments["modules_to_save"] = list(plan.modules_to_save)
    return arguments


def _names(adapted: Iterator[Adapted]) -> list[str]:
    """Ends of paths that hit these modules alone: without a block number where all blocks are hit."""
    names: list[str] = []
    for each in adapted:
        path = each.layer.path
        whole = each.blocks == each.layer.blocks
        names += [path.split("{}.")[-1]] if whole else [path.replace("{}", str(block)) for block in each.blocks]
    return list(dict.fromkeys(names))
