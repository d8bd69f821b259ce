"""Writes a configuration for LLaMA-Factory: `llamafactory-cli train llamafactory.yaml`.

tests/export/test_llamafactory.py gives it to the parser of the pinned LLaMA-Factory, which knows every argument.
"""

import json
from typing import Any

from rankviz.core.lora.config import QUANTIZED
from rankviz.export.recipe import Recipe
from rankviz.export.words import DATA, other_program, sources, title
from rankviz.export.yaml_text import Section, document

VERSION = "0.9.5"
"""The release whose arguments the keys are checked against."""
ATTENTION = {"sdpa": "sdpa", "flash": "fa2", "eager": "disabled"}
DATASET_INFO = {"train": {"file_name": "train.jsonl", "columns": {"prompt": "prompt", "response": "completion"}}}


def llamafactory(recipe: Recipe) -> str:
    """The YAML, with a comment for each thing that LLaMA-Factory does otherwise than was asked."""
    lora, setup = recipe.lora, recipe.training
    header = (
        f"{title(recipe)}, for LLaMA-Factory {VERSION}: llamafactory-cli train llamafactory.yaml",
        sources(recipe),
        other_program("LLaMA-Factory"),
        *recipe.notes,
        *_otherwise(recipe),
    )
    adapter = {
        "lora_rank": lora.r,
        "lora_alpha": recipe.whole_alpha("LLaMA-Factory"),
        "lora_dropout": 0.0,
        "lora_target": "all" if recipe.target_modules == "all-linear" else ",".join(recipe.target_modules),
    }
    if recipe.modules_to_save:
        adapter["additional_target"] = ",".join(recipe.modules_to_save)
    return document(
        header,
        [
            Section({"model_name_or_path": recipe.model_id, **_precision(setup.precision)}),
            Section(
                {"stage": "sft", "do_train": True, "finetuning_type": "lora", **adapter}
                | {"use_rslora": lora.use_rslora, "use_dora": lora.use_dora}
            ),
            Section(
                {"dataset": "train", "dataset_dir": ".", "template": "empty", "cutoff_len": setup.max_length}
                | {"packing": False},
                (
                    f"{DATA}. Beside it dataset_info.json: {json.dumps(DATASET_INFO)}",
                    "template empty leaves both texts unchanged. For a chat model, use its template, such as qwen3.",
                ),
            ),
            Section(
                {
                    "per_device_train_batch_size": setup.per_device_train_batch_size,
                    "gradient_accumulation_steps": setup.gradient_accumulation_steps,
                    "max_steps": recipe.max_steps,
                    "learning_rate": recipe.learning_rate,
                    "lr_scheduler_type": "linear",
                    "optim": setup.optim,
                    "flash_attn": ATTENTION[setup.attn_implementation],
                    **_checkpointing(recipe),
                    "output_dir": "outputs",
                    "logging_steps": 10,
                    "report_to": "none",
                }
            ),
            Section(*_loss(recipe)),
        ],
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
