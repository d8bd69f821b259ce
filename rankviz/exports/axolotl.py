"""Writes a configuration for Axolotl: `axolotl train axolotl.yaml`, and YAML with comments between its sections."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import yaml

from rankviz.core.cost.setup import Form
from rankviz.errors import InvalidSettingError
from rankviz.exports.chat import end_of_turn
from rankviz.exports.recipe import EVAL_STEPS, HELD_OUT_SHARE, LOGGING_STEPS, SCHEDULER, SEED, WEIGHT_DECAY, Recipe
from rankviz.exports.words import (
    FILE_NAME,
    HELD_OUT,
    Verbatim,
    commented,
    names_in,
    other_program,
    require_readable,
    row_of,
    rows_of,
    sources,
    title,
)


class YamlSection(NamedTuple):
    """Settings that belong together, under comments of their own."""

    values: Mapping[str, Any]
    comments: tuple[str, ...] = ()


def document(header: Iterable[str], sections: Iterable[YamlSection]) -> str:
    """The header's sentences as comments, then the sections, a blank line between them."""
    parts = [commented(tuple(header))]
    for section in sections:
        values = yaml.safe_dump(dict(section.values), sort_keys=False, allow_unicode=True) if section.values else ""
        if section.comments or values:
            parts.append(commented(section.comments) + values)
    return "\n".join(parts)


def in_one_line(name: str, value: Any) -> str:
    """One setting as JSON, which YAML takes, on one line, to be copied from a comment."""
    return f"{name}: {json.dumps(value, ensure_ascii=False)}"


VERSION = "0.21.0"
"""The release whose schema the keys are checked against."""
ATTENTION = {"sdpa": "sdpa", "flash": "flash_attention_2", "eager": "eager"}
CHECKPOINTING: dict[str, Any] = {"unsloth": "offload", "hf": True, "none": False}
PLUGINS = {
    "fused": {
        "plugins": ["axolotl.integrations.liger.LigerPlugin"],
        "liger_fused_linear_cross_entropy": True,
    },
    "triton": {"plugins": ["axolotl.integrations.liger.LigerPlugin"], "liger_cross_entropy": True},
}


def axolotl(recipe: Recipe) -> str:
    """The YAML, with a comment for each thing that Axolotl does otherwise than was asked."""
    require_readable(recipe, "Axolotl")
    lora, setup = recipe.lora, recipe.training
    header = (
        f"{title(recipe)}, for Axolotl {VERSION}: axolotl train axolotl.yaml",
        sources(recipe),
        other_program("Axolotl"),
        *recipe.notes,
    )
    return document(
        header,
        [
            YamlSection({"base_model": recipe.model_id, **_precision(setup.precision), **_dequantized(recipe)}),
            YamlSection(
                {
                    "adapter": "qlora" if setup.precision in ("nf4", "nf4-dq") else "lora",
                    "lora_r": lora.r,
                    "lora_alpha": recipe.whole_alpha("Axolotl"),
                    "lora_dropout": 0.0,
                    **_targets(recipe),
                    "peft_use_rslora": lora.use_rslora,
                    "peft_use_dora": lora.use_dora,
                }
            ),
            YamlSection(
                {
                    **_rows(recipe, _form(recipe)),
                    "train_on_inputs": False,
                    "val_set_size": HELD_OUT_SHARE,
                    "eval_steps": EVAL_STEPS,
                    "sequence_len": recipe.max_length,
                    "excess_length_strategy": "truncate",  # as the other tools do; by default it drops the row
                    "sample_packing": False,
                },
                _about_rows(recipe),
            ),
            YamlSection(
                {
                    "micro_batch_size": setup.per_device_train_batch_size,
                    "eval_batch_size": setup.per_device_train_batch_size,
                    "gradient_accumulation_steps": setup.gradient_accumulation_steps,
                    "gradient_checkpointing": CHECKPOINTING[setup.gradient_checkpointing],
                    "attn_implementation": ATTENTION[setup.attn_implementation],
                    "optimizer": setup.optim,
                    "weight_decay": WEIGHT_DECAY,
                    "learning_rate": recipe.learning_rate,
                    "lr_scheduler": SCHEDULER,
                    "warmup_steps": recipe.warmup_steps,
                    **({"num_epochs": recipe.epochs} if recipe.epochs else {"max_steps": recipe.max_steps}),
                    "seed": SEED,
                    "logging_steps": LOGGING_STEPS,
                    "output_dir": "outputs",
                },
                () if recipe.epochs else ("For full passes over the data, write num_epochs: 1 instead of max_steps.",),
            ),
            YamlSection(PLUGINS.get(setup.loss_path, {}), _about_loss(setup.loss_path)),
            YamlSection({}, ("Base and adapter as one model: axolotl merge-lora axolotl.yaml",)),
        ],
    )


