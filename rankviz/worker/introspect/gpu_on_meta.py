"""Makes the meta device keep the tensors that a GPU's kernels keep for the backward pass.

Meta tensors have shapes but no kernels: scaled_dot_product_attention falls apart into products and a softmax, dropout
into a product with a mask, grouped products refuse fp32, and autocast doesn't know the device.
"""

from typing import Any

import torch
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# fmt: off
IN_FP32 = {
    "__pow__", "__rpow__", "__rdiv__", "__rtruediv__", "pow", "exp", "expm1", "log", "log1p", "log2", "log10", "rsqrt",
    "reciprocal", "softplus", "layer_norm", "rms_norm", "group_norm", "cosine_similarity", "dist", "logsumexp", "prod",
    "softmax", "log_softmax", "cumprod", "cumsum", "sum", "norm",
}
"""Autocast on CUDA runs these in fp32: ATen/autocast_mode.h of torch 2.13, its names and the operators that mean them,
losses and images left out."""
IN_16_BIT = {
    "__matmul__", "__rmatmul__", "conv1d", "conv2d", "conv3d", "prelu", "addmm", "addmv", "addr", "matmul", "einsum",
    "mm", "mv", "linear", "addbmm", "baddbmm", "bmm", "chain_matmul", "scaled_dot_product_attention",
}
"""And these in 16 bit, from the same header."""
# fmt: on


class FusedAttention(torch.autograd.Function):
    """Flash and memory-efficient attention: queries, keys, values, the output and an fp32 number a head are kept."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        rows, heads, length, _ = query.shape
        output = query.new_empty(rows, length, heads, value.shape[-1]).transpose(1, 2)
        ctx.save_for_backward(query, key, value, output, query.new_empty(rows, heads, length, dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


class GroupedProduct(torch.autograd.Function):
    """What torch.nn.functional.grouped_mm calls, with frozen weights: its input isn't kept."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weights)
        return rows.new_empty(rows.shape[0], weights.shape[-1])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (weights,) = ctx.saved_tensors
        return gradient.new_empty(gradient.shape[0], weights.shape[1]), None


class GpuOnMeta(TorchFunctionMode):
    """Inside it, torch's functions keep what they keep on a GPU, under 16-bit autocast if asked."""

    def __init__(self, *, autocast: bool):
        super().__init__()
        self._autocast = autocast

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self._autocast:
            args, kwargs = _cast(func.__name__, args, kwargs)
        if func is functional.scaled_dot_product_attention:
            return FusedAttention.apply(*args[:3])
        if func is torch._grouped_mm:
            return GroupedProduct.apply(*args[:2])
        if func is functional.dropout:
            return _dropout(*args, **kwargs)
        return func(*args, **kwargs)


def _dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """The fused kernel, which keeps a byte an element. A fourth argument is functional.dropout's own."""
    return torch.native_dropout(input, p, True)[0] if training and p else input


def _cast(name: str, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    if name in IN_16_BIT:
        dtype = torch.bfloat16
    elif name in IN_FP32 and kwargs.get("dtype") is None:
        dtype = torch.float32
    else:
        return args, kwargs

    def cast(value: Any) -> Any:
        floating = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.to(dtype) if floating and value.dtype != torch.float64 else value

    return tuple(cast(value) for value in args), {key: cast(value) for key, value in kwargs.items()}
