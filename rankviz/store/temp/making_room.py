"""Uploads and downloads that go before they are old, where those of all visitors fill their place."""

import heapq
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

FRESH_SECONDS = 600.0
"""An upload is used soon after it has come, so for that long it stays."""


def oldest_first(files: Iterable[Path]) -> list[Path]:
    """One that has gone meanwhile comes first."""
    return sorted(files, key=_written_at)


def of_the_largest_first(uploads: Mapping[str, Iterable[Path]]) -> list[Path]:
    """Uploads by visitor, in the order they make room: each time the oldest of whoever has most left. So a visitor with
    little keeps it, however many others come with more. Those that have just come are not among them."""
    lines = {visitor: oldest_first(files) for visitor, files in uploads.items()}
    used = [(-sum(map(size_of, files)), visitor) for visitor, files in lines.items()]
    heapq.heapify(used)
    order: dict[Path, None] = {}  # one that two visitors have uploaded stands in it once
    while used:
        left, visitor = heapq.heappop(used)
        if lines[visitor] and time.time() - _written_at(lines[visitor][0]) > FRESH_SECONDS:
            order[oldest := lines[visitor].pop(0)] = None
            heapq.heappush(used, (left + size_of(oldest), visitor))
    return list(order)


def free(files: Iterable[Path], needed_bytes: float) -> int:
    """Remove files in this order until so many bytes are free; returns how many that are. None is removed where all of
    them have fewer."""
    sizes = {path: size_of(path) for path in files}
    if needed_bytes > sum(sizes.values()):
        return 0
    freed = 0
    for path, size in sizes.items():
        if freed >= needed_bytes:
            break
        with suppress(OSError):
            path.unlink(missing_ok=True)
            freed += size
            path.parent.rmdir()  # unless another has uploaded the same by another name
    return freed


def size_of(path: Path) -> int:
    """In bytes; 0 of one that has gone meanwhile."""
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _written_at(path: Path) -> float:
    """0 of one that has gone meanwhile."""
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0
