"""Starts tests/support/processes/run_scripts.py on folders with exported scripts or notebooks."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rankviz.core.lora.config import FLAGS, LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.exports import Recipe
from rankviz.exports.recipe import data as facts
from tests.support.processes.answers import said_by


def counted_here(made: Recipe) -> tuple[int, int]:
    """(trainable parameters, bytes of the adapter's file) as RankViz has them for a machine without a GPU."""
    framework, precision, plan = made.training.framework, made.training.precision, made.plan
    if framework == "unsloth":
        plan = plan_on_cpu(plan.model, made.lora, plan, precision)
    r = made.lora.r
    return plan.parameters(r), plan.trained_adapter_bytes(r, framework, precision, cuda=False)


def trained_steps(made: Recipe) -> int:
    """Number of optimizer steps without the held-out examples."""
    data = made.training.data
    if not made.epochs:
        return made.max_steps
    trained = max(1, data.examples - math.ceil(facts()["constants"]["held_out_share"] * data.examples))
    return replace(data, examples=trained).steps(made.training.rows_per_step)


def plan_on_cpu(model: ModelSpec, lora: LoraConfig, plan: AdapterPlan, precision: str) -> AdapterPlan:
    """Return the adapter that Unsloth's CPU backend makes of the script's names; it takes no flags and no MoE scheme.
    The script's rank_pattern has priority over PEFT's own, which would double the rank of gate_up_proj. Raise
    InvalidSettingError where PEFT refuses the names."""
    names = {"target_modules": plan.target_modules, "moe_scheme": "default", "expert_rank": plan.expert_rank}
    as_written = replace(lora, modules_to_save=plan.modules_to_save, **dict.fromkeys(FLAGS), **names)
    made = resolve(model, as_written, "unsloth", precision=precision, cuda=False)
    if plan.expert_rank == "r":
        return made
    factors = {each.layer.path: each.rank_factor for each in plan.adapted}
    adapted = (replace(a, rank_factor=factors.get(a.layer.path, a.rank_factor)) for a in made.adapted)
    return replace(made, adapted=tuple(adapted))


def run_exports(process: str, places: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By folder, what run_scripts prints. process: "unsloth", "cuda" or "plain": Unsloth patches the libraries."""
    quiet = {"UNSLOTH_DISABLE_STATISTICS": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    program = "tests.support.processes.run_scripts"
    return json.loads(said_by("-m", program, process, asked=places, HF_HUB_OFFLINE="1", **quiet))
