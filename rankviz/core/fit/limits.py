"""Finds the largest rank, batch and sequence length that fit, with the other settings unchanged.

Memory never falls as one of them grows (a law of tests/core/cost/test_memory.py), so doubling and then halving the gap
finds each in some twenty estimates. Two answers each: surely, with the whole band inside usable memory, and expected.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rankviz import units
from rankviz.core.cost.setup import MAX_BATCH, MAX_LENGTH, MAX_TOKENS_PER_MICRO_STEP
from rankviz.core.fit.setting import Setting
from rankviz.core.lora.config import MAX_RANK

LENGTH_STEP = 64
"""Lengths above it are rounded down to multiples of it: the estimate isn't good to a token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """None is "not even 1", and `note` says why; at the search's own ceiling, `note` says that."""

    option: str
    """r, batch or max_length."""
    surely: int | None
    expected: int | None
    ceiling: int
    note: str


def limits(start: Setting) -> tuple[Limit, ...]:
    """Rank, batch and length; none without a GPU."""
    if start.gpu is None:
        return ()
    training = start.question.training
    batches = min(MAX_BATCH, MAX_TOKENS_PER_MICRO_STEP // training.max_length)
    lengths = min(MAX_LENGTH, MAX_TOKENS_PER_MICRO_STEP // training.per_device_train_batch_size)
    return (
        _limit(start, "r", MAX_RANK, "the highest rank that RankViz estimates"),
        _limit(start, "batch", batches, "the largest batch that RankViz estimates"),
        _limit(start, "max_length", lengths, "the most tokens at once that RankViz estimates"),
    )


def _limit(start: Setting, option: str, ceiling: int, at_ceiling: str) -> Limit:
    known: dict[int, Setting] = {}

    def ask(n: int) -> Setting:
        if n not in known:
            known[n] = start.with_change({option: n})
        return known[n]

    surely = largest(lambda n: ask(n).spare.low >= 0, ceiling)
    expected = largest(lambda n: ask(n).spare.expected >= 0, ceiling)
    note = ""
    if surely is None:
        note = _why_not_one(ask(1), option)
    elif surely == ceiling:
        note = f"{at_ceiling}; the card has room for more"
    if option == "max_length":
        surely, expected = _rounded(surely), _rounded(expected)
        if not note:
            note = "limit of memory; the model's own limit may be shorter"
    return Limit(option=option, surely=surely, expected=expected, ceiling=ceiling, note=note)


def largest(holds: Callable[[int], bool], ceiling: int) -> int | None:
    """The largest n from 1 to ceiling that holds, where all below it hold and none above; None where not even 1."""
    if not holds(1):
        return None
    low, high = 1, 2
    while high < ceiling and holds(high):
        low, high = high, 2 * high
    if high >= ceiling:
        if holds(ceiling):
            return ceiling
        high = ceiling
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _rounded(length: int | None) -> int | None:
    return length if length is None or length < LENGTH_STEP else length - length % LENGTH_STEP


def _why_not_one(one: Setting, option: str) -> str:
    what = {"r": "r = 1", "batch": "a batch of 1", "max_length": "1 token per example"}[option]
    memory, usable = one.row.memory, one.answer.usable_bytes
    if one.spare.expected >= 0:
        return f"{what} is expected to fit, but the range exceeds the card"
    return (
        f"{what} does not fit: {units.memory_size(memory.device)} needed, {units.memory_size(usable.expected)} usable; "
        f"the base weights alone take {units.memory_size(memory.base_weights)}"
    )
