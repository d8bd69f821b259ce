"""The size in bytes of an adapter_model.safetensors that does not exist yet.

A safetensors file is 8 bytes of length, a JSON header padded with spaces to a multiple of 8, and the tensors' data.
The header names each tensor with dtype, shape and offsets, in the order of the data: by dtype (F32 before BF16 before
F16), then by name. So its length depends on how many digits each offset has. Offsets only grow, so counting their
digits is counting how many lie beyond each power of ten: one look at where blocks start, one inside the block.

Blocks of a kind repeat, and that is what makes it quick: nothing here is done tensor by tensor for every block.
Compared to the byte with files that PEFT writes in tests/core/lora/test_file_size.py.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

DTYPE_BYTES = {"F32": 4, "BF16": 2, "F16": 2}
"""In the order in which safetensors sorts them."""

_EMPTY_HEADER = len('{"__metadata__":{"format":"pt"}}')
_ENTRY = len(',"":{"dtype":"","shape":[],"data_offsets":[,]}')


class Tensor(NamedTuple):
    """One tensor with its shape; rank_factor · r is one more dimension, if rank_factor is not 0."""

    name: str
    """What follows the block's number: ".self_attn.q_proj.lora_A.weight"; the whole name outside blocks."""
    dtype: str
    shape: tuple[int, ...]
    rank_factor: int = 0


class Group(NamedTuple):
    """Tensors whose names share what precedes the block's number. No prefix: one tensor outside blocks."""

    prefix: str
    tensors: tuple[tuple[tuple[int, ...], Tensor], ...]
    """Each with the blocks that have it."""


def file_bytes(sections: Sequence["Section"], r: int) -> int:
    """The file's size at one rank, from its sections in the order of the file."""
    header, data, end_digits = _EMPTY_HEADER, 0, 0
    for section in sections:
        header += section.constant + sum(n * len(str(factor * r)) for factor, n in section.rank_factors.items())
        digits, data = section.ends(r, data)
        end_digits += digits
    if sections:
        # Every end but the last is also the next tensor's start, and the first start is 0. The first comma is there
        # already, after the metadata.
        header += 2 * end_digits - len(str(data)) + 1
    return 8 + -(-header // 8) * 8 + data


def sections(groups: Iterable[Group]) -> tuple["Section", ...]:
    """The file's sections, one a dtype."""
    groups = tuple(groups)
    dtypes = {tensor.dtype for group in groups for _, tensor in group.tensors}
    return tuple(Section(dtype, groups) for dtype in DTYPE_BYTES if dtype in dtypes)


class Section:
    """The tensors of one dtype, block by block in the order of the file."""

    def __init__(self, dtype: str, groups: Iterable[Group]):
        self.width = DTYPE_BYTES[dtype]
        self.count = 0
        self.constant = 0
        """Header bytes that don't depend on the rank."""
        self.rank_factors: Counter[int] = Counter()
        """How many dimensions are so many times the rank."""
        self._templates: list[tuple[tuple[int, int], ...]] = []
        self._kinds: list[int] = []
        """Which template each block follows, in the order of the file."""
        self._before: list[int] = [0]
        """How many tensors precede each block."""
        order = sorted(groups, key=lambda group: group.prefix + "0" if group.prefix else group.tensors[0][1].name)
        for group in order:
            self._add(group, dtype)

    def _add(self, group: Group, dtype: str) -> None:
        tensors = sorted((tensor.name, blocks, tensor) for blocks, tensor in group.tensors if tensor.dtype == dtype)
        if not tensors:
            return
        # Which of the different sets of blocks a block is in, as bits: blocks with the same bits hold the same tensors.
        bits = {blocks: 1 << place for place, blocks in enumerate(dict.fromkeys(blocks for _, blocks, _ in tensors))}
        masks: dict[int | str, int] = {}
        for blocks, bit in bits.items():
            for block in blocks or ("",):
                masks[block] = masks.get(block, 0) | bit
        templates: dict[int, tuple[int, int]] = {}
        for block in sorted(masks, key=str):
            mask = masks[block]
            if mask not in templates:
                members = tuple(_elements(tensor) for _, blocks, tensor in tensors if bits[blocks] & mask)
                templates[mask] = len(self._templates), len(members)
                self._templates.append(members)
            kind, size = templates[mask]
            self._kinds.append(kind)
            self._before.append(self._before[-1] + size)
        self.count = self._before[-1]
        numerals = {blocks: sum(len(str(block)) for block in blocks) for blocks in bits}
        for name, blocks, tensor in tensors:
            copies = len(blocks) or 1
            dimensions = len(tensor.shape) + bool(tensor.rank_factor)
            fixed = sum(len(str(size)) for size in tensor.shape) + max(0, dimensions - 1)
            self.constant += numerals[blocks] + copies * (_ENTRY + len(group.prefix) + len(name) + len(dtype) + fixed)
            if tensor.rank_factor:
                self.rank_factors[tensor.rank_factor] += copies

    def ends(self, r: int, offset: int) -> tuple[int, int]:
        """The digits of all tensors' ends, and the last end, if the section starts at this offset."""
        local = [list(accumulate(self.width * (a * r + b) for a, b in template)) for template in self._templates]
        starts = list(accumulate((local[kind][-1] for kind in self._kinds), initial=offset))
        digits, power = self.count, 10
        while power <= starts[-1]:
            block = bisect_left(starts, power)
            digits += self.count - self._before[block]
            if block:
                ends = local[self._kinds[block - 1]]
                digits += len(ends) - bisect_left(ends, power - starts[block - 1])
            power *= 10
        return digits, starts[-1]


def _elements(tensor: Tensor) -> tuple[int, int]:
    """Elements per unit of rank, and elements that the rank doesn't touch."""
    size = 1
    for length in tensor.shape:
        size *= length
    return (size * tensor.rank_factor, 0) if tensor.rank_factor else (0, size)
