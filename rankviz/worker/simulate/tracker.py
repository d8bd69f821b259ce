"""Follows every storage on the simulated card through the allocator, from the operator that makes it to its end.
Operators run as FakeTensors. Added are bytes that a CUDA kernel takes and a FakeTensor does not show: cuBLAS's
workspaces, a product in the backward pass of softmax, sums of attention's gradients. The kernel of
scaled_dot_product_attention is chosen as torch does on the card (ATen/native/transformers/cuda/sdp_utils.cpp, torch
2.13); cuDNN's kernel counts as flash."""

import functools
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import _meta_registrations, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rankviz.worker.simulate.card import SimulatedCard

Kernel = Literal["flash", "efficient", "math"]
FLASH_HEAD_DIM = 256


def kernel_for(
    card: SimulatedCard, query: Any, key: Any, value: Any, *, masked: bool, enable_gqa: bool, dropout: bool = False
) -> Kernel:
    """Return the first of flash, efficient and math that accepts these tensors."""
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


def backward_workspace(kernel: Kernel, _gradient: Any, query: Any, key: Any, *_: Any, **__: Any) -> int:
    """Return the bytes that a kernel takes in its backward pass: fp32 sums of dQ, and in flash dK and dV for every
    head where heads share keys (flash_api.cpp mha_bwd, kernel_backward.h)."""
    rows, heads, length, dim = query.shape
    sums = 4 * rows * heads * (-(-length // 128) * 128) * (-(-dim // 32) * 32)
    if kernel == "efficient":
        return sums if query.element_size() == 2 else 0
    expanded = 2 * query.element_size() * rows * heads * key.shape[2] * dim if key.shape[1] != heads else 0
    return sums + expanded


aten = torch.ops.aten
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default}


WORKSPACES: dict[Any, Callable[..., int]] = {
    # `tmp = grad * output` (SoftMax.cu)
    aten._softmax_backward_data.default: lambda gradient, *_: gradient.numel() * gradient.element_size(),
    # the softmax and the mask of its empty rows, before `where` makes the result (attention.cpp)
    aten._safe_softmax.default: lambda scores, *_, **__: scores.numel() * (scores.element_size() + 1),
    aten._scaled_dot_product_flash_attention_backward.default: functools.partial(backward_workspace, "flash"),
    aten._scaled_dot_product_efficient_attention_backward.default: functools.partial(backward_workspace, "efficient"),
}
"""Functions from an operator's arguments to the bytes that its kernel takes while it runs."""


def _index(values: torch.Tensor, indices: Any) -> Any:
    """Index by a mask as if all of it were set, since a FakeTensor has no values; NotImplemented without a mask."""
    masks = [each is not None and each.dtype == torch.bool for each in indices]
    if not any(masks):
        return NotImplemented
    places: list[Any] = []
    for each, is_mask in zip(indices, masks, strict=True):
        all_set = torch.empty(each.numel(), dtype=torch.long, device=each.device) if is_mask else each
        places += [all_set] * (each.dim() if is_mask else 1)
    return aten.index.Tensor(values, places)


WHOLE: dict[Any, Callable[..., Any]] = {
    aten.silu_backward.default: lambda gradient, x: torch.empty_like(gradient),
    aten.index.Tensor: _index,
}
"""Replacements of operators that a FakeTensor cannot run, or that it splits where CUDA has one kernel."""


class Tracker(TorchDispatchMode):
    """Follows operators' storages and counts attention's kernels. Enter it inside a FakeTensorMode."""

    _current: "Tracker"

    def __init__(self, card: SimulatedCard, answer: Callable[[torch.Tensor], Any]):
        """answer: returns the value of `.item()` for a tensor on the card."""
        super().__init__()
        self.card, self.allocator, self._answer = card, card.allocator, answer
        self.kernels: Counter[Kernel] = Counter()
        Tracker._current = self
        _register()
        self._blocks: dict[int, tuple[Any, int]] = {}
        self._handles: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default:
            return self._answer(args[0])
        # The forward pass and autograd's thread have a cuBLAS handle each, with a workspace that stays.
        thread = threading.get_ident()
        if func in PRODUCTS and thread not in self._handles and any(isinstance(each, FakeTensor) for each in args):
            self._handles.add(thread)
            self.allocator.allocate(self.card.cublas_workspace_bytes)
        whole = WHOLE.get(func)
        result = whole(*args, **kwargs) if whole is not None else NotImplemented
        if result is NotImplemented:
            result = func(*args, **kwargs)
        for tensor in tree_leaves(result):
            if isinstance(tensor, FakeTensor) and tensor.fake_device.type == "cuda":
                self.follow(tensor.untyped_storage())
        if (workspace := WORKSPACES.get(func)) is not None:
            self.allocator.free(self.allocator.allocate(workspace(*args, **kwargs)))
        return result

    def follow(self, storage: torch.UntypedStorage) -> None:
        """Allocate a storage that is new or has grown; free it when the storage ends."""
        key, size = storage._cdata, storage.nbytes()
        block, known = self._blocks.get(key, (None, -1))
        if size > known:
            self.allocator.free(block)
            self._blocks[key] = (self.allocator.allocate(size), size)
        if known < 0:
            weakref.finalize(storage, lambda: self.allocator.free(self._blocks.pop(key)[0]))

    def attend(
        self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None, enable_gqa=False
    ):
        """Count and run the kernel that sdp::scaled_dot_product_attention would (transformers/attention.cpp)."""
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
                query, key, value = (nn.functional.pad(each, (0, -dim % 8)) for each in (query, key, value))
            output = aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)[0]
            return output[..., :dim]
        if masked:
            # The efficient kernel reads masks whose rows are a multiple of 8 elements apart.
            length = attn_mask.shape[-1]
            if length % 8:
                attn_mask = nn.functional.pad(attn_mask, (0, -length % 8))[..., :length]
            attn_mask = attn_mask.expand(*query.shape[:3], key.shape[2])
        keeps = any(each.requires_grad for each in (query, key, value))
        return aten._scaled_dot_product_efficient_attention(
            query, key, value, attn_mask, keeps, dropout_p, is_causal, scale=scale
        )[0]


