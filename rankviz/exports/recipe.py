"""The settings of an export before a format is chosen: resolved names, counts, ways to write the adapter down."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rankviz.core.bounds import number
from rankviz.core.cost.notes import Published, as_stored, by_method, by_name
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import Form, TrainingSetup, Trait, card
from rankviz.core.cost.stack import compute_dtype
from rankviz.core.lora.config import FLAGS, UNSLOTH_VERSION, Framework, LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.core.model.towers import LOADED_WHOLE, NOT_ON_CPU
from rankviz.core.runs.request import WARMUP_STEPS_SHARE
from rankviz.errors import InvalidSettingError
from rankviz.exports.chat import is_chat_model
from rankviz.hub import read_config
from rankviz.references import EMBEDDED, EMBEDDED_ID
from rankviz.units import counted


def on_cpu(model: ModelSpec, lora: LoraConfig, plan: AdapterPlan, precision: str, *, on_gpu: int) -> tuple[str, ...]:
    """A sentence with the number of parameters that train there; none where it is the same as on a GPU (`on_gpu`)."""
    if model.tower == "whole model":
        says = "trains no multimodal models, so this script needs one."
    elif lora.text_only and plan.model.tower == "text tower":
        says = "does not know text_only, so this script needs one."
    elif model.tower == "text tower" and model.model_type in NOT_ON_CPU:
        says = "cannot load this checkpoint, which is multimodal."
    elif model.tower == "text tower" and model.model_type in LOADED_WHOLE:
        says = "loads this checkpoint with its other towers, and target names reach into them."
    else:
        try:
            count = plan_on_cpu(model, lora, plan, precision).parameters(lora.r)
        except InvalidSettingError as error:
            says = f"stops at this script: {error}"
        else:
            if count == on_gpu:
                return ()
            says = f"trains {count:,} parameters with this script instead of {on_gpu:,}."
    return (f"Without a GPU, Unsloth {UNSLOTH_VERSION} {says}",)


def plan_on_cpu(model: ModelSpec, lora: LoraConfig, plan: AdapterPlan, precision: str) -> AdapterPlan:
    """The adapter that the CPU backend makes of the names in the script; it takes no flags and no MoE scheme. The
    script's rank_pattern comes before PEFT's own, which would double the rank of gate_up_proj.

    InvalidSettingError where PEFT refuses them.
    """
    names = {"target_modules": plan.target_modules, "moe_scheme": "default", "expert_rank": plan.expert_rank}
    as_written = _by_names(lora, plan, **names)
    made = resolve(model, as_written, "unsloth", precision=precision, cuda=False)
    if plan.expert_rank == "r":
        return made
    factors = {each.layer.path: each.rank_factor for each in plan.adapted}
    adapted = (replace(a, rank_factor=factors.get(a.layer.path, a.rank_factor)) for a in made.adapted)
    return replace(made, adapted=tuple(adapted))


LEARNING_RATE = 2e-4
"""Unsloth's notebooks' own; whoever has a better one passes it."""
STEPS = 60
"""Where neither steps nor tokens are given."""
SEED = 3407
"""Unsloth's notebooks' own."""
SCHEDULER = "linear"
WEIGHT_DECAY = 0.0
"""Both as in RankViz's own runs, so that an exported training can be compared with them."""
HELD_OUT_SHARE = 0.05
"""Of the rows, for evaluation."""
EVAL_STEPS = 0.25
"""How often the held-out loss is computed, as a share of all steps: transformers and Axolotl take it so."""
LOGGING_STEPS = 10


HUB_IDS = {EMBEDDED: EMBEDDED_ID}


def published(model_id: str) -> Published | None:
    """None for a checkpoint in 16 or 32 bit, or of bitsandbytes.

    model_id: Hub id, or a folder, whose config.json then decides.
    """
    config = Path(model_id) / "config.json"
    if config.is_file():
        stored = read_config(config).get("quantization_config")
        return by_method(str(stored.get("quant_method", ""))) if isinstance(stored, dict) else None
    return by_name(model_id)


def loadable(model: ModelSpec, ref: str) -> str:
    """The name that libraries load the model by: the catalogue also takes the part after the slash, in any case."""
    ref = HUB_IDS.get(ref, ref)
    names = (model.id.removesuffix(":whole"), *model.aliases)
    known = {name.lower().split("/")[-1]: name for name in reversed(names)} | {name.lower(): name for name in names}
    return known.get(ref.lower(), ref)


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


Way = tuple[LoraConfig, AdapterPlan, AdapterPlan | None, tuple[str, ...]]
"""One way to write the requested adapter down: the settings, what is written, what trains with that (None where it is
refused), and notes."""


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
    ways: list[Way] = []
    refused = None
    vision = any(adapted.layer.part == "vision" for adapted in wanted.adapted)
    for lora in _variants(model, requested, wanted, chosen, training.framework):
        try:
            plan = resolve(model, lora, training.framework, precision=training.precision)
        except InvalidSettingError as error:
            refused = refused or error
            plan = replace(wanted, target_modules=lora.target_modules)
            if not (reached and reached(plan.model, plan, vision=vision)):
                continue  # else the tool keeps these names from the modules that PEFT refuses
        # A list without the names that would reach the experts can train the requested adapter, too.
        for each in (plan, replace(plan, target_modules=plan.target_names)):
            paths = reached(each.model, each, vision=vision) if reached else None
            if paths is None and ((names_experts and each.target_parameters) or not model.has_experts):
                ways.append((lora, each, each, ()))
            else:
                ways.append((lora, each, *_trained(model, lora, training, each, tool, paths)))
            trained = ways[-1][2]
            if trained is not None and trained.parameters(lora.r) == wanted.parameters(lora.r):
                return ways[-1]
    if refused and not ways:
        raise refused
    return ways[0]


