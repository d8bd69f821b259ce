"""Writes a configuration for LLaMA-Factory: `llamafactory-cli train llamafactory.yaml`."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from rankviz.core.cost.setup import Form, Trait
from rankviz.core.lora.config import QUANTIZED
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.model.spec import ModelSpec
from rankviz.exports.axolotl import YamlSection, document
from rankviz.exports.chat import llamafactory_template
from rankviz.exports.recipe import EVAL_STEPS, HELD_OUT_SHARE, LOGGING_STEPS, SCHEDULER, SEED, WEIGHT_DECAY, Recipe
from rankviz.exports.words import (
    FILE_NAME,
    HELD_OUT,
    UNREAD,
    Unread,
    Verbatim,
    names_in,
    other_program,
    require_readable,
    row_of,
    rows_of,
    sources,
    title,
)


class Composite(NamedTuple):
    """What LLaMA-Factory knows of a multimodal family; parts of paths."""

    projector: tuple[str, ...] = ("multi_modal_projector",)
    vision: tuple[str, ...] = ("vision_tower",)
    never: tuple[str, ...] = ()
    """Modules that never carry LoRA (lora_conflict_keys)."""


_QWEN2_VL = Composite(("visual.merger",), ("visual.patch_embed", "visual.blocks"), ("patch_embed",))
_QWEN3_VL_TOWER = ("visual.pos_embed", "visual.patch_embed", "visual.blocks", "visual.deepstack_merger_list")
_QWEN3_VL = Composite(("visual.merger",), _QWEN3_VL_TOWER, ("patch_embed",))
_QWEN3_5 = Composite(
    ("model.visual.merger",), ("visual.pos_embed", "visual.patch_embed", "visual.blocks"), ("patch_embed",)
)
_PLAIN = (
    "gemma3", "internvl", "interns1", "kimi_vl", "llava", "llava_next", "llava_next_video", "paligemma", "video_llava"
)  # fmt: skip
COMPOSITES = {
    **dict.fromkeys(_PLAIN, Composite()),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "glm4v", "glm4v_moe", "glm_ocr"), _QWEN2_VL),
    **dict.fromkeys(("qwen3_vl", "qwen3_vl_moe"), _QWEN3_VL),
    **dict.fromkeys(("qwen3_5", "qwen3_5_moe"), _QWEN3_5),
    **dict.fromkeys(("llama4", "mllama"), Composite(vision=("vision_model",))),
    "Keye": Composite(
        ("mlp_AR",), ("visual.vision_model.patch_embedding", "visual.vision_model.encoder"), ("patch_embedding",)
    ),
    "dots_ocr": Composite(("vision_tower.merger",), ("vision_tower",), ("merger",)),
    "gemma3n": Composite(vision=("vision_tower", "audio_tower"), never=("timm_model", "subsample_conv_projection")),
    "gemma4": Composite(
        ("model.embed_vision", "model.embed_audio"), ("vision_tower", "audio_tower"), ("per_layer_projection_norm",)
    ),
    "minicpmv": Composite(("resampler",), ("vpm",)),
    "minicpmv4_6": Composite(("model.merger",), ("model.vision_tower",)),
    "minicpmo": Composite(
        ("resampler",),
        ("vpm", "apm", "audio_avg_pooler", "audio_projection_layer", "tts"),
        ("audio_projection_layer",),
    ),
    "mistral3": Composite(("model.multi_modal_projector",)),
    "qwen2_5_omni_thinker": Composite(
        ("visual.merger", "audio_tower.proj"),
        ("visual.patch_embed", "visual.blocks", "audio_tower"),
        ("patch_embed",),
    ),
    "qwen2_audio": Composite(vision=("audio_tower",)),
    "qwen3_omni_moe_thinker": Composite(
        ("visual.merger", "audio_tower.proj"), (*_QWEN3_VL_TOWER, "audio_tower"), ("patch_embed",)
    ),
}
"""By model_type of the whole model (COMPOSITE_MODELS)."""
NOT_IN_ALL = ("lm_head", "feed_forward.router")
"""What "all" never means: the head, and Llama 4's router, a linear layer whose class has another name."""
_WHOLE_OF = {"ministral3": "mistral3", "mistral": "mistral3", "mllama_text_model": "mllama"}
"""model_type of a text tower: that of the whole, where it isn't the same without "_text"."""


