"""Notes on old cards, on the attention kernel that runs, and on checkpoints that are published quantized."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from rankviz.core.cost.blocks import matrix_bytes
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import Gpu, TrainingSetup, card
from rankviz.core.cost.shapes import (
    BROADCASTS_KEYS,
    UNSLOTH_EAGER,
    UNSLOTH_FLEX_SINKS,
    WIDEST_FLASH,
    WITHOUT_FLASH,
    ModelShape,
    caps_compiled,
    head_dim,
    heaviest,
)
from rankviz.core.cost.stack import Stack, compute_dtype, forces_fp32
from rankviz.core.lora.targets import listed
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Caution
from rankviz.units import memory_size

CLASSES = {"mxfp4": "Mxfp4Config", "fp8": "FineGrainedFP8Config"}
"""quant_method of config.json: the class of transformers that dequantizes it with dequantize=True."""
FAMILIES = (
    (r"(openai|unsloth)/gpt-oss(-safeguard)?-\d+b", "mxfp4"),
    (r"(deepseek-ai|unsloth)/deepseek-(v3(\.\d)?|r1)(-base|-0324|-0528|-zero|-terminus|-exp)?", "fp8"),
    (r"mistralai/ministral-3-\d+b-instruct-2512", "fp8"),
    (r"unsloth/ministral-3-\d+b-instruct-2512-fp8", "fp8"),
    (r"(qwen|unsloth)/qwen3[^/]*-fp8", "fp8"),
)
"""The whole Hub id in lower case: quant_method, for checkpoints whose names don't always tell. Sources: for gpt-oss and
Ministral 3 the scales in the published totals (assets/models, "note" and "source"), for Ministral 3 and Qwen3 also the
8-bit rows of Unsloth's models/mapper.py, for DeepSeek transformers' page on fine-grained FP8. Checked 2026-11-26."""
_OTHER = re.compile(r"(^|[-_.])(fp8|awq|gptq|nvfp4|mxfp4|w4a16|w8a8)([-_.]|$)")
"""Parts of names of checkpoints quantized by another tool."""


class Published(NamedTuple):
    """The format of a checkpoint that is published quantized."""

    name: str
    """"MXFP4"."""
    config_class: str
    """Of transformers, to be given dequantize=True; empty where RankViz knows none."""


def by_name(model_id: str) -> Published | None:
    """The format of a published quantized checkpoint; None for one in 16 or 32 bit, or of bitsandbytes.

    model_id: Hub id.
    """
    name = model_id.lower()
    for pattern, method in FAMILIES:
        if re.fullmatch(pattern, name):
            return Published(method.upper(), CLASSES[method])
    match = _OTHER.search(name.split("/")[-1])
    return Published(match[2].upper(), "") if match else None


def by_method(method: str) -> Published | None:
    """The same by quant_method of config.json, empty where it has none."""
    return None if method in ("", "bitsandbytes") else Published(method.upper(), CLASSES.get(method, ""))


def in_16_bit(model_id: str) -> str:
    """The same model published in 16 bit, which can be quantized as it is loaded; empty where RankViz knows none."""
    match = re.fullmatch(r"(?:mistralai|unsloth)/(ministral-3-\d+b-instruct-2512)(?:-fp8)?", model_id, re.IGNORECASE)
    return f"unsloth/{match[1]}" if match else ""


def as_stored(model: ModelSpec, model_id: str, stored: Published | None, training: TrainingSetup) -> tuple[str, ...]:
    """A sentence on a checkpoint that is published quantized."""
    if stored is None:
        return ()
    if not stored.config_class:
        return (
            f"{model_id} is published in {stored.name}. RankViz does not know how transformers loads it for training. "
            "Choose the 16-bit checkpoint of this model instead.",
        )
    size = memory_size(2 * model.total_parameters)
    text = f"{model_id} is published in {stored.name}. Training loads it dequantized to 16 bit: {size} of weights."
    if training.quantized:
        bits = "8" if training.precision == "int8" else "4"
        text += f" transformers cannot load it in {bits} bit, so the estimate of memory does not apply."
        other = in_16_bit(model_id)
        text += f" For {bits} bit, choose {other}." if other else ""
    return (text,)


TORCH = 7.5
FLASH_ATTENTION = 8.0
BF16 = 8.0
STORED = {"FP8": 8.9, "MXFP4": 7.5}
"""Formats of published checkpoints: what their own kernels need."""


def card_notes(
    model: ModelSpec, question: Question, gpu: Gpu | None, cards: Sequence[Gpu], stored_in: str
) -> tuple[str, ...]:
    """What the chosen card is too old for, for this model and training.

    cards: the table, to name all that are too old. stored_in: "FP8", "MXFP4" or another format that the checkpoint
    which is loaded was published in; empty for 16 or 32 bit.
    """
    setup, notes = question.training, []
    if gpu and _too_old(gpu, TORCH):
        notes.append(
            Caution(
                f"torch for CUDA 13, the default, needs compute capability {TORCH} or newer, and {gpu.name} has "
                f"{gpu.compute_capability}. Install a torch for CUDA 12.6, at most 2.14."
            )
        )
    if setup.attn_implementation == "flash" and (gpu is None or _too_old(gpu, FLASH_ATTENTION)):
        needs = (
            f"FlashAttention 2 needs compute capability {FLASH_ATTENTION} or newer{_lacking(cards, FLASH_ATTENTION)}."
        )
        notes.append(Caution(f"{needs} Choose sdpa attention.") if gpu else needs)
    if setup.framework != "unsloth" and forces_fp32(model, setup.precision, card(gpu)):
        name = setup.framework.upper()
        instead = f"in bf16 (compute capability {BF16} or newer{_lacking(cards, BF16)})"
        notes.append(
            Caution(
                f"fp16 overflows in this model and {gpu.name} has no bf16, so RankViz's {name} script computes in fp32 "
                f"and so does the estimate: more memory, and slower. Train {instead}, or with Unsloth."
                if compute_dtype(model.model_type, setup, bf16=card(gpu).has_bf16) == "fp32"
                else f"fp16 overflows in this model, and {name} does not prevent it. Train {instead} or in fp32."
            )
        )
    if stored_in in STORED:
        need = STORED[stored_in]
        notes.append(
            f"Without dequantizing it, {stored_in} needs compute capability {need} or newer{_lacking(cards, need)}."
        )
    return tuple(notes)


def _too_old(gpu: Gpu, need: float) -> bool:
    """A card whose compute capability is not known is not called too old."""
    return gpu.compute_capability is not None and gpu.compute_capability < need


def _lacking(cards: Sequence[Gpu], need: float) -> str:
    """ "; too old: T4 and V100-16GB SXM"."""
    names = [gpu.name for gpu in cards if _too_old(gpu, need)]
    return f"; too old: {listed(names)}" if names else ""


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
