"""Adapter parameters against trained tokens: does the adapter hold what the data could teach?

The reasoning of LoRA Without Regret (Schulman et al. 2025): LoRA keeps up with full fine-tuning as long as the data
stay below its capacity, and beyond that learns more slowly; there is no wall. Capacity is parameters times the bits
that a parameter can hold, need is tokens times the loss in bits; both factors are published figures and rows of
assumptions.json. The need is an upper bound: it is what learning every token by heart would take, and repeats count
once. So enough capacity is good news, and too little a reason to look, not a proof.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from rankviz.core.cost.assumptions import Assumptions

RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Capacity(NamedTuple):
    """One adapter against one amount of data."""

    r: int
    parameters: int
    holds_tokens: int
    """Tokens at which its capacity ends."""
    tokens: int | None
    at_most: bool

    @property
    def enough(self) -> bool | None:
        return None if self.tokens is None else self.tokens <= self.holds_tokens

    @property
    def filled(self) -> float | None:
        """Share of the capacity that the data would fill."""
        return None if self.tokens is None else self.tokens / self.holds_tokens


def capacity(r: int, parameters: int, tokens: int | None, at_most: bool, assume: Assumptions) -> Capacity:
    per_token = assume.value("capacity-bits-per-token")
    holds = math.floor(parameters * assume.value("capacity-bits-per-parameter") / per_token)
    return Capacity(r, parameters, holds, tokens, at_most)


def smallest_that_holds(parameters: Callable[[int], int], tokens: int, assume: Assumptions) -> int | None:
    """The smallest of the usual ranks whose adapter holds so many tokens; None where none does."""
    return next((r for r in RANKS if capacity(r, parameters(r), tokens, False, assume).enough), None)
