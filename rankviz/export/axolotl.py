"""Writes a configuration for Axolotl: `axolotl train axolotl.yaml`.

tests/export/test_axolotl.py gives it to the validation of the pinned Axolotl, the same that `axolotl train`
begins with.
"""

from typing import Any

from rankviz.export.recipe import Recipe
from rankviz.export.words import DATA, other_program, sources, title
from rankviz.export.yaml_text import Section, document

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
            Section({"base_model": recipe.model_id, **_precision(setup.precision)}),
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
                    "train_on_inputs": False,
                    "val_set_size": 0.0,
                    "sequence_len": setup.max_length,
                    "sample_packing": False,
                },
                (DATA + ".",),
            ),
            Section(
                {
                    "micro_batch_size": setup.per_device_train_batch_size,
                    "gradient_accumulation_steps": setup.gradient_accumulation_steps,
                    "gradient_checkpointing": CHECKPOINTING[setup.gradient_checkpointing],
                    "attn_implementation": ATTENTION[setup.attn_implementation],
                    "optimizer": setup.optim,
                    "learning_rate": recipe.learning_rate,
                    "lr_scheduler": "linear",
                    "max_steps": recipe.max_steps,
                    "output_dir": "outputs",
                }
            ),
            Section(PLUGINS.get(setup.loss_path, {}), _about_loss(setup.loss_path)),
        ],
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


def _targets(recipe: Recipe) -> dict[str, Any]:
    if recipe.target_modules == "all-linear":
        targets: dict[str, Any] = {"lora_target_linear": True}
    else:
        targets = {"lora_target_modules": list(recipe.target_modules)}
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
