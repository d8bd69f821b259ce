"""Says which parts of the peak of memory a change moves.

Doubling the length costs little where weights are most of the peak, or where the peak moves from the loss (logits) into
a block's backward pass (activations), and much where activations are most of it.
"""

from rankviz.core.cost.memory import MemoryEstimate
from rankviz.units import memory_size

PARTS = {
    "weights and optimizer states": "static",
    "activations": "activations",
    "logits": "logits",
    "scratch": "other",
}
"""By what a reader sees: properties of MemoryEstimate that add up to what is allocated."""
SHOWN_FROM = 2**20
"""Bytes: a smaller change of a part is not written."""


def peak_words(before: MemoryEstimate, after: MemoryEstimate) -> str:
    """ "Peak: logits 264 MiB → 0 MiB, activations 56 MiB → 416 MiB; 651 MiB of weights and optimizer states stay"."""
    moved, kept = [], []
    for name, field in PARTS.items():
        was, now = getattr(before, field), getattr(after, field)
        if abs(now - was) >= SHOWN_FROM:
            moved.append(f"{name} {memory_size(was)} → {memory_size(now)}")
        elif now >= SHOWN_FROM:
            kept.append((now, f"{memory_size(now)} of {name}"))
    largest = max(kept)[1] if kept else ""
    if not moved:
        return "Peak: no part changes"
    return f"Peak: {', '.join(moved)}" + (f"; {largest} stay" if largest else "")
