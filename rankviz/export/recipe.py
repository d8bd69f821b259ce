"""The settings of an export before a tool's format is chosen: resolved names, counts, and settings a tool lacks.

The adapter stays the requested one: its modules are resolved for the framework of the question first, and then written
for the framework of the tool. Where that trains something else, a note says so, with both numbers.
"""

import math
from dataclasses import dataclass, replace

from rankviz.core.checks import number
from rankviz.core.cost.data import Form, Trait
from rankviz.core.cost.device import card
from rankviz.core.cost.notes.published import as_stored
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.unsloth import compute_dtype
from rankviz.core.lora.config import Framework, LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.model.spec import ModelSpec
from rankviz.core.runs.request import WARMUP_STEPS_SHARE
from rankviz.errors import InvalidSettingError
from rankviz.export.chat import has_chat_template
from rankviz.export.code.on_cpu import on_cpu
from rankviz.export.defaults import HELD_OUT_SHARE, LEARNING_RATE, STEPS
from rankviz.export.published import loadable, published
from rankviz.export.ways import FRAMEWORKS, Reach, best_way, wanted_plan
from rankviz.units import counted

TEXT_TOWER = "language_model"
"""What the paths of these text towers have in common."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One adapter and how to train it, ready to be written down."""

    model_id: str
    model_type: str = ""
    """Of the model's config.json."""
    dequantize: str = ""
    """The class of transformers that dequantizes the checkpoint as it is loaded, for one published quantized."""
    lora: LoraConfig
    training: TrainingSetup
    """With the framework that the tool trains by."""
    plan: AdapterPlan
    """What PEFT is to be told: names, the experts' parameters, and what Unsloth moves from the targets to be saved."""
    trained: AdapterPlan | None = None
    """What trains with these names, where the tool reaches modules by a rule of its own or names no experts; None where
    training is refused or where it is the plan."""
    names_experts: bool = True
    """Whether the tool can name fused experts and their rank (PEFT's target_parameters and rank_pattern)."""
    adapter_parameters: int
    learning_rate: float = LEARNING_RATE
    notes: tuple[str, ...] = ()
    """What the tool does otherwise than requested, in sentences."""

    @property
    def target_modules(self) -> str | tuple[str, ...]:
        """As PEFT wants it: names, "all-linear", or a pattern that keeps to the text tower."""
        if not self.loads_whole_for_text or self.training.framework == "unsloth":
            return self.plan.target_modules
        names = self.plan.target_names if self.plan.target_modules == "all-linear" else self.plan.target_modules
        return f".*{TEXT_TOWER}.*[.]({'|'.join(name.replace('.', '[.]') for name in names)})"

    @property
    def loads_whole_for_text(self) -> bool:
        """Whether the text tower is asked for, and the rest of the model is loaded with it."""
        return self.plan.model.tower == "whole for text"

    @property
    def is_multimodal(self) -> bool:
        """Whether transformers loads it as a model for images and text."""
        return self.plan.model.is_whole

    @property
    def target_parameters(self) -> tuple[str, ...]:
        """Fused experts, where the scheme names them."""
        return self.plan.target_parameters if self.names_experts else ()

    @property
    def patterns(self) -> dict[str, dict[str, float]]:
        """PEFT's rank_pattern and alpha_pattern, where experts have a rank of their own."""
        return self.plan.patterns(self.lora)

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
    def epochs(self) -> float | None:
        """Full passes over the data, where they set the length."""
        data = self.training.data
        return data.epochs if data is not None and self.training.data_steps is not None else None

    @property
    def held_out_note(self) -> str:
        """By how much the training is shorter than its estimate, which counts all examples: some rows are held out."""
        if not self.epochs:
            return ""
        examples = self.training.data.examples
        return (
            f"This file holds out {math.ceil(HELD_OUT_SHARE * examples):,} of {counted(examples, 'example')} and "
            f"trains about {counted(self.trained_steps, 'step')}. The estimate is for all examples, "
            f"{counted(self.training.total_steps, 'step')}, without the evaluation of held-out rows."
        )

    @property
    def trained_steps(self) -> int:
        """Optimizer steps without the held-out rows."""
        if not self.epochs:
            return self.max_steps
        data = self.training.data
        trained = max(1, data.examples - math.ceil(HELD_OUT_SHARE * data.examples))
        return replace(data, examples=trained).steps(self.training.rows_per_step)

    @property
    def form(self) -> Form | None:
        """How the rows of the data look; None where that is not known."""
        return self.training.data.form if self.training.data else None

    @property
    def traits(self) -> tuple[Trait, ...]:
        """What the rows of a measured file have."""
        return self.training.data.traits if self.training.data else ()

    @property
    def file_name(self) -> str | None:
        """Of the file with the rows; None where that is not known."""
        return self.training.data.file_name if self.training.data else None

    @property
    def max_length(self) -> int:
        """As asked: data never shorten it, since no sample shows the longest example there will be."""
        return self.training.max_length

    @property
    def adapter_bytes(self) -> tuple[int, ...]:
        """Size of the adapter's file after training on a GPU, and on one without bf16 where that differs; empty where
        training is refused."""
        if (plan := self.trained) is None:
            return ()
        setup = self.training
        each = (compute_dtype(self.model_type, setup, bf16=bf16) for bf16 in (True, False))
        sizes = (plan.trained_bytes(self.lora.r, setup.framework, setup.precision, compute=compute) for compute in each)
        return tuple(dict.fromkeys(sizes))

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
    reached: Reach | None = None,
) -> Recipe:
    """The question's adapter at one rank, for a tool that trains by `framework`.

    names_experts: whether the tool has target_parameters and rank_pattern. tool: its name, if it isn't the framework's.
    reached: the tool's own rule from names to modules, if it has one.
    """
    number(learning_rate, "Learning rate", 0, 1, above=True)
    requested, chosen = question.lora_at(r), question.training.framework
    training = replace(question.training.without_auto(card(None)), framework=framework)
    model_id = loadable(model, question.model_id.strip().removesuffix(":whole"))
    stored = published(model_id) if framework != "unsloth" else None
    about_stored = as_stored(model, model_id, stored, training)
    if stored and stored.config_class and training.quantized:
        training = replace(training, precision="bf16")
    is_script, tool = not tool, tool or FRAMEWORKS[framework]
    wanted, refusal = wanted_plan(model, requested, chosen, training, tool)
    if refusal:
        chosen = framework
    told, notes = wanted, [*refusal]
    if not names_experts and wanted.expert_rank != "r":
        requested = replace(requested, expert_rank="r")
        told, _ = wanted_plan(model, requested, chosen, training, tool)
        notes.append(f"{tool} has no setting for rank_pattern, so with this file experts have rank r.")
    written = best_way(
        model, requested, told, chosen, training, names_experts=names_experts, tool=tool, reached=reached
    )
    notes += written.notes
    count = None if written.trained is None else written.trained.parameters(r)
    if count is not None and count != wanted.parameters(r):
        notes.append(
            f"{tool} trains {count:,} parameters with this; the requested adapter, with {FRAMEWORKS[chosen]}, has "
            f"{wanted.parameters(r):,}."
        )
    if question.model_id.strip().endswith(".json"):
        notes.append("The model was given as a config.json: write the folder or the Hub id of its weights instead.")
    if written.trained is not None:
        # What the estimate says of this adapter.
        notes += written.trained.notes
    # What is written names layers, so the plan made of it knows of no preset.
    notes += [note for note in wanted.flag_notes if note not in notes]
    notes += about_stored
    if count is not None and framework == "unsloth" and is_script:
        notes += on_cpu(model, written.lora, written.plan, training.precision, on_gpu=count)
    return Recipe(
        model_id=model_id,
        dequantize=stored.config_class if stored else "",
        model_type=model.model_type,
        lora=written.lora,
        training=training,
        plan=written.plan,
        trained=written.trained,
        names_experts=names_experts,
        adapter_parameters=wanted.parameters(r) if count is None else count,
        learning_rate=learning_rate,
        notes=tuple(notes),
    )
