"""How a model's blocks repeat, and so at which small depths it can stand for the whole.

A stack is `prefix` blocks that don't repeat, then the same `period` of blocks again and again, and at the end perhaps
a part of one. Cut to its first d blocks with d ≡ all blocks (mod period) and d ≥ prefix + period, it has the prefix,
whole periods and that same rest: whatever adds up block by block is then a straight line in d, through the whole
model too. What tells two blocks apart is which linear layers they have, of which shapes, and how they attend; what
their weights are or which of them share keys and values is not looked at beyond that.
"""

from dataclasses import dataclass

from rankviz.core.model.spec import ModelSpec

LEAST_BLOCKS = 4
"""Fewer, and the embedding, the head and the optimizer's moment rule the peak instead of the blocks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Periods:
    """blocks = prefix + some whole periods + a part of one."""

    blocks: int
    prefix: int
    period: int

    def depths(self) -> tuple[int, int] | None:
        """Two depths below the whole, whole periods apart: the first with a whole period and LEAST_BLOCKS at least, the
        second three times as deep, or twice where the stack is short: the further apart, the less their noise weighs
        in the line through them. None where the stack is too short for two."""
        step = self.period
        first = self._at_least(self.prefix + step)
        roomy = self._at_least(max(self.prefix + step, LEAST_BLOCKS))
        for low in dict.fromkeys((roomy, first)):
            for times in (2, 1):
                high = low + step * max(1, times * low // step)
                if high < self.blocks:
                    return low, high
            if low + step < self.blocks:
                return low, low + step
        return None

    def _at_least(self, depth: int) -> int:
        """The least depth from there on that leaves whole periods out."""
        return depth + (self.blocks - depth) % self.period


def periods(model: ModelSpec) -> Periods:
    """The prefix and the period that show two whole periods in the fewest blocks.

    Worked out for hybrid stacks of the catalogue in tests/core/model/test_periods.py.
    """
    kinds = block_signatures(model)
    blocks = len(kinds)

    def prefix(period: int) -> int:
        start = blocks - period
        while start > 0 and kinds[start - 1] == kinds[start - 1 + period]:
            start -= 1
        return max(0, start)

    candidates = [(prefix(period) + 2 * period, period) for period in range(1, max(2, blocks))]
    shown, period = min(candidates, default=(2, 1))
    return Periods(blocks=blocks, prefix=shown - 2 * period, period=period)


def block_signatures(model: ModelSpec) -> tuple[tuple, ...]:
    """For each block what tells it from others: its layers (name, shape, kind) and how it attends."""
    blocks = model.num_hidden_layers
    layers: list[list[tuple]] = [[] for _ in range(blocks)]
    for layer in model.layers:
        if layer.part == "vision":
            continue
        for block in layer.blocks:
            if block < blocks:
                layers[block].append((layer.path, layer.in_features, layer.out_features, layer.kind, layer.num_experts))
    types = model.layer_types
    return tuple((types[block] if block < len(types) else "", *sorted(layers[block])) for block in range(blocks))
