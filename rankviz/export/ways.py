"""The ways to write an adapter down for the framework of a tool, and what trains with each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import FLAGS, Framework, LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError

FRAMEWORKS: dict[str, str] = {"unsloth": "Unsloth", "trl": "TRL", "peft": "PEFT"}

Reach = Callable[..., tuple[str, ...] | None]
"""(model, plan, vision=…) to the paths that a tool hands to PEFT; None where it hands on the names themselves."""


def wanted_plan(
    model: ModelSpec, requested: LoraConfig, chosen: Framework, training: TrainingSetup, tool: str
) -> tuple[AdapterPlan, tuple[str, ...]]:
    """The adapter as the question's framework has it. Where that refuses: as the tool has it, with a sentence."""
    try:
        return resolve(model, requested, chosen, precision=training.precision), ()
    except InvalidSettingError as error:
        if training.framework == chosen:
            raise
        plan = resolve(model, requested, training.framework, precision=training.precision)
        name = FRAMEWORKS[chosen]
        return plan, (f"{name} refuses this adapter, so this file is counted as {tool} trains it. {name}: {error}",)


class Way(NamedTuple):
    """One way to write the requested adapter down."""

    lora: LoraConfig
    plan: AdapterPlan
    """What is written."""
    trained: AdapterPlan | None
    """What trains with that; None where it is refused."""
    notes: tuple[str, ...]


def best_way(
    model: ModelSpec,
    requested: LoraConfig,
    wanted: AdapterPlan,
    chosen: Framework,
    training: TrainingSetup,
    *,
    names_experts: bool,
    tool: str,
    reached: Reach | None,
) -> Way:
    """The first way that trains the requested adapter to the parameter, else the first that the framework takes."""
    ways, refused = [], None
    vision = any(adapted.layer.part == "vision" for adapted in wanted.adapted)
    for lora in _as_told(model, requested, wanted, chosen, training.framework):
        try:
            plan = resolve(model, lora, training.framework, precision=training.precision)
        except InvalidSettingError as error:
            refused = refused or error
            plan = replace(wanted, target_modules=lora.target_modules)
            if not (reached and reached(plan.model, plan, vision=vision)):
                continue  # else the tool keeps these names from the modules that PEFT refuses
        # A list without the names that would reach the experts can train the requested adapter, too.
        for each in (plan, replace(plan, target_modules=plan.target_names)):
            parameters = each.target_parameters if names_experts else ()
            paths = reached(each.model, each, vision=vision) if reached else None
            ways.append(Way(lora, each, *_trained(model, lora, training, each, parameters, tool, paths)))
            trained = ways[-1].trained
            if trained is not None and trained.parameters(lora.r) == wanted.parameters(lora.r):
                return ways[-1]
    if refused and not ways:
        raise refused
    return ways[0]


def _as_told(
    model: ModelSpec, requested: LoraConfig, wanted: AdapterPlan, chosen: Framework, framework: Framework
) -> Iterator[LoraConfig]:
    """The requested adapter as the framework is told of it: as it is, or by the names that the chosen framework was
    told, or by those that it has reached."""
    if framework == chosen:
        yield requested
        return
    scheme = wanted.scheme if model.has_experts else "default"
    named = replace(
        requested,
        modules_to_save=wanted.modules_to_save,
        # Unsloth keeps PEFT from rewriting targets.
        moe_scheme="default" if (framework, scheme) == ("unsloth", "peft-remap") else scheme,
        unsloth_class="FastLanguageModel",
        **dict.fromkeys(FLAGS),
    )
    # The plan for PEFT is without the names by which this scheme knows experts.
    requested_names = (requested.target_modules,) if scheme == "unsloth" != chosen else ()
    for names in dict.fromkeys((*requested_names, wanted.target_modules, wanted.target_names)):
        yield replace(named, target_modules=names)


def _trained(
    model: ModelSpec,
    lora: LoraConfig,
    training: TrainingSetup,
    plan: AdapterPlan,
    parameters: Sequence[str],
    tool: str,
    paths: tuple[str, ...] | None,
) -> tuple[AdapterPlan | None, tuple[str, ...]]:
    """The adapter that trains with what is written, which does not name the MoE scheme; None where PEFT refuses.

    paths: the modules that the tool hands to PEFT; None where it hands on the names.
    """
    if paths is None and (parameters or not model.has_experts):
        return plan, ()
    names = plan.target_modules if paths is None else paths
    as_written = replace(
        lora,
        target_modules=names,
        modules_to_save=plan.modules_to_save,
        moe_scheme="default",
        expert_rank=plan.expert_rank,
    )
    notes: tuple[str, ...] = ()
    if plan.target_parameters:
        notes = (f"{tool} has no setting for target_parameters, so this file does not name the experts.",)
    try:
        return resolve(model, as_written, training.framework, precision=training.precision), notes
    except InvalidSettingError as error:
        return None, (*notes, f"As written here, training would stop: {error}")
