"""Adapter parameters against trained tokens: can the adapter hold what the data could teach?

The reasoning of LoRA Without Regret (Schulman et al. 2025): LoRA keeps up with full fine-tuning as long as the data
stay below its capacity, and beyond that learns more slowly; there is no wall. Capacity is parameters times the bits
that a parameter can hold, need is tokens times the loss in bits; both factors are published figures and rows of
assumptions.json. The need is an upper bound: it is what learning every token by heart would take, and repeats count
once. So enough capacity is a good sign, and too little is a reason to check, not a proof.
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
    bits_per_parameter: float
    bits_per_token: float

    @property
    def enough(self) -> bool | None:
        return None if self.tokens is None else self.tokens <= self.holds_tokens

    @property
    def filled(self) -> float | None:
        """Share of the capacity that the data would fill."""
        return None if self.tokens is None else self.tokens / self.holds_tokens


def capacity(r: int, parameters: int, tokens: int | None, at_most: bool, assume: Assumptions) -> Capacity:
    """The capacity of an adapter with so many parameters, beside the tokens of the data."""
    per_token, per_parameter = assume.value("capacity-bits-per-token"), assume.value("capacity-bits-per-parameter")
    holds = math.floor(parameters * per_parameter / per_token)
    return Capacity(r, parameters, holds, tokens, at_most, per_parameter, per_token)


def smallest_that_holds(parameters: Callable[[int], int], tokens: int, assume: Assumptions) -> int | None:
    """The smallest of the usual ranks whose adapter holds so many tokens; None where none does."""
    return next((r for r in RANKS if capacity(r, parameters(r), tokens, False, assume).enough), None)