def _variants(
    model: ModelSpec, requested: LoraConfig, wanted: AdapterPlan, chosen: Framework, framework: Framework
) -> Iterator[LoraConfig]:
    """Yield settings that may describe the requested adapter to the framework: as they are, with the target names given
    to the chosen framework, or with those that it reached."""
    if framework == chosen:
        yield requested
        return
    scheme = wanted.scheme if model.has_experts else "default"
    # Unsloth keeps PEFT from rewriting targets.
    moe = "default" if (framework, scheme) == ("unsloth", "peft-remap") else scheme
    named = _by_names(requested, wanted, moe_scheme=moe, unsloth_class="FastLanguageModel")
    # The plan for PEFT is without the names by which this scheme knows experts.
    requested_names = (requested.target_modules,) if scheme == "unsloth" != chosen else ()
    for names in dict.fromkeys((*requested_names, wanted.target_modules, wanted.target_names)):
        yield replace(named, target_modules=names)


def _by_names(lora: LoraConfig, plan: AdapterPlan, **more: Any) -> LoraConfig:
    """The settings by names alone, without Unsloth's flags."""
    return replace(lora, modules_to_save=plan.modules_to_save, **dict.fromkeys(FLAGS), **more)


def _trained(
    model: ModelSpec,
    lora: LoraConfig,
    training: TrainingSetup,
    plan: AdapterPlan,
    tool: str,
    paths: tuple[str, ...] | None,
) -> tuple[AdapterPlan | None, tuple[str, ...]]:
    """The adapter that trains with what is written, which does not name the MoE scheme; None where PEFT refuses.

    paths: the modules that the tool hands to PEFT; None where it hands on the names.
    """
    as_written = replace(
        lora,
        target_modules=plan.target_modules if paths is None else paths,
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
    """What the file gives PEFT: names, the experts' parameters, and what Unsloth moves from the targets to be saved."""
    trained: AdapterPlan | None = None
    """What trains with these names, where the tool reaches modules by a rule of its own or names no experts; None where
    training is refused or where it is the plan."""
    names_experts: bool = True
    """Whether the tool can name fused experts and their rank (PEFT's target_parameters and rank_pattern)."""
    adapter_parameters: int
    learning_rate: float = LEARNING_RATE
    notes: tuple[str, ...] = ()
    """Sentences on how the tool's training differs from the request."""

    @property
    def target_modules(self) -> str | tuple[str, ...]:
        """PEFT's target_modules: names, "all-linear", or a pattern that keeps to the text tower."""
        if not self.loads_whole_for_text or self.training.framework == "unsloth":
            return self.plan.target_modules
        names = self.plan.target_names if self.plan.target_modules == "all-linear" else self.plan.target_modules
        return f".*{TEXT_TOWER}.*[.]({'|'.join(name.replace('.', '[.]') for name in names)})"

    @property
    def loads_whole_for_text(self) -> bool:
        """Whether the adapter is for the text tower and the rest of the model is loaded with it."""
        return self.plan.model.tower == "whole for text"

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
        """Note that training is shorter than its estimate, which counts all examples: some rows are held out."""
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
        """The form of the rows of the data; None where that is not known."""
        return self.training.data.form if self.training.data else None

    @property
    def traits(self) -> tuple[Trait, ...]:
        """What the rows of a measured file have."""
        return self.training.data.traits if self.training.data else ()

    @property
    def file_name(self) -> str | None:
        """Name of the file with the rows; None where that is not known."""
        return self.training.data.file_name if self.training.data else None

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
        """Warmup steps: the share of all steps that RankViz's own runs have."""
        return round(WARMUP_STEPS_SHARE * self.max_steps)

    @property
    def is_chat(self) -> bool:
        """Whether the model has a chat template of its own, which ends its answers."""
        return bool(is_chat_model(self.model_id, self.model_type))


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
    writable, notes = wanted, [*refusal]
    if not names_experts and wanted.expert_rank != "r":
        requested = replace(requested, expert_rank="r")
        writable, _ = wanted_plan(model, requested, chosen, training, tool)
        notes.append(f"{tool} has no setting for rank_pattern, so with this file experts have rank r.")
    lora, plan, trained, more = best_way(
        model, requested, writable, chosen, training, names_experts=names_experts, tool=tool, reached=reached
    )
    notes += more
    count = None if trained is None else trained.parameters(r)
    if count is not None and count != wanted.parameters(r):
        notes.append(
            f"{tool} trains {count:,} parameters with this; the requested adapter, with {FRAMEWORKS[chosen]}, has "
            f"{wanted.parameters(r):,}."
        )
    if question.model_id.strip().endswith(".json"):
        notes.append("The model was given as a config.json: write the folder or the Hub id of its weights instead.")
    notes += trained.notes if trained is not None else ()  # what the estimate says of this adapter
    # What is written names layers, so the plan made of it knows of no preset.
    notes += [note for note in wanted.flag_notes if note not in notes]
    notes += about_stored
    if count is not None and framework == "unsloth" and is_script:
        notes += on_cpu(model, lora, plan, training.precision, on_gpu=count)
    return Recipe(
        model_id=model_id,
        dequantize=stored.config_class if stored else "",
        model_type=model.model_type,
        lora=lora,
        training=training,
        plan=plan,
        trained=trained,
        names_experts=names_experts,
        adapter_parameters=wanted.parameters(r) if count is None else count,
        learning_rate=learning_rate,
        notes=tuple(notes),
    )
