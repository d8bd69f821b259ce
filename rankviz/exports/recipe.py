"""The settings of an export before a format is chosen: model name, adapter, counts and notes; and facts on model
families: chat or base, templates, and the modules that LLaMA-Factory adapts.

A chat model is trained through its chat template, which ends each answer with a token that the model stops at. A base
model has no such template, or one with tokens that it was never trained on, so it gets plain text that ends with the
tokenizer's end token. RankViz has no tokenizer here, so LLaMA-Factory's list decides
(assets/llamafactory_templates.csv), then the model_type and the name (assets/exports.json, core/model/towers.py). A
renamed fine-tune has no known template. For multimodal checkpoints LLaMA-Factory has its own rule from target names to
modules (model/model_utils/visual.py).
"""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rankviz import __version__
from rankviz.catalog.models import load_index, meant
from rankviz.core.bounds import number
from rankviz.core.cost.notes import Published, as_stored, by_method, by_name
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import DELIMITERS, ENCODINGS, TrainingData, TrainingSetup, Trait, card
from rankviz.core.cost.stack import compute_dtype
from rankviz.core.lora.config import FLAGS, PEFT_VERSION, UNSLOTH_VERSION, Framework, LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.core.model.towers import COPY, is_chat, last_part
from rankviz.core.runs.request import WARMUP_STEPS_SHARE
from rankviz.errors import InvalidSettingError
from rankviz.hub.remote import read_config
from rankviz.paths import ASSETS
from rankviz.references import EMBEDDED, EMBEDDED_ID


@cache
def data() -> dict[str, Any]:
    """Return assets/exports.json: names of settings by tool, and LLaMA-Factory's templates by model family."""
    return json.loads((ASSETS / "exports.json").read_text(encoding="utf-8"))


