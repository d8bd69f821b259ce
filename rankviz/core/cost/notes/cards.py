"""Notes on cards that are too old for something: which compute capability it needs, and which cards lack it.

Sources: for torch its support matrix (pytorch/pytorch issues 172352 and 190385: wheels for CUDA 13 begin at 7.5, and
2.14 is the last release with CUDA 12.6); for FlashAttention 2 the README of Dao-AILab/flash-attention (Ampere, Ada,
Hopper); for FP8 and MXFP4 transformers 5.17 (quantizers/quantizer_finegrained_fp8.py, quantizer_mxfp4.py); for fp16
core.cost.unsloth. Checked 2026-11-26.
"""

from collections.abc import Sequence

from rankviz.core.cost.device import card
from rankviz.core.cost.gpu import Gpu
from rankviz.core.cost.question import Question
from rankviz.core.cost.unsloth import compute_dtype, forces_fp32
from rankviz.core.lora.targets import listed
from rankviz.core.model.spec import ModelSpec
from rankviz.core.note import Caution

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
