"""Adapter parameters against trained tokens: an information beside the advice, which it does not move.

The reasoning of LoRA Without Regret (Schulman et al. 2025): below its capacity LoRA keeps up with full fine-tuning, and
beyond it learns more slowly; there is no wall. Capacity is parameters times the bits that a parameter can hold, need is
tokens times the loss in bits (both in assumptions.json). The need is an upper bound: learning every token by heart. As
a rule for the rank it did worse than one rank for all (worker/assets/forecast/regret.py).
"""

import math
from typing import NamedTuple

from rankviz.core.cost.assumptions import Assumptions


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