def composite(model: ModelSpec) -> Composite | None:
    """What LLaMA-Factory knows of the checkpoint that this model, or this text tower, is loaded from."""
    if model.tower == "text":
        return None
    whole = _WHOLE_OF.get(model.model_type, model.model_type.removesuffix("_text"))
    return COMPOSITES.get(model.model_type if model.is_whole else whole)


def reached(model: ModelSpec, plan: AdapterPlan, *, vision: bool) -> tuple[str, ...] | None:
    """Paths of the modules that LLaMA-Factory hands to PEFT; None where it hands on the names themselves.

    plan: with the names of the file. vision: whether the file thaws the vision tower and the projector.
    """
    family = composite(model)
    if family is None:
        return None
    frozen = () if vision else family.vision
    names = plan.target_modules
    if isinstance(names, str):
        skipped = (*NOT_IN_ALL, *family.projector, *frozen)
        linear = [layer for layer in model.layers if layer.kind in ("linear", "lm_head")]
        names = tuple(dict.fromkeys(layer.name for layer in linear if not _contains(layer.path, skipped)))
    forbidden = (*frozen, *(() if vision else family.projector), *family.never)
    return tuple(path for path in _paths(model) if _contains(path, names) and not _contains(path, forbidden))


def _paths(model: ModelSpec) -> list[str]:
    """All modules on the way to a weight, once each."""
    paths: dict[str, None] = {}
    for layer in model.layers:
        if layer.kind in ("experts", "router"):
            continue
        for block in layer.blocks or (0,):
            parts = layer.path.format(block).split(".")
            paths |= dict.fromkeys(".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return list(paths)


def _contains(path: str, parts: Sequence[str]) -> bool:
    return any(part in path for part in parts)


VERSION = "0.9.5"
"""The release whose arguments the keys are checked against."""
ATTENTION = {"sdpa": "sdpa", "flash": "fa2", "eager": "disabled"}
PLAIN_TEXT = "fewshot"
"""The template for base models: it leaves the prompt unchanged and ends the completion with two line breaks and the
tokenizer's end token. "empty" would leave the end token out, and the model would never learn to stop."""
_TURNS = "it leaves out chats in which user and assistant do not take turns up to an answer"
_ROLES = "one role has two names"
UNREAD_HERE: Unread = (
    *UNREAD,
    ({"uneven"}, _TURNS),
    ({"user", "human"}, _ROLES),
    ({"assistant", "gpt"}, _ROLES),
)


def entry(form: Form, traits: Sequence[Trait] = ()) -> dict[str, Any]:
    """Return the entry of dataset_info.json for rows of this form."""
    match form:
        case "prompt-completion":
            return {"columns": {"prompt": "prompt", "response": "completion"}}
        case "instruction":
            query = {} if "no-input" in traits else {"query": "input"}
            return {"columns": {"prompt": "instruction", **query, "response": "output"}}
        case "text":
            return {"columns": {"prompt": "text"}}
    names = {f"{name}_tag": value for name, value in names_in(form, traits)._asdict().items()}
    return {"formatting": "sharegpt", "columns": {"messages": form}, "tags": {**names, "system_tag": "system"}}


def dataset_info(recipe: Recipe) -> str:
    """The file that tells LLaMA-Factory how to read the rows: by their form, or where that is unknown as rows of prompt
    and completion and as whole chats."""
    known = {"train": entry(recipe.form, recipe.traits)} if recipe.form else {}
    entries = known or {"train": entry("prompt-completion"), "chats": entry("messages")}
    file = {"file_name": recipe.file_name or FILE_NAME}
    return json.dumps({name: file | each for name, each in entries.items()}, indent=2, ensure_ascii=False) + "\n"


def llamafactory(recipe: Recipe) -> str:
    """The YAML, with a comment for each thing that LLaMA-Factory does otherwise than was asked."""
    require_readable(recipe, "LLaMA-Factory", UNREAD_HERE)
    lora, setup = recipe.lora, recipe.training
    header = (
        f"{title(recipe)}, for LLaMA-Factory {VERSION}: llamafactory-cli train llamafactory.yaml",
        sources(recipe),
        other_program("LLaMA-Factory"),
        *recipe.notes,
        *_otherwise(recipe),
    )
    modules = recipe.plan.target_modules  # it keeps to the text tower by itself
    adapter = {
        "lora_rank": lora.r,
        "lora_alpha": recipe.whole_alpha("LLaMA-Factory"),
        "lora_dropout": 0.0,
        "lora_target": "all" if modules == "all-linear" else ",".join(modules),
    }
    if any(adapted.layer.part == "vision" for adapted in (recipe.trained or recipe.plan).adapted):
        # By default the names reach the text tower alone (model/model_utils/visual.py).
        adapter |= {"freeze_vision_tower": False, "freeze_multi_modal_projector": False}
    if recipe.modules_to_save:
        adapter["additional_target"] = ",".join(recipe.modules_to_save)
    return document(
        header,
        [
            YamlSection({"model_name_or_path": recipe.model_id, **_precision(setup.precision)}),
            YamlSection(
                {
                    "stage": "pt" if recipe.form == "text" else "sft",
                    "do_train": True,
                    "finetuning_type": "lora",
                    **adapter,
                    "use_rslora": lora.use_rslora,
                    "use_dora": lora.use_dora,
                }
            ),
            YamlSection(
                {
                    "dataset": "train",
                    "dataset_dir": ".",
                    **_template(recipe),
                    "cutoff_len": recipe.max_length,
                    "packing": False,
                    "val_size": HELD_OUT_SHARE,
                },
                _about_data(recipe),
            ),
            YamlSection(
                {
                    "per_device_train_batch_size": setup.per_device_train_batch_size,
                    "per_device_eval_batch_size": setup.per_device_train_batch_size,
                    "gradient_accumulation_steps": setup.gradient_accumulation_steps,
                    **({"num_train_epochs": recipe.epochs} if recipe.epochs else {"max_steps": recipe.max_steps}),
                    "learning_rate": recipe.learning_rate,
                    "lr_scheduler_type": SCHEDULER,
                    "warmup_steps": recipe.warmup_steps,
                    "weight_decay": WEIGHT_DECAY,
                    "optim": setup.optim,
                    "seed": SEED,
                    "eval_strategy": "steps",
                    "eval_steps": EVAL_STEPS,
                    "flash_attn": ATTENTION[setup.attn_implementation],
                    **_checkpointing(recipe),
                    "output_dir": "outputs",
                    "logging_steps": LOGGING_STEPS,
                    "report_to": "none",
                },
                ()
                if recipe.epochs
                else ("For full passes over the data, write num_train_epochs: 1 instead of max_steps.",),
            ),
            YamlSection(*_loss(recipe)),
            YamlSection({}, _merging(recipe)),
        ],
    )


def _template(recipe: Recipe) -> dict[str, str]:
    """Empty where its template is unknown: LLaMA-Factory then reads the tokenizer's own."""
    through_chats = recipe.is_chat and recipe.form != "text"
    name = llamafactory_template(recipe.model_id, recipe.model_type) if through_chats else PLAIN_TEXT
    return {"template": name} if name else {}


def _about_data(recipe: Recipe) -> tuple[str, ...]:
    form = recipe.form or "prompt-completion"
    about = (*rows_of(recipe, form), "Put dataset_info.json, which comes with this file, beside it.")
    if form == "text":
        return (*about, "The whole text is learned, with the tokenizer's end token: stage pt adds it.", HELD_OUT)
    if not recipe.form:
        about += ("Both are text: lists of messages are not read.",)
    if recipe.is_chat and not recipe.form:
        about += ("For whole chats, write dataset: chats. The rows are then:", row_of("messages"))
    if not recipe.is_chat:
        about += (
            f"template {PLAIN_TEXT} leaves the prompt unchanged, and ends the completion with two line breaks and the "
            "end token.",
        )
    elif not _template(recipe):
        about += (
            f"RankViz knows no template of LLaMA-Factory {VERSION} for this model. Without one, LLaMA-Factory reads "
            "the tokenizer's own chat template, and stops where it cannot: then set the template of its family. "
            "Check in the log that the labels it prints end with the end token.",
        )
    return (*about, HELD_OUT)


def _merging(recipe: Recipe) -> tuple[str, ...]:
    template = "".join(f" --template {name}" for name in _template(recipe).values())
    return (
        "Base and adapter as one model:",
        Verbatim(
            f"llamafactory-cli export --model_name_or_path {recipe.model_id} --adapter_name_or_path outputs{template} "
            "--export_dir merged"
        ),
    )


def trains_with_unsloth(framework: str, precision: str) -> bool:
    """use_unsloth loads a base in 16 or 4 bit; in 8 bit it would quietly load 16 bit."""
    return framework == "unsloth" and precision in ("nf4", "nf4-dq", "bf16", "fp16")


def _precision(precision: str) -> dict[str, Any]:
    compute = {"fp16": True} if precision == "fp16" else {"bf16": True}
    if precision in QUANTIZED:
        bits: dict[str, Any] = {"quantization_method": "bnb", "quantization_bit": 8 if precision == "int8" else 4}
        if precision != "int8":
            bits |= {"quantization_type": "nf4", "double_quantization": precision == "nf4-dq"}
        return bits | compute
    return {} if precision == "fp32" else compute


def _checkpointing(recipe: Recipe) -> dict[str, Any]:
    if recipe.training.framework == "unsloth":
        return {"use_unsloth": True}
    return {**({"use_unsloth": False} if composite(recipe.plan.model) else {}), **_plain_checkpointing(recipe)}


def _plain_checkpointing(recipe: Recipe) -> dict[str, Any]:
    match recipe.training.gradient_checkpointing:
        case "unsloth":
            return {"use_unsloth_gc": True}
        case "none":
            return {"disable_gradient_checkpointing": True}
    return {"disable_gradient_checkpointing": False}


def _loss(recipe: Recipe) -> tuple[dict[str, Any], tuple[str, ...]]:
    if recipe.training.loss_path == "fused" and recipe.training.framework != "unsloth":
        return (
            {"enable_liger_kernel": True},
            ("Liger's fused loss never holds all logits; it needs the package liger-kernel.",),
        )
    return {}, ()


def _otherwise(recipe: Recipe) -> list[str]:
    setup, notes = recipe.training, []
    unsloth = recipe.training.framework == "unsloth"
    if composite(recipe.plan.model):
        notes.append(
            "LLaMA-Factory loads this model with all its towers and turns the names in lora_target into full module "
            "paths. Unsloth's FastLanguageModel finds no layers by such paths and stops, so use_unsloth is false: "
            + (f"PEFT trains {recipe.adapter_parameters:,} parameters." if recipe.trained else "PEFT trains.")
        )
    if unsloth and setup.gradient_checkpointing != "unsloth":
        notes.append(
            f"With use_unsloth checkpointing is always Unsloth's: {setup.gradient_checkpointing!r} is not set."
        )
    if unsloth and setup.precision == "nf4":
        notes.append("Unsloth always quantizes the constants of a 4-bit base too, as nf4-dq does.")
    if setup.loss_path == "triton" or (unsloth and setup.loss_path == "full"):
        notes.append(f"LLaMA-Factory has no setting for the loss path {setup.loss_path!r}: not set.")
    if setup.precision == "fp32":
        notes.append("LLaMA-Factory has no fp32 base: without bf16 and fp16 it uses the GPU's best type.")
    return notes