@functools.cache
def _register() -> torch.library.Library:
    """Register kernels for CUDA, so that these operators are not split: attention under autograd's key too."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("silu_backward", WHOLE[aten.silu_backward.default], "CUDA")
    for key in ("AutogradCUDA", "CUDA"):
        library.impl("scaled_dot_product_attention", lambda *args, **more: Tracker._current.attend(*args, **more), key)
    return library


def as_on_a_card() -> None:
    """Patch libraries to act as on a card: no Triton kernels, no needless masks, modules can be moved."""
    import transformers
    from transformers import masking_utils
    from transformers.utils import import_utils
    from triton.runtime.jit import JITFunction

    transformers.logging.set_verbosity_error()
    # transformers takes fakes for a trace, and makes a mask where a card needs none.
    import_utils.is_fake_tensor = lambda tensor: False
    masking_utils.find_packed_sequence_indices = lambda position_ids: None
    JITFunction.run = lambda self, *args, **more: None
    nn.Module._apply = _apply
    # Zeros for a tensor of whole numbers: transformers reads in it where each expert's tokens end.
    FakeTensor.tolist = lambda self: _TOLIST(self) if self.is_floating_point() or self.dim() != 1 else [0] * len(self)
    # In any dtype, as torch 2.13's kernel multiplies; torch's check of shapes allows bf16 alone.
    _meta_registrations._meta_grouped_mm_common = lambda a, b, *rest, **more: _META_GROUPED_MM(
        a.bfloat16(), b.bfloat16(), *rest, **more
    ).to(a.dtype)


_TOLIST = FakeTensor.tolist
_META_GROUPED_MM = _meta_registrations._meta_grouped_mm_common


def _apply(self: nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
    """Apply `fn` like nn.Module._apply, without swapping tensors, which FakeTensors refuse."""
    if recurse:
        for child in self.children():
            child._apply(fn)
    for name, old in self._parameters.items():
        if old is not None:
            with torch.no_grad():
                new = fn(old)
            if new is not old:
                self._parameters[name] = nn.Parameter(new, requires_grad=old.requires_grad)
    for name, old in self._buffers.items():
        if old is not None:
            self._buffers[name] = fn(old)
    return self
