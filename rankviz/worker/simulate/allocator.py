"""Behaves as torch's CUDA caching allocator (c10/cuda/CUDACachingAllocator.cpp, torch 2.13): what is allocated, and
what is reserved for it.

Sizes are rounded to 512 bytes. Blocks up to 1 MiB come from segments of 2 MiB, larger ones below 10 MiB from segments
of 20 MiB, the rest from segments of their own in whole 2 MiB. The smallest free block that is large enough is taken,
and split where more than 1 MiB (512 bytes in small segments) is left. Neighbours that are free become one block.

Not covered: more than one stream, expandable segments, the options of PYTORCH_CUDA_ALLOC_CONF.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field

MIN_BLOCK = 512
SMALL_SIZE = 2**20
SMALL_SEGMENT = 2 * 2**20
LARGE_SEGMENT = 20 * 2**20
MIN_LARGE = 10 * 2**20
ROUND_LARGE = 2 * 2**20


@dataclass(slots=True)
class Block:
    """A piece of a segment."""

    address: int
    size: int
    small: bool
    free: bool = False
    previous: "Block | None" = field(default=None, repr=False)
    next: "Block | None" = field(default=None, repr=False)

    @property
    def key(self) -> tuple[int, int]:
        return self.size, self.address


class Allocator:
    """One card's memory. `limit_bytes`: where it is reached, unused segments are given back before more is taken."""

    def __init__(self, limit_bytes: int | None = None):
        self.limit_bytes = limit_bytes
        self.allocated = self.reserved = self.peak_allocated = self.peak_reserved = 0
        self._free: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        self._at: dict[int, Block] = {}
        self._next_address = 0

    def allocate(self, size: int) -> Block | None:
        """A block of that many bytes; None for none."""
        if size <= 0:
            return None
        size = -(-size // MIN_BLOCK) * MIN_BLOCK
        block = self._best_fit(size) or self._segment(size)
        rest = block.size - size
        if rest >= MIN_BLOCK if block.small else rest > SMALL_SIZE:
            tail = Block(block.address + size, rest, block.small, previous=block, next=block.next)
            if block.next is not None:
                block.next.previous = tail
            block.next, block.size = tail, size
            self._put(tail)
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return block

    def free(self, block: Block | None) -> None:
        """Give a block back, and join it with free neighbours."""
        if block is None:
            return
        self.allocated -= block.size
        before, after = block.previous, block.next
        if before is not None and before.free:
            self._take(before)
            before.size += block.size
            before.next = after
            if after is not None:
                after.previous = before
            block = before
        if after is not None and after.free:
            self._take(after)
            block.size += after.size
            block.next = after.next
            if after.next is not None:
                after.next.previous = block
        self._put(block)

    def touch(self, size: int) -> None:
        """A kernel's workspace, there for a moment."""
        self.free(self.allocate(size))

    def reset_peaks(self) -> None:
        """From now on."""
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved

    def empty_cache(self) -> None:
        """Give back every segment that nothing uses."""
        for pool in self._free.values():
            for key in list(pool):
                block = self._at[key[1]]
                if block.previous is None and block.next is None:
                    self._take(block)
                    self.reserved -= block.size

    def _best_fit(self, size: int) -> Block | None:
        pool = self._free[size <= SMALL_SIZE]
        place = bisect_left(pool, (size, -1))
        if place == len(pool):
            return None
        block = self._at[pool[place][1]]
        self._take(block)
        return block

    def _segment(self, size: int) -> Block:
        small = size <= SMALL_SIZE
        if small:
            length = SMALL_SEGMENT
        else:
            length = LARGE_SEGMENT if size < MIN_LARGE else -(-size // ROUND_LARGE) * ROUND_LARGE
        if self.limit_bytes is not None and self.reserved + length > self.limit_bytes:
            self.empty_cache()
        self.reserved += length
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        block = Block(self._next_address, length, small)
        self._next_address += length
        return block

    def _put(self, block: Block) -> None:
        block.free = True
        self._at[block.address] = block
        insort(self._free[block.small], block.key)

    def _take(self, block: Block) -> None:
        pool = self._free[block.small]
        del pool[bisect_left(pool, block.key)]
        del self._at[block.address]
        block.free = False