@cache
def listed() -> dict[str, dict[str, str]]:
    """Return the rows of LLaMA-Factory's list of models, by lower-case Hub id and by the part after the slash."""
    with (ASSETS / "llamafactory_templates.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["id"].lower(): row for row in csv.DictReader(file)}
    return {name.split("/")[-1]: row for name, row in rows.items()} | rows


def _row(model_id: str) -> dict[str, str] | None:
    """Return the model's row, by its id, its name, or the name of the model it is a copy of; None if unlisted."""
    name = last_part(model_id)
    names = (model_id.strip().removesuffix(":whole").lower(), name, COPY.sub("", name).removesuffix("-hf"))
    return next((listed()[each] for each in names if each in listed()), None)


def is_chat_model(model_id: str, model_type: str = "") -> bool | None:
    """Return True for a chat model, False for a base model, None where neither LLaMA-Factory's list nor the name tells.
    model_id: Hub id or folder. model_type: from its config.json, for folders with other names."""
    row = _row(model_id)
    return is_chat(model_id, model_type, listed=row["chat"] == "yes" if row else None)


def llamafactory_template(model_id: str, model_type: str = "") -> str:
    """Return LLaMA-Factory's template for a chat model; empty where it is unknown."""
    if row := _row(model_id):
        return row["template"]
    known = data()["llamafactory_models"]
    if model_type in known["template_of_model_type"]:
        return known["template_of_model_type"][model_type]
    name = last_part(model_id)
    patterns = known["template_of_name"]
    return next((template for start, template in patterns if re.match(f"(?:meta-|nvidia-)?({start})", name)), "")


def end_of_turn(model_id: str, model_type: str = "") -> str | None:
    """Return the token that the chat template writes after an answer; None where it writes no token; empty for the
    tokenizer's end token, or where the template is unknown."""
    known, template = data()["llamafactory_models"], llamafactory_template(model_id, model_type)
    if template in known["no_end_of_turn"]:
        return None
    return next((token for token, templates in known["end_of_turn"].items() if template in templates), "")


NOT_IN_ALL = ("lm_head", "feed_forward.router")
"""Modules that "all" never includes: the head, and Llama 4's router, whose linear layer has a class of another name."""
_WHOLE_OF = {"ministral3": "mistral3", "mistral": "mistral3", "mllama_text_model": "mllama"}
"""model_type of a whole checkpoint, by the model_type of its text tower, where removing "_text" does not give it."""


def composite(model: ModelSpec) -> dict[str, list[str]] | None:
    """Return LLaMA-Factory's data on the multimodal checkpoint of this model or text tower: parts of the paths of its
    projector and vision tower, and of modules that never carry LoRA. None where it lists none."""
    if model.tower == "text":
        return None
    whole = _WHOLE_OF.get(model.model_type, model.model_type.removesuffix("_text"))
    return data()["llamafactory_models"]["towers"].get(model.model_type if model.is_whole else whole)


def reached(model: ModelSpec, plan: AdapterPlan, *, vision: bool) -> tuple[str, ...] | None:
    """Return paths of the modules that LLaMA-Factory gives to PEFT; None where it gives the target names. plan: the
    adapter with the file's targets. vision: the file unfreezes vision tower and projector."""
    family = composite(model)
    if family is None:
        return None
    frozen = [] if vision else family["vision"]
    names: Sequence[str] = plan.target_modules
    if isinstance(names, str):
        skipped = (*NOT_IN_ALL, *family["projector"], *frozen)
        linear = [layer for layer in model.layers if layer.kind in ("linear", "lm_head")]
        names = tuple({layer.name: None for layer in linear if not _contains(layer.path, skipped)})
    forbidden = (*frozen, *([] if vision else family["projector"]), *family["never"])
    paths: dict[str, None] = {}  # all modules on the way to a weight
    for layer in model.layers:
        for block in layer.blocks or (0,) if layer.kind not in ("experts", "router") else ():
            parts = layer.path.format(block).split(".")
            paths |= dict.fromkeys(".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return tuple(path for path in paths if _contains(path, names) and not _contains(path, forbidden))


def _contains(path: str, parts: Sequence[str]) -> bool:
    return any(part in path for part in parts)


LEARNING_RATE = 2e-4
"""Default of Unsloth's notebooks, for callers without a recommended rate."""
STEPS = 60
"""Length of a training for which neither steps nor tokens are given."""
MAX_LORAPLUS_RATIO = 1000
"""Largest ratio of learning rates that an export accepts; the paper and its users take 2 to 32."""


def published(model_id: str) -> Published | None:
    """Return the format of a checkpoint that is published quantized; None for 16 or 32 bit, or for bitsandbytes.
    model_id: Hub id, or a folder with a config.json that decides."""
    config = Path(model_id) / "config.json"
    if config.is_file():
        stored = read_config(config).get("quantization_config")
        return by_method(str(stored.get("quant_method", ""))) if isinstance(stored, dict) else None
    return by_name(model_id)


def loadable(model: ModelSpec, ref: str) -> str:
    """Return the name by which libraries load the model. ref: as References.model takes it."""
    ref = EMBEDDED_ID if ref == EMBEDDED else meant(load_index(ASSETS), ref)[0]
    names = (model.id.removesuffix(":whole"), *model.aliases)
    known = {name.lower().split("/")[-1]: name for name in reversed(names)} | {name.lower(): name for name in names}
    return known.get(ref.lower(), ref)


FRAMEWORKS: dict[str, str] = {"unsloth": "Unsloth", "trl": "TRL", "peft": "PEFT", "mlx": "MLX LM"}
NAMES_NO_EXPERTS = "LLaMA-Factory"
"""Tool without PEFT's target_parameters and rank_pattern; all others have them."""


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


def best_way(
    model: ModelSpec, requested: LoraConfig, wanted: AdapterPlan, chosen: Framework, training: TrainingSetup, tool: str
) -> tuple[LoraConfig, AdapterPlan, AdapterPlan | None, tuple[str, ...]]:
    """Return settings of an export, the adapter as written, the adapter that then trains (None if refused) and notes:
    the first of `_variants` with exactly the requested parameters, else the first accepted."""
    first = refused = None
    by_paths = tool == NAMES_NO_EXPERTS and composite(model) is not None
    vision = any(adapted.layer.part == "vision" for adapted in wanted.adapted)
    for lora in _variants(model, requested, wanted, chosen, training.framework):
        try:
            plan = resolve(model, lora, training.framework, precision=training.precision)
        except InvalidSettingError as error:
            refused = refused or error
            plan = replace(wanted, target_modules=lora.target_modules)
            if not (by_paths and reached(plan.model, plan, vision=vision)):
                continue  # else the tool keeps these names from the modules that PEFT refuses
        # A list without the names that would reach the experts can train the requested adapter, too.
        for each in (plan, replace(plan, target_modules=plan.target_names)):
            paths = reached(each.model, each, vision=vision) if by_paths else None
            named = each.target_parameters and tool != NAMES_NO_EXPERTS
            if paths is None and (named or not model.has_experts):
                trained, notes = each, ()
            else:
                trained, notes = _trained(model, lora, training, each, tool, paths)
            first = first or (lora, each, trained, notes)
            if trained is not None and trained.parameters(lora.r) == wanted.parameters(lora.r):
                return lora, each, trained, notes
    if first is None:
        raise refused
    return first


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
    settings = {"modules_to_save": wanted.modules_to_save, "moe_scheme": moe, "unsloth_class": "FastLanguageModel"}
    named = replace(requested, **dict.fromkeys(FLAGS), **settings)  # names only, without Unsloth's flags
    # The plan for PEFT is without the names by which this scheme knows experts.
    requested_names = (requested.target_modules,) if scheme == "unsloth" != chosen else ()
    for names in dict.fromkeys((*requested_names, wanted.target_modules, wanted.target_names)):
        yield replace(named, target_modules=names)


def _trained(
    model: ModelSpec,
    lora: LoraConfig,
    training: TrainingSetup,
    plan: AdapterPlan,
    tool: str,
    paths: tuple[str, ...] | None,
) -> tuple[AdapterPlan | None, tuple[str, ...]]:
    """Return the adapter that a training with the file makes, and notes; None where PEFT refuses it. The file cannot
    name an MoE scheme. paths: the modules that the tool gives to PEFT; None where it gives target names."""
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


FILE_NAME = "train.jsonl"
"""File name in an export where the name of the user's file is unknown."""
USUAL: dict[str, set[Trait]] = {"messages": {"role", "user", "assistant"}, "conversations": {"from", "human", "gpt"}}
"""Key and roles of the messages, by the form of chats."""
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
    """Adapter that trains from these names: the plan, or another adapter where the tool has its own rule for modules or
    cannot name experts. None where training is refused."""
    names_experts: bool = True
    """True where the tool can name fused experts and their rank (PEFT's target_parameters and rank_pattern)."""
    adapter_parameters: int
    learning_rate: float = LEARNING_RATE
    loraplus_lr_ratio: float | None = None
    """LoRA+: learning rate of lora_B over that of lora_A; None for plain LoRA."""
    notes: tuple[str, ...] = ()

    @property
    def target_modules(self) -> str | tuple[str, ...]:
        """PEFT's target_modules: names, "all-linear", or a pattern that matches the text tower only."""
        if self.plan.model.tower != "whole for text" or self.training.framework == "unsloth":
            return self.plan.target_modules
        names = self.plan.target_names if self.plan.target_modules == "all-linear" else self.plan.target_modules
        return f".*{TEXT_TOWER}.*[.]({'|'.join(name.replace('.', '[.]') for name in names)})"

    @property
    def target_parameters(self) -> tuple[str, ...]:
        """PEFT's target_parameters: fused experts; empty where the scheme or the tool does not name them."""
        return self.plan.target_parameters if self.names_experts else ()

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
        return data.num_train_epochs if data is not None and self.training.data_steps is not None else None

    @property
    def data(self) -> TrainingData:
        """Details of the examples; with empty fields where the data is unknown."""
        return self.training.data or TrainingData()

    @property
    def adapter_bytes(self) -> tuple[int, ...]:
        """Size of the adapter's file after training on a GPU, followed by the size on a GPU without bf16 if it
        differs; empty where training is refused."""
        if (plan := self.trained) is None:
            return ()
        setup = self.training
        each = (compute_dtype(self.model_type, setup, bf16=bf16) for bf16 in (True, False))
        sizes = (
            plan.trained_adapter_bytes(self.lora.r, setup.framework, setup.precision, compute=compute)
            for compute in each
        )
        return tuple(dict.fromkeys(sizes))

    @property
    def warmup_steps(self) -> int:
        """Number of warm-up steps: the share of all steps that RankViz's own runs use."""
        return round(WARMUP_STEPS_SHARE * self.max_steps)

    @property
    def is_chat(self) -> bool:
        """True where the model has its own chat template, which ends its answers."""
        return bool(is_chat_model(self.model_id, self.model_type))

    @property
    def title(self) -> str:
        """A title such as "LoRA r = 16, alpha = 16 on Qwen/Qwen3-4B"."""
        kind = "DoRA" if self.lora.use_dora else "LoRA"
        return f"{kind} r = {self.lora.r}, alpha = {self.lora_alpha:g} on {self.model_id}"

    @property
    def sources(self) -> str:
        """A sentence with the number of trained parameters and the rules by which it was counted."""
        unsloth = f" and Unsloth {UNSLOTH_VERSION}" if self.training.framework == "unsloth" else ""
        return (
            f"RankViz {__version__} counts {self.adapter_parameters:,} trainable parameters, from the model's own "
            f"layers by the rules of PEFT {PEFT_VERSION}{unsloth}."
        )

    @property
    def file_name(self) -> str:
        """Name of the file of examples; FILE_NAME where the user's file is unknown."""
        return self.data.file_name or FILE_NAME

    def require_readable(self, tool: str, *more: Trait) -> None:
        """Raise InvalidSettingError unless the tool reads every row of the file. more: traits that it does not read."""
        names = set.union(*USUAL.values()) - USUAL.get(self.data.form or "", set())
        unread = {"numbers", "lists", "json", "system", *ENCODINGS, *DELIMITERS, *more, *names}
        if self.data.columns or unread.intersection(self.data.traits):
            raise InvalidSettingError(
                f"{tool} cannot train on all rows of {self.data.file_name or 'this file'}: numbers, lists of messages "
                "or JSON in place of text, chats whose keys, roles or turns it does not know, columns of other names, "
                "another encoding, or semicolons or tabs between cells. Use the Unsloth or TRL script, which reads "
                "them, or change the file."
            )


def recipe(
    model: ModelSpec,
    question: Question,
    r: int,
    *,
    framework: Framework,
    learning_rate: float = LEARNING_RATE,
    loraplus_lr_ratio: float | None = None,
    tool: str = "",
) -> Recipe:
    """Return the question's adapter at rank r for a tool that trains with `framework`. tool: its own name."""
    number(learning_rate, "Learning rate", 0, 1, above=True)
    if loraplus_lr_ratio is not None:
        number(loraplus_lr_ratio, "loraplus_lr_ratio", 1, MAX_LORAPLUS_RATIO)
    requested, chosen = question.lora_at(r), question.training.framework
    if question.training.data and question.training.data.form == "prompt" and not question.training.grpo:
        raise InvalidSettingError("These rows were read as prompts, without answers to learn: choose the method grpo.")
    training = replace(question.training.without_auto(card(None)), framework=framework)
    model_id = loadable(model, question.model_id.strip().removesuffix(":whole"))
    stored = published(model_id) if framework != "unsloth" else None
    about_stored = as_stored(model, model_id, stored, training)
    if stored and stored.config_class and training.quantized:
        training = replace(training, precision="bf16")
    tool = tool or FRAMEWORKS[framework]
    wanted, refusal = wanted_plan(model, requested, chosen, training, tool)
    if refusal:
        chosen = framework
    writable, notes = wanted, [*refusal]
    if tool == NAMES_NO_EXPERTS and wanted.expert_rank != "r":
        requested = replace(requested, expert_rank="r")
        writable, _ = wanted_plan(model, requested, chosen, training, tool)
        notes.append(f"{tool} has no setting for rank_pattern, so with this file experts have rank r.")
    lora, plan, trained, about_way = best_way(model, requested, writable, chosen, training, tool)
    notes += about_way
    count = None if trained is None else trained.parameters(r)
    if count is not None and count != wanted.parameters(r):
        notes.append(
            f"{tool} trains {count:,} parameters with this; the requested adapter, with {FRAMEWORKS[chosen]}, has "
            f"{wanted.parameters(r):,}."
        )
    if question.model_id.strip().endswith(".json"):
        notes.append("The model was given as a config.json: write the folder or the Hub id of its weights instead.")
    notes += () if trained is None else trained.notes  # what the estimate says of this adapter
    notes += about_stored
    if loraplus_lr_ratio is not None:
        # PEFT and LLaMA-Factory put all one-dimensional weights into lora_B's group.
        faster = "lora_B and DoRA's magnitudes learn" if requested.use_dora else "lora_B learns"
        notes.append(
            f"LoRA+: {faster} with {loraplus_lr_ratio:g} times the rate of lora_A, {learning_rate:g}. PEFT's "
            "documentation advises about half the rate of plain LoRA. Memory and time stay the same."
        )
    return Recipe(
        model_id=model_id,
        dequantize=stored.config_class if stored else "",
        model_type=model.model_type,
        lora=lora,
        training=training,
        plan=plan,
        trained=trained,
        names_experts=tool != NAMES_NO_EXPERTS,
        adapter_parameters=wanted.parameters(r) if count is None else count,
        learning_rate=learning_rate,
        loraplus_lr_ratio=loraplus_lr_ratio,
        notes=tuple(notes),
    )
