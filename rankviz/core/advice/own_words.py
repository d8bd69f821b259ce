"""What a sweep of the very model says, in one sentence beside the advice. It does not move the advice."""

from collections.abc import Sequence
from typing import NamedTuple

from rankviz.core.lora.targets import listed


class OwnResult(NamedTuple):
    """The answer of one sweep's verdict on the loss."""

    recorded: bool
    """Shipped with RankViz, not trained here."""
    made_of: str
    """What tells it from other sweeps of the model: its data and steps."""
    ranks: Sequence[int]
    best: int | None
    """The rank with the lowest mean loss; None without a verdict."""
    smallest: int | None
    """The smallest that cannot be distinguished from it; None where the noise between runs is not known."""


def own_sentence(result: OwnResult) -> str:
    """ "Your newest sweep of this model (phonemes, 400 steps; r = 2 and 8): r = 8 has the lowest loss, and …"."""
    whose = "A recorded sweep" if result.recorded else "Your newest sweep"
    ranks = listed(map(str, sorted(set(result.ranks))))
    return f"{whose} of this model ({result.made_of}; r = {ranks}): {_answer(result)}."


def _answer(result: OwnResult) -> str:
    if result.best is None:
        return "no verdict yet"
    lowest = f"r = {result.best} has the lowest loss"
    if len(set(result.ranks)) == 1:
        return f"{lowest}, and no other rank was run"
    if result.smallest is None:
        return f"{lowest}, but no verdict is possible: the effect of another seed is not known"
    if result.smallest < result.best:
        return f"{lowest}, and r = {result.smallest} is the smallest rank that cannot be distinguished from it"
    if result.best == min(result.ranks):
        return f"{lowest} and is the smallest rank tried"
    return f"{lowest}, and every smaller rank is worse by more than the noise"
