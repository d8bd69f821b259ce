"""What is taken away, before it is written down for one tool: names resolved, counted, and what the tool can't say.

The adapter stays the one that was asked for: its modules are resolved for the framework of the question first, and
then written for the framework of the tool. Where that trains something else, a note says so, with both numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rankviz.core.cost.question import Question, lora_config
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import Framework, LoraConfig
from rankviz.core.lora.moe import has_experts
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError

LEARNING_RATE = 2e-4
"""Unsloth's notebooks' own; whoever has a better one passes it."""
STEPS = 60
"""Where neither steps nor tokens were asked for."""
FRAMEWORKS: dict[str, str] = {"unsloth": "Unsloth", "trl": "TRL", "peft": "PEFT"}
EMBEDDED = {"embedded": "HuggingFaceTB/SmolLM2-135M-Instruct"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One adapter and how to train it, ready to be written down."""

    model_id: str
    lora: LoraConfig
    """With the framework that the tool trains by."""
    setup: TrainingSetup
    target_modules: str | tuple[str, ...]
    """As PEFT wants it, names or "all-linear"."""
    target_parameters: tuple[str, ...] = ()
    """Fused experts, where the scheme names them."""
    modules_to_save: tuple[str, ...] = ()
    """With what Unsloth moves there from the targets."""
    adapter_parameters: int
    learning_rate: float = LEARNING_RATE
    notes: tuple[str, ...] = ()
    """What the tool does otherwise than was asked, in sentences."""

    @property
    def lora_alpha(self) -> int | float:
        alpha = self.lora.lora_alpha
        return int(alpha) if alpha == int(alpha) else alpha

    @property
    def max_steps(self) -> int:
        return self.setup.total_steps if self.setup.steps or self.setup.tokens else STEPS

    def whole_alpha(self, tool: str) -> int:
        """InvalidSettingError where the tool's schema has an integer and alpha is none."""
        if isinstance(self.lora_alpha, int):
            return self.lora_alpha
        raise InvalidSettingError(
            f"{tool} takes a whole number as lora_alpha, not {self.lora_alpha:g}: "
            "choose a whole alpha, or another format."
        )


def recipe(
    model: ModelSpec,
    question: Question,
    r: int,
    *,
    framework: Framework,
    learning_rate: float = LEARNING_RATE,
    names_experts: bool = True,
    tool: str = "",
) -> Recipe:
    """The question's adapter at one rank, for a tool that trains by `framework`.

    names_experts: whether the tool has target_parameters. tool: its name, if it isn't the framework's.
    """
    _validate_learning_rate(learning_rate)
    asked = lora_config(question, r)
    wanted = resolve(model, asked)
    if framework == question.framework:
        lora, plan = asked, wanted
    else:
        lora = replace(
            asked,
            framework=framework,
            target_modules=wanted.target_modules,
            modules_to_save=wanted.modules_to_save,
            moe_scheme=wanted.scheme if has_experts(model) else "default",
        )
        plan = resolve(model, lora)
    parameters = plan.target_parameters if names_experts else ()
    tool = tool or FRAMEWORKS[framework]
    trained, notes = _trained(model, lora, plan, parameters, r, tool)
    if trained != wanted.parameters(r) and plan.target_modules != plan.target_names:
        # A list without the names that would reach the experts trains what was asked for, where there is one.
        fewer = replace(plan, target_modules=plan.target_names)
        counted, said = _trained(model, lora, fewer, parameters, r, tool)
        if counted == wanted.parameters(r):
            plan, trained, notes = fewer, counted, said
    if trained is not None and trained != wanted.parameters(r):
        notes.append(
            f"{tool} trains {trained:,} parameters with this; what was asked for, with "
            f"{FRAMEWORKS[question.framework]}, is {wanted.parameters(r):,}."
        )
    if question.model_id.strip().endswith(".json"):
        notes.append("The model was given as a config.json: write the folder or the Hub id of its weights instead.")
    model_id = question.model_id.strip().removesuffix(":whole")
    return Recipe(
        model_id=EMBEDDED.get(model_id, model_id),
        lora=lora,
        setup=question.training,
        target_modules=plan.target_modules,
        target_parameters=parameters,
        modules_to_save=plan.modules_to_save,
        adapter_parameters=wanted.parameters(r) if trained is None else trained,
        learning_rate=learning_rate,
        notes=tuple(notes),
    )


def _trained(
    model: ModelSpec, lora: LoraConfig, plan: AdapterPlan, parameters: Sequence[str], r: int, tool: str
) -> tuple[int | None, list[str]]:
    """Parameters that train with what is written, which doesn't name the MoE scheme; None where PEFT refuses."""
    if parameters or not has_experts(model):
        return plan.parameters(r), []
    written = replace(
        lora, target_modules=plan.target_modules, modules_to_save=plan.modules_to_save, moe_scheme="default"
    )
    notes = []
    if plan.target_parameters:
        notes.append(f"{tool} has no setting for target_parameters, so it can't name the experts: left out here.")
    try:
        return resolve(model, written).parameters(r), notes
    except InvalidSettingError as error:
        return None, [*notes, f"As it is written here, training would stop: {error}"]


def _validate_learning_rate(learning_rate: float) -> None:
    if not 0 < learning_rate < math.inf:
        raise InvalidSettingError(f"A learning rate of {learning_rate:g} can't be: give one above 0, such as 2e-4.")