USER, ASSISTANT = "### User:\n{instruction}\n\n", "### Assistant:\n"
HEADINGS = (
    "{% for turn in messages %}### {{ turn['role'] | capitalize }}:\n{{ turn['content'] }}"
    "{% if turn['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n\n{% endfor %}"
    "{% if add_generation_prompt %}### Assistant:\n{% endif %}"
)
"""The chat template for a base model, which has none: as in the scripts, but with the end token behind each answer."""
CHAT = {"type": "chat_template", "roles_to_train": ["assistant"], "train_on_eos": "turn"}
FORMS: dict[Form, dict[str, Any]] = {
    "messages": {**CHAT, "field_messages": "messages"},
    "conversations": {**CHAT, "field_messages": "conversations"},
    "prompt-completion": {
        "type": {
            "field_instruction": "prompt",
            "field_output": "completion",
            "format": "{instruction}",
            "no_input_format": "{instruction}",
        }
    },
    "instruction": {
        "type": {
            "field_instruction": "instruction",
            "field_input": "input",
            "field_output": "output",
            "format": f"{USER}{{input}}\n\n{ASSISTANT}",
            "no_input_format": f"{USER}{ASSISTANT}",
        }
    },
    "text": {"type": "completion", "field": "text"},
}
"""By the form of the rows: how Axolotl reads them. Chats go through a chat template, of which the assistant's turns are
learned with the token that ends them. To all others Axolotl adds the tokenizer's end token, and learns it."""


def _rows(recipe: Recipe, form: Form) -> dict[str, Any]:
    """How Axolotl reads the file with the rows."""
    name = recipe.file_name or FILE_NAME
    ending = name.rpartition(".")[2].lower()
    row = {"path": name, "ds_type": "json" if ending == "jsonl" else ending, **FORMS[form]}
    if FORMS[form]["type"] != "chat_template":
        return {"datasets": [row]}
    names = names_in(form, recipe.traits)
    if names.role != "role":  # of the roles it knows both names
        row["message_property_mappings"] = {"role": names.role, "content": names.content}
    if not recipe.is_chat:
        return {"datasets": [{**row, "chat_template": "jinja", "chat_template_jinja": HEADINGS}]}
    end = end_of_turn(recipe.model_id, recipe.model_type)
    return {"datasets": [{**row, "chat_template": "tokenizer_default"}], **({"eot_tokens": [end]} if end else {})}


def _form(recipe: Recipe) -> Form:
    """That of the data; where it is unknown, chats for a chat model and texts for a base model."""
    return recipe.form or ("messages" if recipe.is_chat else "prompt-completion")


def _about_rows(recipe: Recipe) -> tuple[str, ...]:
    form = _form(recipe)
    about = (*rows_of(recipe, form), _learned(recipe, form), HELD_OUT)
    if recipe.form:
        return about
    other: Form = "prompt-completion" if form == "messages" else "messages"
    line = Verbatim(in_one_line("datasets", _rows(recipe, other)["datasets"]))
    return (*about, "For the other kind of rows:", row_of(other), _learned(recipe, other), line)


def _learned(recipe: Recipe, form: Form) -> str:
    """What is learned of rows of this form, in a sentence."""
    end = "with the tokenizer's end token"
    match form:
        case "prompt-completion":
            lists = "" if recipe.form else " Both are text: lists of messages are not read."
            return f"The completion is learned, {end} added to it.{lists}"
        case "instruction":
            return (
                f"The output is learned, {end} added to it. Axolotl puts no instructions through a chat template, so "
                "these stand under headings. For the chat template, write the rows as messages."
            )
        case "text":
            return f"The whole text is learned, {end} added to it."
    if not recipe.is_chat:
        return f"The assistant's turns are learned, {end} behind each. The turns stand under headings."
    if end_of_turn(recipe.model_id, recipe.model_type) is None:
        return (
            "The assistant's turns are learned without an end: the chat template of this model writes none, and "
            "Axolotl adds none. The scripts for Unsloth, TRL and PEFT learn the end too."
        )
    return "The assistant's turns are learned, with the token that ends them."


def _precision(precision: str) -> dict[str, Any]:
    """bf16 is what 4-bit and 8-bit bases compute in, too."""
    match precision:
        case "nf4-dq":
            return {"load_in_4bit": True, "bf16": True}
        case "nf4":
            return {"load_in_4bit": True, "bnb_config_kwargs": {"bnb_4bit_use_double_quant": False}, "bf16": True}
        case "int8":
            return {"load_in_8bit": True, "bf16": True}
        case "fp16":
            return {"bf16": False, "fp16": True}
        case "fp32":
            return {"bf16": False, "fp16": False, "tf32": False}
    return {"bf16": True}


def _dequantized(recipe: Recipe) -> dict[str, Any]:
    """For a checkpoint that is published quantized."""
    if not recipe.dequantize:
        return {}
    return {
        "model_quantization_config": recipe.dequantize,
        "model_quantization_config_kwargs": {"dequantize": True},
    }


def _targets(recipe: Recipe) -> dict[str, Any]:
    if recipe.target_modules == "all-linear":
        targets: dict[str, Any] = {"lora_target_linear": True}
    else:
        names = recipe.target_modules
        targets = {"lora_target_modules": names if isinstance(names, str) else list(names)}
    if recipe.target_parameters:
        targets["lora_target_parameters"] = list(recipe.target_parameters)
    for name, pattern in recipe.patterns.items():
        if not all(isinstance(value, int) for value in pattern.values()):
            raise InvalidSettingError(
                f"Axolotl needs whole numbers in lora_{name} (got {', '.join(map(str, pattern.values()))}). Choose "
                "another alpha or expert_rank, or another format."
            )
        targets[f"lora_{name}"] = pattern
    if recipe.modules_to_save:
        targets["lora_modules_to_save"] = list(recipe.modules_to_save)
    return targets


def _about_loss(loss_path: str) -> tuple[str, ...]:
    match loss_path:
        case "fused":
            return ("Liger's fused loss never holds all logits; it needs the package liger-kernel.",)
        case "triton":
            return ("Liger's loss holds the logits once; it needs the package liger-kernel.",)
    return ()
