"""The settings of an export before a tool's format is chosen: resolved names, counts, and settings a tool lacks.

The adapter stays the requested one: its modules are resolved for the framework of the question first, and then written
for the framework of the tool. Where that trains something else, a note says so, with both numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rankviz.core.checks import number
from rankviz.core.cost.device import card
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import Framework, LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError

LEARNING_RATE = 2e-4
"""Unsloth's notebooks' own; whoever has a better one passes it."""
STEPS = 60
"""Where neither steps nor tokens are given."""
FRAMEWORKS: dict[str, str] = {"unsloth": "Unsloth", "trl": "TRL", "peft": "PEFT"}
EMBEDDED = {"embedded": "HuggingFaceTB/SmolLM2-135M-Instruct"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One adapter and how to train it, ready to be written down."""

    model_id: str
    lora: LoraConfig
    training: TrainingSetup
    """With the framework that the tool trains by."""
    plan: AdapterPlan
    """What PEFT is to be told: names, the experts' parameters, and what Unsloth moves from the targets to be saved."""
    names_experts: bool = True
    """Whether the tool can name fused experts (PEFT's target_parameters)."""
    adapter_parameters: int
    learning_rate: float = LEARNING_RATE
    notes: tuple[str, ...] = ()
    """What the tool does otherwise than requested, in sentences."""

    @property
    def target_modules(self) -> str | tuple[str, ...]:
        """As PEFT wants it, names or "all-linear"."""
        return self.plan.target_modules

    @property
    def target_parameters(self) -> tuple[str, ...]:
        """Fused experts, where the scheme names them."""
        return self.plan.target_parameters if self.names_experts else ()

    @property
    def modules_to_save(self) -> tuple[str, ...]:
        """Trained and saved in full."""
        return self.plan.modules_to_save

    @property
    def lora_alpha(self) -> int | float:
        alpha = self.lora.lora_alpha
        return int(alpha) if alpha == int(alpha) else alpha

    @property
    def max_steps(self) -> int:
        return self.training.total_steps if self.training.has_length else STEPS

    def whole_alpha(self, tool: str) -> int:
        """InvalidSettingError where the tool's schema has an integer and alpha is not one."""
        if isinstance(self.lora_alpha, int):
            return self.lora_alpha
        raise InvalidSettingError(
            f"{tool} needs a whole number as lora_alpha (got {self.lora_alpha:g}). Choose a whole alpha, or another "
            "format."
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
    number(learning_rate, "Learning rate", 0, 1, above=True)
    requested, chosen = question.lora_at(r), question.training.framework
    wanted = resolve(model, requested, chosen)
    lora, plan = _for_framework(model, requested, wanted, chosen, framework)
    tool = tool or FRAMEWORKS[framework]
    parameters = plan.target_parameters if names_experts else ()
    count, notes = _trained(model, lora, framework, plan, parameters, tool)
    if count != wanted.parameters(r) and plan.target_modules != plan.target_names:
        # A list without the names that would reach the experts trains the requested adapter, where there is one.
        fewer = replace(plan, target_modules=plan.target_names)
        fewer_count, fewer_notes = _trained(model, lora, framework, fewer, parameters, tool)
        if fewer_count == wanted.parameters(r):
            plan, count, notes = fewer, fewer_count, fewer_notes
    if count is not None and count != wanted.parameters(r):
        notes.append(
            f"{tool} trains {count:,} parameters with this; the requested adapter, with {FRAMEWORKS[chosen]}, has "
            f"{wanted.parameters(r):,}."
        )
    if question.model_id.strip().endswith(".json"):
        notes.append("The model was given as a config.json: write the folder or the Hub id of its weights instead.")
    model_id = question.model_id.strip().removesuffix(":whole")
    return Recipe(
        model_id=EMBEDDED.get(model_id, model_id),
        lora=lora,
        training=replace(question.training.without_auto(card(None)), framework=framework),
        plan=plan,
        names_experts=names_experts,
        adapter_parameters=wanted.parameters(r) if count is None else count,
        learning_rate=learning_rate,
        notes=tuple(notes),
    )


def _for_framework(
    model: ModelSpec, lora: LoraConfig, wanted: AdapterPlan, chosen: Framework, framework: Framework
) -> tuple[LoraConfig, AdapterPlan]:
    """The requested adapter as another framework is told of it."""
    if framework == chosen:
        return lora, wanted
    named = replace(
        lora,
        target_modules=wanted.target_modules,
        modules_to_save=wanted.modules_to_save,
        moe_scheme=wanted.scheme if model.has_experts else "default",
    )
    return named, resolve(model, named, framework)


def _trained(
    model: ModelSpec,
    lora: LoraConfig,
    framework: Framework,
    plan: AdapterPlan,
    parameters: Sequence[str],
    tool: str,
) -> tuple[int | None, list[str]]:
    """Parameters that train with what is written, which does not name the MoE scheme; None where PEFT refuses."""
    if parameters or not model.has_experts:
        return plan.parameters(lora.r), []
    written = replace(
        lora, target_modules=plan.target_modules, modules_to_save=plan.modules_to_save, moe_scheme="default"
    )
    notes = []
    if plan.target_parameters:
        notes.append(f"{tool} has no setting for target_parameters, so this file does not name the experts.")
    try:
        return resolve(model, written, framework).parameters(lora.r), notes
    except InvalidSettingError as error:
        return None, [*notes, f"As written here, training would stop: {error}"]
