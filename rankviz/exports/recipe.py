"""The settings of an export before a format is chosen: model name, adapter, counts and notes."""

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
from rankviz.hub.remote import read_config
from rankviz.references import EMBEDDED, EMBEDDED_ID
from rankviz.units import counted


def on_cpu(model: ModelSpec, lora: LoraConfig, plan: AdapterPlan, precision: str, *, on_gpu: int) -> tuple[str, ...]:
    """Return one sentence on what Unsloth does with the exported script on a machine without a GPU: it cannot run it,
    loads more of the model, or trains another number of parameters. Empty where it trains as many as on a GPU."""
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
    """Return the adapter that Unsloth's CPU backend makes of the script's names; it takes no flags and no MoE scheme.
    The script's rank_pattern has priority over PEFT's own, which would double the rank of gate_up_proj. Raise
    InvalidSettingError where PEFT refuses the names."""
    names = {"target_modules": plan.target_modules, "moe_scheme": "default", "expert_rank": plan.expert_rank}
    as_written = _by_names(lora, plan, **names)
    made = resolve(model, as_written, "unsloth", precision=precision, cuda=False)
    if plan.expert_rank == "r":
        return made
    factors = {each.layer.path: each.rank_factor for each in plan.adapted}
    adapted = (replace(a, rank_factor=factors.get(a.layer.path, a.rank_factor)) for a in made.adapted)
    return replace(made, adapted=tuple(adapted))


LEARNING_RATE = 2e-4
"""Default of Unsloth's notebooks, for callers without a recommended rate."""
STEPS = 60
"""Length of a training for which neither steps nor tokens are given."""
SEED = 3407
"""Default of Unsloth's notebooks."""
SCHEDULER = "linear"
WEIGHT_DECAY = 0.0
"""Scheduler and weight decay of RankViz's own runs, so that an exported training can be compared with them."""
HELD_OUT_SHARE = 0.05
"""Share of the examples that is held out for evaluation."""
EVAL_STEPS = 0.25
"""Interval of evaluations as a share of all steps, as transformers and Axolotl accept it."""
LOGGING_STEPS = 10


HUB_IDS = {EMBEDDED: EMBEDDED_ID}


def published(model_id: str) -> Published | None:
    """Return the format of a checkpoint that is published quantized; None for 16 or 32 bit, or for bitsandbytes.
    model_id: Hub id, or a folder with a config.json that decides."""
    config = Path(model_id) / "config.json"
    if config.is_file():
        stored = read_config(config).get("quantization_config")
        return by_method(str(stored.get("quant_method", ""))) if isinstance(stored, dict) else None
    return by_name(model_id)


def loadable(model: ModelSpec, ref: str) -> str:
    """Return the name by which libraries load the model. ref: may lack the owner, or differ in case."""
    ref = HUB_IDS.get(ref, ref)
    names = (model.id.removesuffix(":whole"), *model.aliases)
    known = {name.lower().split("/")[-1]: name for name in reversed(names)} | {name.lower(): name for name in names}
    return known.get(ref.lower(), ref)


FRAMEWORKS: dict[str, str] = {"unsloth": "Unsloth", "trl": "TRL", "peft": "PEFT"}

Reach = Callable[..., tuple[str, ...] | None]
"""Function of (model, plan, vision=…) that returns the paths a tool gives to PEFT; None where it gives target names."""


def wanted_plan(
    model: ModelSpec, requested: LoraConfig, chosen: Framework, training: TrainingSetup, tool: str
) -> tuple[AdapterPlan, tuple[str, ...]]:
    """Return the adapter as the chosen framework makes it; if it refuses, as the tool makes it, with a note on that."""
    try:
        return resolve(model, requested, chosen, precision=training.precision), ()
    except InvalidSettingError as error:
        if training.framework == chosen:
            raise
        plan = resolve(model, requested, training.framework, precision=training.precision)
        name = FRAMEWORKS[chosen]
        return plan, (f"{name} refuses this adapter, so this file is counted as {tool} trains it. {name}: {error}",)


Way = tuple[LoraConfig, AdapterPlan, AdapterPlan | None, tuple[str, ...]]
"""One way to write the requested adapter: the settings, the plan as written, the plan that then trains (None where
training is refused), and notes."""


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
    """Return the first way that trains exactly the requested number of parameters, else the first way accepted."""
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
    """Yield settings that may describe the requested adapter to the framework: unchanged; with the target names for
    the chosen framework; or with the names of the modules that carry the adapter."""
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
    """Return the settings with names only, without Unsloth's flags."""
    return replace(lora, modules_to_save=plan.modules_to_save, **dict.fromkeys(FLAGS), **more)


