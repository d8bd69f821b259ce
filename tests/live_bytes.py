"""What training steps hold and move, on any device: bytes alive at once, and bytes that operators read and write."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Follows every storage that an operator hands out inside the block, until it is freed."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._follow(tensor.untyped_storage())
        self.peak = max(self.peak, self.now)
        return result

    def ignore(self, tensors) -> None:
        """Weights that were there before."""
        self._known |= {tensor.untyped_storage()._cdata for tensor in tensors}

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


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
