"""Says in which dtype the scripts for TRL and PEFT compute: the estimate's, or on a card without bf16 what it can do.

Unsloth's script leaves this to Unsloth, which does the same.
"""

from rankviz.export.recipe import FRAMEWORKS, Recipe

EXACT = {"fp16": "torch.float16", "fp32": "torch.float32"}
"""Precisions that any card can do."""
OVERFLOWS_IN_FP16 = ("gemma3", "gemma4", "glm4_moe", "gpt_oss", "qwen3_5", "qwen3_moe")
"""model_types whose activations or gradients overflow in fp16, with those that begin so: Unsloth computes these in fp32
(unsloth_zoo 2026.10.9, model_lists.FORCE_FLOAT32, checked 2026-11-26)."""


def dtype_lines(recipe: Recipe) -> str:
    """Sets `dtype`."""
    if exact := EXACT.get(recipe.training.precision):
        return f"dtype = {exact}\n"
    other = "float32" if overflows(recipe) else "float16"
    reason = ", and this model overflows in fp16" if overflows(recipe) else ""
    return (
        "dtype = torch.bfloat16\n"
        "if torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):\n"
        f"    dtype = torch.{other}  # a T4 or V100 has no bf16{reason}\n"
    )


def overflows(recipe: Recipe) -> bool:
    return recipe.model_type.startswith(OVERFLOWS_IN_FP16)


def fp16_notes(recipe: Recipe) -> tuple[str, ...]:
    """What fp16 does to this model; nothing where it is fine."""
    if not overflows(recipe):
        return ()
    framework, precision = recipe.training.framework, recipe.training.precision
    if framework == "unsloth":
        return (
            "fp16 overflows in this model, so Unsloth computes it in fp32 on a card without bf16, such as a T4: this is "
            "slower and takes more memory.",
        )
    if precision == "fp16":
        return (
            f"fp16 overflows in this model, and {FRAMEWORKS[framework]} does not prevent it: the loss can become NaN. "
            "Choose bf16 or fp32, or Unsloth, which computes it in fp32.",
        )
    return ()
