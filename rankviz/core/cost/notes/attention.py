"""Says which attention kernel holds a matrix of length × length, why it runs, what avoids it, and where flash attention
is refused."""

from dataclasses import replace

from rankviz.core.cost.attention import (
    BROADCASTS_KEYS,
    UNSLOTH_EAGER,
    UNSLOTH_FLEX_SINKS,
    WIDEST_FLASH,
    WITHOUT_FLASH,
    caps_compiled,
    head_dim,
    heaviest,
)
from rankviz.core.cost.memory.blocks import matrix_bytes
from rankviz.core.cost.shapes import ModelShape
from rankviz.core.cost.stack import Stack
from rankviz.core.model.spec import ModelSpec
from rankviz.core.note import Caution
from rankviz.units import memory_size

FUSED_FROM = "2.14"
"""The torch from which the memory-efficient kernel takes grouped keys."""


def attention_notes(model: ModelSpec, shape: ModelShape, stack: Stack) -> list[str]:
    """A sentence where flash attention was asked for and is refused, and where blocks hold the matrix, or would without
    padding, though nobody asked for eager attention."""
    attention, setup = heaviest(model, shape, stack), stack.setup
    if attention and setup.attn_implementation == "flash":
        why = _refused(model, shape, stack)
        return [Caution(f"FlashAttention 2 does not run here: {why}. Choose sdpa attention.")] if why else []
    if attention is None or setup.attn_implementation != "sdpa":
        return []
    size = memory_size(matrix_bytes(model, shape, stack))
    if attention.kernel == "eager":
        return [
            Caution(
                f"{_eager(model, stack)}: it holds a matrix of length × length for each head, {size} in one block. "
                f"{_instead(model, stack)}"
            )
        ]
    if attention.kernel == "math":
        return [
            Caution(
                "Attention runs torch's math kernel, which holds an fp32 matrix of length × length for each head: "
                f"{size} in one block. {_why(model, stack)}"
            )
        ]
    equal = replace(stack, setup=replace(setup, data=None))
    if setup.mixes_lengths and (without := heaviest(model, shape, equal)) and without.kernel == "math":
        size = memory_size(matrix_bytes(model, shape, equal))
        return [
            Caution(
                "The estimate assumes padded batches, for which attention runs a memory-efficient kernel. A batch with "
                f"examples of one length runs torch's math kernel, with an fp32 matrix of {size} in one block. Unsloth "
                f"and torch {FUSED_FROM} or newer avoid it."
            )
        ]
    return []


def _refused(model: ModelSpec, shape: ModelShape, stack: Stack) -> str:
    """Why FlashAttention 2 refuses this model or dtype; what it needs of the card is in cards.py."""
    widest = max(head_dim(kind, model) for kind in shape.kinds)
    if model.model_type.startswith(WITHOUT_FLASH):
        return f"transformers does not offer it for {model.model_type}"
    if widest > WIDEST_FLASH:
        return f"it takes at most {WIDEST_FLASH} elements per head, and this model has heads of {widest}"
    in_fp32 = stack.attention_bytes == 4 and not stack.habits.unsloth_kernels
    return "it needs fp16 or bf16, and attention is computed in fp32" if in_fp32 else ""


def _why(model: ModelSpec, stack: Stack) -> str:
    if model.model_type in BROADCASTS_KEYS:
        return "No fused kernel takes this model's single key head. A shorter length or a smaller batch needs less."
    lacks = "fp32 has no flash kernel" if stack.attention_bytes == 4 else f"{_card(stack)} has no flash kernel"
    grouped = f"and torch before {FUSED_FROM} has no other fused one for grouped keys"
    return f"{lacks}, {grouped}. Unsloth, torch {FUSED_FROM} or newer, or padded batches avoid it."


def _eager(model: ModelSpec, stack: Stack) -> str:
    if caps_compiled(model, stack):
        return f"Unsloth has no fused attention with {model.model_type}'s soft cap unless flash-attn is installed"
    if stack.habits.unsloth_kernels and model.model_type.startswith(UNSLOTH_EAGER):
        return f"Unsloth runs eager attention for {model.model_type}"
    return f"transformers has no SDPA for {model.model_type}, so attention is eager"


def _instead(model: ModelSpec, stack: Stack) -> str:
    if caps_compiled(model, stack) and stack.compute_capability >= 8:
        return "flash-attn 2.6.3 or newer, which no export installs, avoids it; so does a shorter length in part."
    if model.model_type in UNSLOTH_FLEX_SINKS:
        return "Unsloth uses flex attention, which holds none."
    return "A shorter length or a smaller batch needs less."


def _card(stack: Stack) -> str:
    return stack.gpu.name if stack.gpu else "The card"
