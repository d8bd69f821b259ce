"""Writes a configuration for Axolotl: `axolotl train axolotl.yaml`.

tests/export/tools/test_axolotl.py gives it to the validation of the pinned Axolotl, the same that `axolotl train`
begins with.
"""

from typing import Any

from rankviz.export import defaults
from rankviz.export.chat import end_of_turn
from rankviz.export.recipe import Recipe
from rankviz.export.tools.yaml_text import Section, document, in_one_line
from rankviz.export.words import (
    HELD_OUT,
    MESSAGES_ROW,
    ROWS,
    TEXT_ROW,
    Verbatim,
    other_program,
    sources,
    title,
)

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
            Section({"base_model": recipe.model_id, **_precision(setup.precision), **_dequantized(recipe)}),
            Section(
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
            Section(
                {
                    **_rows(recipe),
                    "train_on_inputs": False,
                    "val_set_size": defaults.HELD_OUT_SHARE,
                    "eval_steps": defaults.EVAL_STEPS,
                    "sequence_len": recipe.max_length,
                    "sample_packing": False,
                },
                _about_rows(recipe),
            ),
            Section(
                {
                    "micro_batch_size": setup.per_device_train_batch_size,
                    "eval_batch_size": setup.per_device_train_batch_size,
                    "gradient_accumulation_steps": setup.gradient_accumulation_steps,
                    "gradient_checkpointing": CHECKPOINTING[setup.gradient_checkpointing],
                    "attn_implementation": ATTENTION[setup.attn_implementation],
                    "optimizer": setup.optim,
                    "weight_decay": defaults.WEIGHT_DECAY,
                    "learning_rate": recipe.learning_rate,
                    "lr_scheduler": defaults.SCHEDULER,
                    "warmup_steps": recipe.warmup_steps,
                    **({"num_epochs": recipe.epochs} if recipe.epochs else {"max_steps": recipe.max_steps}),
                    "seed": defaults.SEED,
                    "logging_steps": defaults.LOGGING_STEPS,
                    "output_dir": "outputs",
                },
                () if recipe.epochs else ("For full passes over the data, write num_epochs: 1 instead of max_steps.",),
            ),
            Section(PLUGINS.get(setup.loss_path, {}), _about_loss(setup.loss_path)),
            Section({}, ("Base and adapter as one model: axolotl merge-lora axolotl.yaml",)),
        ],
    )


PLAIN_ROWS = {
    "datasets": [
        {
            "path": "train.jsonl",
            "ds_type": "json",
            "type": {
                "field_instruction": "prompt",
                "field_output": "completion",
                "format": "{instruction}",
                "no_input_format": "{instruction}",
            },
        }
    ],
}
"""Texts as they are; Axolotl adds the tokenizer's end token to each completion, and learns it."""
CHATS = {
    "datasets": [
        {
            "path": "train.jsonl",
            "ds_type": "json",
            "type": "chat_template",
            "chat_template": "tokenizer_default",
            "field_messages": "messages",
            "roles_to_train": ["assistant"],
            "train_on_eos": "turn",
        }
    ],
}
"""Through the model's own chat template, of which the assistant's turns are learned with the token that ends them."""


def _rows(recipe: Recipe) -> dict[str, Any]:
    """How Axolotl reads train.jsonl: chats for a chat model, plain text for a base model."""
    if not recipe.is_chat:
        return PLAIN_ROWS
    end = end_of_turn(recipe.model_id, recipe.model_type)
    return {**CHATS, **({"eot_tokens": [end]} if end else {})}


def _about_rows(recipe: Recipe) -> tuple[str, ...]:
    chats = (MESSAGES_ROW, "The assistant's turns are learned, with the token that ends them.")
    texts = (TEXT_ROW, "The completion is learned, with the tokenizer's end token added to it.")
    row, other = (chats, texts) if recipe.is_chat else (texts, chats)
    return (
        ROWS,
        *row,
        HELD_OUT,
        "For the other kind of rows:",
        other[0],
        Verbatim(in_one_line("datasets", (PLAIN_ROWS if recipe.is_chat else CHATS)["datasets"])),
    )


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
