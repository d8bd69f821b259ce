"""How a verdict is marked in figures: a shape and legend words for each call. Filled is known, open is not."""

from typing import NamedTuple

from rankviz.verdict import CANT_TELL, DIFFERENT, EQUAL, Verdict


class Mark(NamedTuple):
    """A marker's shape and what the legend calls it."""

    symbol: str
    words: str


BEST = "best"
MARKS = {
    BEST: Mark("diamond", "best rank"),
    DIFFERENT: Mark("circle", "worse than the best"),
    EQUAL: Mark("square", "equal within the tolerance"),
    CANT_TELL: Mark("circle-open", "cannot be distinguished from the best"),
}


def calls_of(verdict: Verdict) -> dict[int, str]:
    """The call of each rank against the best; none where no verdict is possible."""
    if verdict.unknown or len(verdict.ranks) < 2:
        return {}
    return {rank.r: BEST if rank.r == verdict.best else rank.call for rank in verdict.ranks}
