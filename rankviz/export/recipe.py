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
from rankviz.core.runs.request import WARMUP_STEPS_SHARE
from rankviz.errors import InvalidSettingError
from rankviz.export.chat import has_chat_template
from rankviz.export.defaults import LEARNING_RATE, STEPS
from rankviz.export.on_cpu import on_cpu

FRAMEWORKS: dict[str, str] = {"unsloth": "Unsloth", "trl": "TRL", "peft": "PEFT"}
EMBEDDED = {"embedded": "HuggingFaceTB/SmolLM2-135M-Instruct"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One adapter and how to train it, ready to be written down."""

    model_id: str
    model_type: str = ""
    """Of the model's config.json."""
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

    @property
    def warmup_steps(self) -> int:
        """The same share of all steps as in RankViz's own runs."""
        return round(WARMUP_STEPS_SHARE * self.max_steps)

    @property
    def is_chat(self) -> bool:
        """Whether the model has a chat template of its own, which ends its answers."""
        return has_chat_template(self.model_id, self.model_type)

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
    is_script, tool = not tool, tool or FRAMEWORKS[framework]
    parameters = plan.target_parameters if names_experts else ()
    trained, notes = _trained(model, lora, framework, plan, parameters, tool)
    if _count(trained, r) != wanted.parameters(r) and plan.target_modules != plan.target_names:
        # A list without the names that would reach the experts trains the requested adapter, where there is one.
        fewer = replace(plan, target_modules=plan.target_names)
        trained_fewer, notes_of_fewer = _trained(model, lora, framework, fewer, parameters, tool)
        if _count(trained_fewer, r) == wanted.parameters(r):
            plan, trained, notes = fewer, trained_fewer, notes_of_fewer
    count = _count(trained, r)
    if count is not None and count != wanted.parameters(r):
        notes.append(
            f"{tool} trains {count:,} parameters with this; the requested adapter, with {FRAMEWORKS[chosen]}, has "
            f"{wanted.parameters(r):,}."
        )
    if question.model_id.strip().endswith(".json"):
        notes.append("The model was given as a config.json: write the folder or the Hub id of its weights instead.")
    if trained is not None:
        # What the estimate says of this adapter.
        notes += trained.notes
    if count is not None and framework == "unsloth" and is_script:
        notes += on_cpu(model, lora, plan, count)
    return Recipe(
        model_id=_loadable(model, question.model_id.strip().removesuffix(":whole")),
        model_type=model.model_type,
        lora=lora,
        training=replace(question.training.without_auto(card(None)), framework=framework),
        plan=plan,
        names_experts=names_experts,
        adapter_parameters=wanted.parameters(r) if count is None else count,
        learning_rate=learning_rate,
        notes=tuple(notes),
    )


def _loadable(model: ModelSpec, ref: str) -> str:
    """The name that libraries load the model by: the catalogue also takes the part after the slash, in any case."""
    ref = EMBEDDED.get(ref, ref)
    names = (model.id.removesuffix(":whole"), *model.aliases)
    known = {name.lower().split("/")[-1]: name for name in reversed(names)} | {name.lower(): name for name in names}
    return known.get(ref.lower(), ref)


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
) -> tuple[AdapterPlan | None, list[str]]:
    """The adapter that trains with what is written, which does not name the MoE scheme; None where PEFT refuses."""
    if parameters or not model.has_experts:
        return plan, []
    written = replace(
        lora, target_modules=plan.target_modules, modules_to_save=plan.modules_to_save, moe_scheme="default"
    )
    notes = []
    if plan.target_parameters:
        notes.append(f"{tool} has no setting for target_parameters, so this file does not name the experts.")
    try:
        return resolve(model, written, framework), notes
    except InvalidSettingError as error:
        return None, [*notes, f"As written here, training would stop: {error}"]


def _count(trained: AdapterPlan | None, r: int) -> int | None:
    return None if trained is None else trained.parameters(r)
