"""Recipes for the tests of exports: a small one to change, and the settings that every tool must take."""

from dataclasses import replace

from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.resolve import resolve
from rankviz.exports import Recipe
from tests.support.runs.toy import TOY

PLAN = resolve(TOY, LoraConfig(), "trl")

SETTINGS = {
    "plain": {},
    "nf4": {"precision": "nf4"},
    "int8": {"precision": "int8"},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "fp32": {"precision": "fp32"},
    "dora": {"use_dora": True, "use_rslora": True},
    "all-linear": {"target_modules": "all-linear", "modules_to_save": ("lm_head", "embed_tokens")},
    "mxfp4": {"dequantize": "Mxfp4Config", "precision": "bf16"},
    "fp8": {"dequantize": "FineGrainedFP8Config", "precision": "bf16"},
    "paged": {"optim": "paged_adamw_8bit", "gradient_checkpointing": "none"},
    "torch": {"optim": "adamw_torch", "gradient_checkpointing": "hf"},
    "sgd": {"optim": "sgd", "loss_path": "full"},
    "triton": {"loss_path": "triton", "attn_implementation": "eager"},
    "flash": {"attn_implementation": "flash", "precision": "bf16"},
    "unsloth": {"framework": "unsloth"},
    "unsloth-int8": {"framework": "trl", "precision": "int8"},
    "long": {"max_length": 512, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 5, "max_steps": 70},
    "rate": {"learning_rate": 1e-5, "r": 1, "lora_alpha": 2.0},
    "loraplus": {"loraplus_lr_ratio": 16.0},
}
"""One thing changed at a time, from a TRL recipe with everything at its default."""


def made(**changes) -> Recipe:
    """A recipe for Qwen3-4B at r = 8, alpha = 16, with these values changed, whichever part they belong to."""
    lora = {"r": 8, "lora_alpha": 16.0} | {k: v for k, v in changes.items() if k in LoraConfig.__dataclass_fields__}
    training = {k: v for k, v in changes.items() if k in TrainingSetup.__dataclass_fields__}
    names = {"target_modules": ("q_proj", "v_proj"), "target_parameters": (), "modules_to_save": ()}
    plan = replace(PLAN, **names | {k: v for k, v in changes.items() if k in names})
    rest = {k: v for k, v in changes.items() if k in Recipe.__dataclass_fields__}
    plain = {"model_id": "Qwen/Qwen3-4B", "model_type": "qwen3", "adapter_parameters": 1234}
    return Recipe(**{**plain, **rest}, lora=LoraConfig(**lora), training=TrainingSetup(**training), plan=plan)
