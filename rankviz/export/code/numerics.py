"""Says in which dtype the scripts for TRL and PEFT compute: the estimate's, or on a card without bf16 what it can do.

Unsloth's script leaves this to Unsloth, which does the same.
"""

from rankviz.core.cost.notes.in_fp32 import in_fp32
from rankviz.core.cost.unsloth import overflows_in_fp16
from rankviz.export.recipe import Recipe
from rankviz.export.ways import FRAMEWORKS

EXACT = {"fp16": "torch.float16", "fp32": "torch.float32"}
"""Precisions that any card can do."""


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
    """Whether fp16 is too small for this model's numbers."""
    return overflows_in_fp16(recipe.model_type)


def fp16_notes(recipe: Recipe) -> tuple[str, ...]:
    """What fp16 does to this model; nothing where it is fine."""
    if not overflows(recipe):
        return ()
    framework, precision = recipe.training.framework, recipe.training.precision
    if framework == "unsloth":
        return (in_fp32("In fp16" if precision == "fp16" else "On a card without bf16, such as a T4,"),)
    if precision == "fp16":
        return (
            f"fp16 overflows in this model, and {FRAMEWORKS[framework]} does not prevent it: the loss can become NaN. "
            "Choose bf16 or fp32, or Unsloth, which computes it in fp32.",
        )
    return ()
