"""Follows every storage on the simulated card through the allocator, from the operator that makes it to its end.

    with FakeTensorMode(), Tracker(card) as tracker:
        ...
    tracker.allocator.peak_allocated, tracker.attention.kernels

Operators run as FakeTensors; added is what a CUDA kernel takes and a FakeTensor does not show: cuBLAS's workspaces, a
product in the backward pass of softmax, sums of attention's gradients. Operators that a build for CPUs takes apart are
put together again (silu_backward).
"""

import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rankviz.worker.simulate.attention import Attention, backward_workspace
from rankviz.worker.simulate.device import Card

aten = torch.ops.aten
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default}


def _softmax_backward(gradient: Any, output: Any, *_: Any) -> int:
    """`tmp = grad * output` (SoftMax.cu)."""
    return gradient.numel() * gradient.element_size()


def _safe_softmax(scores: Any, *_: Any, **__: Any) -> int:
    """The softmax and the mask of its empty rows, before `where` makes the result (attention.cpp)."""
    return scores.numel() * (scores.element_size() + 1)


WORKSPACES: dict[Any, Callable[..., int]] = {
    aten._softmax_backward_data.default: _softmax_backward,
    aten._safe_softmax.default: _safe_softmax,
    aten._scaled_dot_product_flash_attention_backward.default: lambda _, q, k, *rest, **more: backward_workspace(
        "flash", q, k
    ),
    aten._scaled_dot_product_efficient_attention_backward.default: lambda _, q, k, *rest, **more: backward_workspace(
        "efficient", q, k
    ),
}
"""Bytes that a kernel has for itself while it runs, from its arguments."""


def _index(values: torch.Tensor, indices: Any) -> Any:
    """By a mask, as if all of it were set: how many are is data."""
    if not any(each is not None and each.dtype == torch.bool for each in indices):
        return NotImplemented
    places = [
        place
        for each in indices
        for place in (
            (torch.empty(each.numel(), dtype=torch.long, device=each.device),) * each.dim()
            if each is not None and each.dtype == torch.bool
            else (each,)
        )
    ]
    return aten.index.Tensor(values, places)


WHOLE: dict[Any, Callable[..., Any]] = {
    aten.silu_backward.default: lambda gradient, x: torch.empty_like(gradient),
    aten.index.Tensor: _index,
}
"""Operators that a FakeTensor cannot run, or takes apart where CUDA has a kernel."""
REGISTERED = (aten.silu_backward.default,)
"""Those that a build for CPUs takes apart before they are seen."""


class Tracker(TorchDispatchMode):
    """Enter it inside a FakeTensorMode; what exists already is not seen."""

    def __init__(self, card: Card):
        super().__init__()
        self.card, self.allocator = card, card.allocator
        self.attention = Attention(card)
        _register()
        self.answer: Callable[[torch.Tensor], Any] | None = None
        """What `.item()` of a tensor on the card gives, where the code that runs looks at values."""
        self._blocks: dict[int, tuple[Any, int]] = {}
        self._handles: set[int] = set()

    @property
    def workspaces(self) -> int:
        """Bytes of cuBLAS's workspaces so far."""
        return len(self._handles) * self.card.cublas_workspace_bytes

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default and self.answer is not None:
            return self.answer(args[0])
        if func in PRODUCTS:
            self._cublas(args)
        whole = WHOLE.get(func)
        result = whole(*args, **kwargs) if whole is not None else NotImplemented
        if result is NotImplemented:
            result = func(*args, **kwargs)
        for tensor in tree_leaves(result):
            if isinstance(tensor, FakeTensor) and tensor.fake_device.type == "cuda":
                self.follow(tensor.untyped_storage())
        if (workspace := WORKSPACES.get(func)) is not None:
            self.allocator.touch(workspace(*args, **kwargs))
        return result

    def follow(self, storage: torch.UntypedStorage) -> None:
        """Allocate a storage that is new, or that has grown, until it ends."""
        key, size = storage._cdata, storage.nbytes()
        known = self._blocks.get(key)
        if known is not None:
            if size > known[1]:
                self.allocator.free(known[0])
                self._blocks[key] = (self.allocator.allocate(size), size)
            return
        self._blocks[key] = (self.allocator.allocate(size), size)
        weakref.finalize(storage, self._end, key)

    def _end(self, key: int) -> None:
        block, _ = self._blocks.pop(key)
        self.allocator.free(block)

    def _cublas(self, args: tuple) -> None:
        """A workspace for each thread's handle: the forward pass and autograd's thread have one each. It stays."""
        thread = threading.get_ident()
        if thread not in self._handles and any(isinstance(each, FakeTensor) for each in args):
            self._handles.add(thread)
            self.allocator.allocate(self.card.cublas_workspace_bytes)


@functools.cache
def _register() -> torch.library.Library:
    """Kernels for CUDA, so that the dispatcher does not take operators apart."""
    library = torch.library.Library("aten", "IMPL")
    for operator in REGISTERED:
        library.impl(operator.name().removeprefix("aten::"), WHOLE[operator], "CUDA")
    return library
