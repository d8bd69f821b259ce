"""What a sweep says: quality against cost, the front, and the smallest rank that can't be told from the best.

A point is one run; a group is one rank at its best learning rate, over seeds. Loss is a held-out loss in nats a
token, lower is better; a gain over the base is turned round by the caller (minus the gain). Hand-worked in
tests/test_tradeoff.py.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

NO_SEED_TOLERANCE_NATS = 0.02
"""Difference that one run a rank can't resolve: in 13 repeated cases the standard deviation of one run was about
0.02 nats."""


class TradeoffPoint(NamedTuple):
    """One run."""

    r: int
    cost: float
    """Bytes, parameters, seconds or dollars: whatever the chart's x axis shows."""
    loss: float
    learning_rate: float = 0.0
    seed: int = 0
    run_id: str = ""


class RankGroup(NamedTuple):
    """One rank at the learning rate that served it best, over its seeds."""

    r: int
    cost: float
    """Mean over the runs."""
    loss: float
    """Mean over the runs."""
    spread: float | None
    """Standard deviation over the runs; None of one run: not known, not zero."""
    points: tuple[TradeoffPoint, ...]
    learning_rate: float
    learning_rates_tried: int

    @property
    def runs(self) -> int:
        return len(self.points)


class Verdict(NamedTuple):
    """Which rank is enough, by which rule."""

    best: int
    smallest: int
    """Smallest rank within the noise of the best."""
    indistinguishable: tuple[int, ...]
    """All ranks within the noise of the best, itself included."""
    tolerance: float | None
    """The stated tolerance in nats; None where the spread over seeds decided."""
    reason: str


HasCostAndLoss = TypeVar("HasCostAndLoss", TradeoffPoint, RankGroup)


def pareto_front(points: Iterable[HasCostAndLoss]) -> tuple[HasCostAndLoss, ...]:
    """Points that no other beats on both cost and loss, cheapest first. Of equal points the first stays."""
    front: list[HasCostAndLoss] = []
    for point in sorted(points, key=lambda p: (p.cost, p.loss)):
        if math.isfinite(point.loss) and (not front or point.loss < front[-1].loss):
            front.append(point)
    return tuple(front)


def by_rank(points: Iterable[TradeoffPoint]) -> tuple[RankGroup, ...]:
    """One group a rank, smallest rank first.

    Where several learning rates were tried, the one with the lowest mean loss stands for the rank: rank is compared
    at each rank's own best, since learning rate moves loss more than rank does. Picking the best of several is
    optimistic by about the noise of one; runs that diverged (a loss that isn't finite) are left out.
    """
    cells: dict[int, dict[float, list[TradeoffPoint]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        if math.isfinite(point.loss):
            cells[point.r][point.learning_rate].append(point)
    return tuple(_group(r, rates) for r, rates in sorted(cells.items()))


def _group(r: int, rates: dict[float, list[TradeoffPoint]]) -> RankGroup:
    rate, runs = min(rates.items(), key=lambda item: (statistics.fmean(p.loss for p in item[1]), item[0]))
    return RankGroup(
        r=r,
        cost=statistics.fmean(p.cost for p in runs),
        loss=statistics.fmean(p.loss for p in runs),
        spread=statistics.stdev(p.loss for p in runs) if len(runs) > 1 else None,
        points=tuple(runs),
        learning_rate=rate,
        learning_rates_tried=len(rates),
    )


def pooled_spread(groups: Sequence[RankGroup]) -> float | None:
    """Standard deviation of one run, pooled over ranks: sqrt(Σ(n-1)s² / Σ(n-1)); None where every rank ran once."""
    repeated = [group for group in groups if group.spread is not None]
    if not repeated:
        return None
    freedom = sum(group.runs - 1 for group in repeated)
    return math.sqrt(sum((group.runs - 1) * group.spread**2 for group in repeated) / freedom)


def verdict(groups: Sequence[RankGroup], tolerance: float = NO_SEED_TOLERANCE_NATS) -> Verdict | None:
    """The smallest rank within noise of the best; None without groups.

    With repeated runs: a rank is within noise when its mean is at most one standard error of the difference above
    the best mean, s · sqrt(1/n + 1/n_best), s pooled over ranks. With one run a rank the noise is not known, and the
    stated tolerance stands for it.
    """
    if not groups:
        return None
    best = min(groups, key=lambda group: (group.loss, group.r))
    spread = pooled_spread(groups)
    if spread is None:
        within = [g.r for g in groups if g.loss - best.loss <= tolerance]
        reason = f"one run each, so repeat noise is not known: within {tolerance:g} nats of the best counts as equal"
        return Verdict(best.r, min(within), tuple(within), tolerance, reason)
    within = [g.r for g in groups if g.loss - best.loss <= spread * math.sqrt(1 / g.runs + 1 / best.runs)]
    reason = f"within one standard error of the best, from a spread of {spread:.3f} nats between runs"
    return Verdict(best.r, min(within), tuple(within), None, reason)


def learning_rate_note(groups: Sequence[RankGroup]) -> str:
    """Whether the learning rate was tuned, in words: it moves loss more than rank does."""
    if not groups:
        return ""
    tried = [group.learning_rates_tried for group in groups]
    rates = {group.learning_rate for group in groups}
    if min(tried) > 1:
        return f"Learning rate tuned at each rank: best of {min(tried)}."
    if max(tried) > 1:
        return "Learning rate tuned at some ranks only: those at one rate may look worse than they are."
    if len(rates) > 1:
        return "Each rank ran at a learning rate of its own, none of them tuned."
    return f"Learning rate not tuned: {rates.pop():g} at every rank, which may suit some ranks better than others."
