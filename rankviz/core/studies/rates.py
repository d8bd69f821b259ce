"""How the best learning rate moves with the rank, counted over published sweeps that tuned it at several ranks."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Alpha = Literal["fixed", "r", ""]
ALPHA_WORDS: dict[Alpha, str] = {"fixed": "with alpha fixed", "r": "with alpha = r", "": "without a stated alpha"}


@dataclass(frozen=True, kw_only=True, slots=True)
class BestRate:
    """The best of the learning rates that a sweep tried at one rank."""

    study_id: str
    base_model: str
    task: str
    method: str
    rank: int
    alpha: Alpha
    """How alpha goes with the rank: one alpha for all, alpha = r, or not stated."""
    best_learning_rate: float
    learning_rates: str
    """Those tried, as the study gives them."""
    value: str
    """What the best one reached."""
    source: str
    notes: str
    checked: str


class RateByRank(NamedTuple):
    """The best learning rate at a sweep's highest rank over that at its lowest, for sweeps with one policy of alpha."""

    alpha: Alpha
    sweeps: int
    median: float
    low: float
    high: float

    @property
    def in_words(self) -> str:
        which = f"{self.sweeps} sweeps" if self.sweeps > 1 else "one sweep"
        times = f"{self.median:.2g} times" if self.median != 1 else "equal to"
        spread = f" (median; {self.low:.2g} to {self.high:.2g} times)" if self.sweeps > 1 else ""
        return (
            f"In {which} {ALPHA_WORDS[self.alpha]}, the best learning rate at the highest rank was {times} that at the "
            f"lowest{spread}."
        )


def rate_by_rank(rates: Iterable[BestRate]) -> tuple[RateByRank, ...]:
    """One count per policy of alpha, those with most sweeps first; sweeps of one rank say nothing."""
    sweeps: dict[tuple, list[BestRate]] = {}
    for each in rates:
        sweeps.setdefault((each.study_id, each.base_model, each.task, each.method, each.alpha), []).append(each)
    times: dict[Alpha, list[float]] = {}
    for sweep in sweeps.values():
        lowest, highest = min(sweep, key=lambda each: each.rank), max(sweep, key=lambda each: each.rank)
        if lowest.rank < highest.rank:
            times.setdefault(lowest.alpha, []).append(highest.best_learning_rate / lowest.best_learning_rate)
    counts = [RateByRank(alpha, len(x), statistics.median(x), min(x), max(x)) for alpha, x in times.items()]
    return tuple(sorted(counts, key=lambda count: -count.sweeps))
