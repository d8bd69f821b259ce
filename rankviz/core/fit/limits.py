"""Finds the largest rank, batch and sequence length that fit, with the other settings unchanged.

Memory never falls as one of them grows (a law of tests/core/cost/memory/test_peak.py), but for one step down: where
Unsloth moves embeddings to host memory. On either side of it doubling and then halving the gap finds the
largest in some twenty estimates. Two answers each: surely, with the whole band inside usable memory, and expected.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rankviz import units
from rankviz.core.cost.setup import MAX_BATCH, MAX_LENGTH, MAX_TOKENS_PER_MICRO_STEP
from rankviz.core.cost.unsloth import moved_table
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
        _limit(start.with_full_rows, "max_length", lengths, "the most tokens at once that RankViz estimates"),
    )


def _limit(start: Setting, option: str, ceiling: int, at_ceiling: str) -> Limit:
    known: dict[int, Setting] = {}

    def ask(n: int) -> Setting:
        if n not in known:
            known[n] = start.with_change({option: n})
        return known[n]

    on_card = ask(1).row.memory.base_weights

    def stays(n: int) -> bool:
        return ask(n).row.memory.base_weights == on_card

    step = ceiling if stays(ceiling) else largest(stays, ceiling)
    surely = _largest_beside(step, lambda n: ask(n).spare.low >= 0, ceiling)
    expected = _largest_beside(step, lambda n: ask(n).spare.expected >= 0, ceiling)
    note = ""
    if expected is not None and ask(1).spare.expected < 0:
        note = (
            f"from {_named(option, step + 1)} on Unsloth moves the {moved_table(start.answer.model)} to host memory; "
            f"below that, {_named(option, 1)} needs {units.memory_size(ask(1).row.memory.fullest)}"
        )
    elif surely is None:
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


def _largest_beside(step: int, holds: Callable[[int], bool], ceiling: int) -> int | None:
    """The largest from 1 to ceiling that holds, where `holds` may turn true once more after the step."""
    beyond = largest(lambda n: holds(step + n), ceiling - step) if step < ceiling else None
    return largest(holds, step) if beyond is None else step + beyond


def _rounded(length: int | None) -> int | None:
    return length if length is None or length < LENGTH_STEP else length - length % LENGTH_STEP


def _why_not_one(one: Setting, option: str) -> str:
    what = _named(option, 1)
    memory, usable = one.row.memory, one.answer.usable_bytes
    if one.spare.expected >= 0:
        return f"{what} is expected to fit, but the range exceeds the card"
    why = f"the base weights alone take {units.memory_size(memory.base_weights)}"
    if memory.fuller_while_loading:
        why = "no rank, batch or length changes that"
    needed = f"{units.memory_size(memory.fullest)} needed{' while loading' if memory.fuller_while_loading else ''}"
    return f"{what} does not fit: {needed}, {units.memory_size(usable.expected)} usable; {why}"


def _named(option: str, n: int) -> str:
    tokens = "1 token" if n == 1 else f"{n:,} tokens"
    return {"r": f"r = {n}", "batch": f"a batch of {n}", "max_length": f"{tokens} per example"}[option]
