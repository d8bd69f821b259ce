"""Bytes that the operators of a training step read and write, on any device."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PRODUCTS = ("mm", "bmm", "addmm", "baddbmm")


class MovedBytes(TorchDispatchMode):
    """Bytes that operators read and write; matrix products, fused attention and views move none of them here."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def ignore(self, tensors) -> None:
        """Nothing is to be left out: what an operator reads, it reads."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        written = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        if name in PRODUCTS or "attention" in name or "empty" in name or func.is_view or not written:
            return result
        if not name.endswith("_") and _share_storage(written, read):
            return result
        self.total += sum(tensor.numel() * tensor.element_size() for tensor in read + written)
        return result


def _share_storage(written, read) -> bool:
    """A reshape that copied nothing."""
    known = {tensor.untyped_storage()._cdata for tensor in read}
    return all(tensor.untyped_storage()._cdata in known for tensor in written)
