"""Compares quality with cost in a sweep, and marks the ranks that no other rank beats on both.

A point is one run; a group is one rank at its best learning rate, over seeds. Loss is a held-out loss in nats a
token, lower is better; a gain over the base is turned round by the caller (minus the gain). Which ranks can be told
apart is rankviz.verdict's to say. Hand-worked in tests/core/runs/test_tradeoff.py.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

TOLERANCE_NATS = 0.02
"""Differences surely smaller than this don't matter, unless another tolerance is chosen: about the standard deviation
of one short run."""
NOISE_NOT_MEASURED = "This sweep has too few repeats to measure the noise of one run."
"""What stands before a noise that is assumed."""


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


HasCostAndLoss = TypeVar("HasCostAndLoss", TradeoffPoint, RankGroup)


def pareto_front(points: Iterable[HasCostAndLoss]) -> tuple[HasCostAndLoss, ...]:
    """Points that no other beats on both cost and loss, cheapest first. Of equal points the first stays."""
    front: list[HasCostAndLoss] = []
    for point in sorted(points, key=lambda p: (p.cost, p.loss)):
        if math.isfinite(point.loss) and (not front or point.loss < front[-1].loss):
            front.append(point)
    return tuple(front)


def by_rank(points: Iterable[TradeoffPoint], rates: Mapping[int, float | None]) -> tuple[RankGroup, ...]:
    """One group a rank, smallest rank first.

    Where several learning rates were tried, rates says which stands for a rank: the verdict's choice, so that the
    chart shows what the verdict judges. Runs that diverged (a loss that isn't finite) are left out.
    """
    cells: dict[int, dict[float, list[TradeoffPoint]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        if math.isfinite(point.loss):
            cells[point.r][point.learning_rate].append(point)
    return tuple(_group(r, rates[r], tried) for r, tried in sorted(cells.items()) if r in rates and rates[r] in tried)


def _group(r: int, rate: float, tried: Mapping[float, Sequence[TradeoffPoint]]) -> RankGroup:
    runs = tried[rate]
    return RankGroup(
        r=r,
        cost=statistics.fmean(p.cost for p in runs),
        loss=statistics.fmean(p.loss for p in runs),
        spread=statistics.stdev(p.loss for p in runs) if len(runs) > 1 else None,
        points=tuple(runs),
        learning_rate=rate,
        learning_rates_tried=len(tried),
    )


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
