"""Chooses the kernel of scaled_dot_product_attention as torch does on the card (ATen/native/transformers/cuda/
sdp_utils.cpp, torch 2.13), and knows what the kernels take beyond what they return.

cuDNN's kernel, which newer builds prefer on Hopper, takes what flash takes and counts as flash.
"""

from collections import Counter
from typing import Any, Literal

import torch

from rankviz.worker.simulate.device import Card

Kernel = Literal["flash", "efficient", "math"]
FLASH_HEAD_DIM = 256


def kernel_for(
    card: Card,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    masked: bool,
    enable_gqa: bool,
    dropout: bool = False,
) -> Kernel:
    """The first of flash, efficient and math that takes these tensors."""
    if query.dim() != 4 or len({each.dtype for each in (query, key, value)}) != 1:
        return "math"
    dims = {each.shape[-1] for each in (query, key, value)}
    heads = query.shape[1]
    same_heads = key.shape[1] == value.shape[1] == heads
    grouped = enable_gqa and heads % key.shape[1] == 0 and heads % value.shape[1] == 0
    sm, half = card.capability, (torch.float16, torch.bfloat16)
    dim = query.shape[-1]
    # A head_dim above 192 cannot go back on sm86, sm89 and sm120.
    small_sm = sm in ((8, 6), (8, 9), (12, 0), (12, 1))
    too_wide = small_sm and query.requires_grad and (192 < dim <= 224 or (dim > 224 and dropout))
    flash = sm >= (8, 0) and query.dtype in half and len(dims) == 1 and dim <= FLASH_HEAD_DIM and not too_wide
    if flash and not masked and (same_heads or grouped):
        return "flash"
    dtypes = (*half, torch.float32) if sm >= (8, 0) else (torch.float16, torch.float32)
    # Products on tensor cores are aligned to 16 bytes; fp32 ones to 16 from Ampere on.
    aligned = 8 if query.dtype in half else 4 if sm >= (8, 0) else 1
    fits = query.dtype in dtypes and dim == key.shape[-1] and not any(each % aligned for each in dims)
    return "efficient" if fits and same_heads else "math"


class Attention:
    """scaled_dot_product_attention on the card, under autograd's key of the dispatcher. Counts the kernels that run."""

    _current: "Attention"
    _library: torch.library.Library | None = None

    def __init__(self, card: Card):
        self.card = card
        self.kernels: Counter[Kernel] = Counter()
        Attention._current = self
        if Attention._library is None:
            Attention._library = torch.library.Library("aten", "IMPL")
            for key in ("AutogradCUDA", "CUDA"):
                Attention._library.impl(
                    "scaled_dot_product_attention", lambda *args, **more: Attention._current.run(*args, **more), key
                )

    def run(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        """As sdp::scaled_dot_product_attention (ATen/native/transformers/attention.cpp)."""
        aten, masked = torch.ops.aten, attn_mask is not None
        kernel = kernel_for(self.card, query, key, value, masked=masked, enable_gqa=enable_gqa, dropout=dropout_p > 0)
        self.kernels[kernel] += 1
        if masked and attn_mask.dtype == torch.bool:
            zero = torch.zeros((), dtype=query.dtype, device=query.device)
            attn_mask = torch.where(attn_mask, zero, -float("inf"))
        if kernel == "math":
            return aten._scaled_dot_product_attention_math(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )[0]
        dim = query.shape[-1]
        scale = dim**-0.5 if scale is None else scale
        if kernel == "flash":
            if dim % 8:
                query, key, value = (torch.nn.functional.pad(each, (0, -dim % 8)) for each in (query, key, value))
            output = aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)[0]
            return output[..., :dim]
        if masked:
            attn_mask = _aligned(attn_mask).expand(*query.shape[:3], key.shape[2])
        keeps = any(each.requires_grad for each in (query, key, value))
        return aten._scaled_dot_product_efficient_attention(
            query, key, value, attn_mask, keeps, dropout_p, is_causal, scale=scale
        )[0]


def _aligned(mask: torch.Tensor) -> torch.Tensor:
    """The efficient kernel reads masks whose rows are a multiple of 8 elements apart."""
    length = mask.shape[-1]
    if length % 8 == 0:
        return mask
    return torch.nn.functional.pad(mask, (0, -length % 8))[..., :length]


def backward_workspace(kernel: Kernel, query: Any, key: Any) -> int:
    """Bytes that a kernel takes in its backward pass: fp32 sums of dQ, and in flash dK and dV for every head where
    heads share keys (flash_api.cpp mha_bwd, kernel_backward.h)."""
    rows, heads, length, dim = query.shape
    sums = 4 * rows * heads * (-(-length // 128) * 128) * (-(-dim // 32) * 32)
    if kernel == "efficient":
        return sums if query.element_size() == 2 else 0
    expanded = 2 * query.element_size() * rows * heads * key.shape[2] * dim if key.shape[1] != heads else 0
    return sums + expanded
