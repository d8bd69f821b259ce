"""Says which parts of the peak of memory a change moves.

Doubling the length costs little where weights are most of the peak, or where the peak moves from the loss (logits) into
a block's backward pass (activations), and much where activations are most of it.
"""

from rankviz.core.cost.memory.estimate import MemoryEstimate
from rankviz.units import memory_size

PARTS = {
    "weights and optimizer states": "static",
    "activations": "activations",
    "logits": "logits",
    "scratch": "other",
}
"""By what a reader sees: properties of MemoryEstimate that add up to what is allocated."""
SHOWN_FROM = 0.01
"""As a share of the peak: a smaller change of a part is not written."""


def peak_words(before: MemoryEstimate, after: MemoryEstimate) -> str:
    """ "Peak: logits 264 MiB → 0 MiB, activations 56 MiB → 416 MiB; 651 MiB of weights and optimizer states stay"."""
    sizes = {name: (getattr(before, field), getattr(after, field)) for name, field in PARTS.items()}
    shown_from = SHOWN_FROM * max(map(sum, zip(*sizes.values(), strict=True)))
    moved = [
        f"{name} {memory_size(was)} → {memory_size(now)}"
        for name, (was, now) in sizes.items()
        if abs(now - was) >= shown_from
    ]
    if not moved:
        return "Peak: no part changes"
    kept = [(now, name) for name, (was, now) in sizes.items() if abs(now - was) < shown_from <= now]
    stays = f"; {memory_size(max(kept)[0])} of {max(kept)[1]} stay" if kept else ""
    return f"Peak: {', '.join(moved)}{stays}"