def _trained(
    model: ModelSpec,
    lora: LoraConfig,
    training: TrainingSetup,
    plan: AdapterPlan,
    tool: str,
    paths: tuple[str, ...] | None,
) -> tuple[AdapterPlan | None, tuple[str, ...]]:
    """Return the adapter that trains from the file, which cannot name an MoE scheme, and notes; None where PEFT
    refuses it. paths: the modules that the tool gives to PEFT; None where it gives target names."""
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
"""Part of every module path in a text tower that is loaded with its whole model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One adapter and its training, ready to be written in any format, with notes on differences from the request."""

    model_id: str
    model_type: str = ""
    dequantize: str = ""
    """Class of transformers that dequantizes a published quantized checkpoint at loading; empty for others."""
    lora: LoraConfig
    training: TrainingSetup
    """Setup of training, with the framework that the tool trains with."""
    plan: AdapterPlan
    """Adapter as written for PEFT: target names, the experts' parameters, and modules that Unsloth saves in full."""
    trained: AdapterPlan | None = None
    """Adapter that trains from these names: the plan, or another where the tool has its own rule for modules or cannot
    name experts. None where training is refused."""
    names_experts: bool = True
    """True where the tool can name fused experts and their rank (PEFT's target_parameters and rank_pattern)."""
    adapter_parameters: int
    learning_rate: float = LEARNING_RATE
    notes: tuple[str, ...] = ()

    @property
    def target_modules(self) -> str | tuple[str, ...]:
        """PEFT's target_modules: names, "all-linear", or a pattern that matches the text tower only."""
        if not self.loads_whole_for_text or self.training.framework == "unsloth":
            return self.plan.target_modules
        names = self.plan.target_names if self.plan.target_modules == "all-linear" else self.plan.target_modules
        return f".*{TEXT_TOWER}.*[.]({'|'.join(name.replace('.', '[.]') for name in names)})"

    @property
    def loads_whole_for_text(self) -> bool:
        """True where the adapter is for the text tower but the whole model is loaded."""
        return self.plan.model.tower == "whole for text"

    @property
    def target_parameters(self) -> tuple[str, ...]:
        """PEFT's target_parameters: fused experts; empty where the scheme or the tool does not name them."""
        return self.plan.target_parameters if self.names_experts else ()

    @property
    def patterns(self) -> dict[str, dict[str, float]]:
        """PEFT's rank_pattern and alpha_pattern by setting, for experts with their own rank."""
        return self.plan.patterns(self.lora)

    @property
    def modules_to_save(self) -> tuple[str, ...]:
        """Names of modules that are trained and saved in full."""
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
        """Full passes over the data; None where the length is set in steps or tokens."""
        data = self.training.data
        return data.epochs if data is not None and self.training.data_steps is not None else None

    @property
    def held_out_note(self) -> str:
        """Note that training is shorter than its estimate, because some examples are held out; empty without epochs."""
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
        """Number of optimizer steps without the held-out examples."""
        if not self.epochs:
            return self.max_steps
        data = self.training.data
        trained = max(1, data.examples - math.ceil(HELD_OUT_SHARE * data.examples))
        return replace(data, examples=trained).steps(self.training.rows_per_step)

    @property
    def form(self) -> Form | None:
        """Form of the examples; None where the data is unknown."""
        return self.training.data.form if self.training.data else None

    @property
    def traits(self) -> tuple[Trait, ...]:
        """Details of the examples that were found in a measured file."""
        return self.training.data.traits if self.training.data else ()

    @property
    def file_name(self) -> str | None:
        """Name of the file with the examples; None where unknown."""
        return self.training.data.file_name if self.training.data else None

    @property
    def adapter_bytes(self) -> tuple[int, ...]:
        """Size of the adapter's file after training on a GPU, followed by the size on a GPU without bf16 if it
        differs; empty where training is refused."""
        if (plan := self.trained) is None:
            return ()
        setup = self.training
        each = (compute_dtype(self.model_type, setup, bf16=bf16) for bf16 in (True, False))
        sizes = (plan.trained_bytes(self.lora.r, setup.framework, setup.precision, compute=compute) for compute in each)
        return tuple(dict.fromkeys(sizes))

    @property
    def warmup_steps(self) -> int:
        """Number of warm-up steps: the share of all steps that RankViz's own runs use."""
        return round(WARMUP_STEPS_SHARE * self.max_steps)

    @property
    def is_chat(self) -> bool:
        """True where the model has its own chat template, which ends its answers."""
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
    """Return the question's adapter at rank r for a tool that trains with `framework`. names_experts: True where the
    tool has target_parameters and rank_pattern. tool: its name, if not the framework's. reached: the tool's own rule
    from target names to modules, if it has one."""
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
