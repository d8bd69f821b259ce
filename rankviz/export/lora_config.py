"""Writes PEFT's adapter_config.json as PEFT itself saves it for this adapter."""

import json

from rankviz.export.recipe import Recipe


def adapter_config(recipe: Recipe) -> str:
    """JSON that peft.LoraConfig.from_pretrained reads. JSON has no comments: what is to be said is in recipe.notes."""
    lora = recipe.lora
    modules = recipe.target_modules
    return (
        json.dumps(
            {
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "base_model_name_or_path": recipe.model_id,
                "r": lora.r,
                "lora_alpha": recipe.lora_alpha,
                "lora_dropout": 0.0,
                "bias": "none",
                "target_modules": modules if isinstance(modules, str) else list(modules),
                "target_parameters": list(recipe.target_parameters) or None,
                **recipe.patterns,
                "modules_to_save": list(recipe.modules_to_save) or None,
                "use_rslora": lora.use_rslora,
                "use_dora": lora.use_dora,
                "inference_mode": False,
            },
            indent=2,
            ensure_ascii=False,
        )
        + "\n"
    )
