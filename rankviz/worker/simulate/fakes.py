"""Makes torch, transformers and Triton treat FakeTensors as tensors of a card, for the rest of the process."""

from collections.abc import Callable
from typing import Any

import torch
from torch import _meta_registrations, nn
from torch._subclasses import FakeTensor


def as_on_a_card() -> None:
    """Kernels of Triton do nothing, masks are made as on a card, and modules move by new parameters."""
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
    torch.Tensor.__getitem__ = _getitem
    FakeTensor.tolist = _tolist
    _meta_registrations._meta_grouped_mm_common = _meta_grouped_mm


_GETITEM = torch.Tensor.__getitem__
_TOLIST = FakeTensor.tolist
_META_GROUPED_MM = _meta_registrations._meta_grouped_mm_common


def _tolist(self: FakeTensor) -> Any:
    """Whole numbers are 0: transformers asks where each expert's tokens end, for products into tensors made before."""
    return _TOLIST(self) if self.is_floating_point() or self.dim() != 1 else [0] * len(self)


def _meta_grouped_mm(a: torch.Tensor, b: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
    """In any dtype, as torch 2.13's kernel; what torch says of shapes allows bf16 alone."""
    return _META_GROUPED_MM(a.bfloat16(), b.bfloat16(), *rest, **more).to(a.dtype)


def _getitem(self: torch.Tensor, index: Any) -> Any:
    """Indexing where a list among the indices would be made a true tensor on the card (Falcon's heads)."""
    if isinstance(index, tuple) and any(isinstance(each, list) for each in index):
        index = tuple(torch.tensor(each) if isinstance(each, list) else each for each in index)
    return _GETITEM(self, index)


def _apply(self: nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
    """nn.Module._apply without swapping tensors, which fakes refuse."""
    if recurse:
        for child in self.children():
            child._apply(fn)
    for name, old in self._parameters.items():
        if old is not None:
            with torch.no_grad():
                new = fn(old)
            if new is not old:
                self._parameters[name] = _parameter(new, old)
    for name, old in self._buffers.items():
        if old is not None:
            self._buffers[name] = fn(old)
    return self


def _parameter(new: torch.Tensor, old: Any) -> nn.Parameter:
    made = nn.Parameter(new, requires_grad=old.requires_grad)
    made.grad = old.grad
    return made
