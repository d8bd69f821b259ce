"""The points of the trade-off figure: the ranks of one sweep, which of them no other beats, and what noise covers."""

from collections.abc import Sequence
from typing import NamedTuple

from rankviz.core.runs.metric import RankGroup, TradeoffPoint, pareto_front
from rankviz.core.runs.record import RunRecord
from rankviz.figures.sweep.axes import CostAxis, QualityAxis
from rankviz.verdict import Verdict


class PlottedPoint(NamedTuple):
    """One rank of one sweep. low, high: one standard deviation over seeds, or None where there was one run."""

    run_id: str
    r: int
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    x_text: str = ""
    y_text: str = ""
    detail: str = ""
    """What else the hover shows: learning rate and seeds."""


class PointGroup(NamedTuple):
    """Points that may be compared: one sweep, one base, one set of data."""

    label: str
    points: Sequence[PlottedPoint]
    front: Sequence[int] = ()
    """Indices of the points that no other beats in both cost and quality."""
    smallest_good: int | None = None
    """Index of the smallest rank that cannot be distinguished from the best."""
    noise: tuple[float, float] | None = None
    """The band of quality that cannot be distinguished from the best."""


def measured_points(
    runs: Sequence[RunRecord], cost: CostAxis, quality: QualityAxis, price: float
) -> Sequence[TradeoffPoint]:
    """The runs that have both. price: of one unit of the cost."""
    return [
        TradeoffPoint(
            r=run.request.r,
            cost=spent * price,
            loss=quality.sign * value,
            learning_rate=run.request.learning_rate,
            seed=run.request.seed,
            run_id=run.run_id,
        )
        for run in runs
        if (spent := cost.value(run)) is not None and (value := quality.value(run)) is not None
    ]


def point_group(
    label: str, ranks: Sequence[RankGroup], verdict: Verdict, cost: CostAxis, quality: QualityAxis
) -> PointGroup:
    """The ranks of the sweep of this name, with what the verdict says of them."""
    front = {rank.r for rank in pareto_front(ranks)}
    return PointGroup(
        label=label,
        points=[_plotted(rank, cost, quality) for rank in ranks],
        front=[i for i, rank in enumerate(ranks) if rank.r in front],
        smallest_good=_smallest_good(ranks, verdict),
        noise=_noise(ranks, verdict, quality),
    )


def _plotted(rank: RankGroup, cost: CostAxis, quality: QualityAxis) -> PlottedPoint:
    value = quality.sign * rank.loss
    return PlottedPoint(
        run_id=rank.points[0].run_id,
        r=rank.r,
        x=rank.cost / cost.unit,
        y=value,
        low=value - rank.spread if rank.spread is not None else None,
        high=value + rank.spread if rank.spread is not None else None,
        x_text=cost.text(rank.cost),
        y_text=quality.metric.text(value),
        detail=run_detail(rank),
    )


def run_detail(rank: RankGroup) -> str:
    """How a rank's runs were made, for a hover."""
    repeats = f"{rank.runs} seeds, bar is one standard deviation" if rank.spread is not None else "one run"
    return f"learning rate {rank.learning_rate:g}, {repeats}"


def _smallest_good(ranks: Sequence[RankGroup], verdict: Verdict) -> int | None:
    """None where no verdict is possible."""
    if verdict.noise_width is None:
        return None
    return next((i for i, rank in enumerate(ranks) if rank.r == verdict.smallest_indistinguishable), None)


def _noise(ranks: Sequence[RankGroup], verdict: Verdict, quality: QualityAxis) -> tuple[float, float] | None:
    """From the best to what cannot be distinguished from it; None where no verdict is possible."""
    best = next((rank for rank in ranks if rank.r == verdict.best), None)
    if verdict.noise_width is None or best is None:
        return None
    ends = quality.sign * best.loss, quality.sign * (best.loss + verdict.noise_width)
    return min(ends), max(ends)
