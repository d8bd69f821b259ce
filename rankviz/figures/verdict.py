"""How far each rank lies above the best: differences paired by seed, with their intervals and the tolerance."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rankviz.core.runs.metric import LOSS, Metric
from rankviz.figures.rank_curve import BEST, MARKS
from rankviz.figures.style import MEASURED, NEUTRAL, Drawing, Rows, bars, draw, figure, named_band, rgba, scatter
from rankviz.verdict import RankLoss, Verdict

EMPTY = "No verdict yet. A verdict needs finished runs of at least two ranks."
SOURCE = (
    "Differences are paired on held-out examples within a seed. Intervals have 95 % confidence over runs and examples, "
    "for all pairs together."
)


class RankDifference(NamedTuple):
    """One rank against the best. low, high: the interval; None where the noise between runs is not known. call: BEST of
    the best rank itself, or the verdict's call."""

    r: int
    value: float
    low: float | None
    high: float | None
    call: str


class VerdictInfo(NamedTuple):
    """What the figure of a verdict shows. best: None where there is no verdict yet. within: what counts as equal, in
    nats or points."""

    differences: Sequence[RankDifference] = ()
    best: int | None = None
    metric: Metric = LOSS
    within: float = 0.0
    source: str = ""
    rows: Rows = ()


def verdict_info(verdict: Verdict | None) -> VerdictInfo:
    """Every rank's difference from the best; empty where fewer than two ranks were compared."""
    if verdict is None or len(verdict.ranks) < 2:
        return VerdictInfo()
    best = verdict.best
    return VerdictInfo(
        differences=[
            RankDifference(rank.r, *verdict.above_best(rank.r), BEST if rank.r == best else rank.call)
            for rank in verdict.ranks
        ],
        best=best,
        metric=verdict.metric,
        within=verdict.within,
        source=SOURCE,
        rows=[_row(verdict, rank) for rank in verdict.ranks],
    )


def _row(verdict: Verdict, rank: RankLoss) -> dict[str, object]:
    above, metric = verdict.above_best(rank.r), verdict.metric
    row = {
        "r": rank.r,
        **({"loss": rank.loss} if metric is LOSS else {f"{metric.key}_percent": verdict.read(rank.loss)}),
        "seeds": len(rank.run_losses),
        "learning_rate": rank.learning_rate,
        "learning_rates_tried": rank.learning_rates_tried,
        "above_best": above.value,
        "above_best_low": above.low,
        "above_best_high": above.high,
        "call": rank.call,
        "best": verdict.best,
        f"tolerance_{metric.units}": verdict.within,
        "examples": verdict.examples,
    }
    return {name: "" if value is None else value for name, value in row.items()}


@figure
def verdict_figure(info: VerdictInfo, *, height: int = 260) -> Drawing:
    """Ranks from left to right, evenly; zero is the best, the grey band what counts as equal. Up is worse."""
    differences, metric = info.differences, info.metric
    ends = [end for d in differences for end in (d.value, d.low, d.high) if end is not None]
    ends += [-info.within, info.within]
    room = 0.08 * (max(ends) - min(ends) or 1)
    above = "below" if metric.higher_is_better else "above"
    best = f"r = {info.best}" if differences else "the best rank"
    return draw(
        [_markers(alike, metric) for call in MARKS if (alike := [d for d in differences if d.call == call])],
        height=height,
        uirevision=f"verdict|{info.best}|{[d.r for d in differences]}",
        x={"type": "category", "categoryorder": "array", "categoryarray": [f"r = {d.r}" for d in differences]},
        y={"zeroline": True, "zerolinecolor": rgba(NEUTRAL, 0.7)}
        | ({"range": [min(ends) - room, max(ends) + room]} if differences else {}),
        x_title="LoRA rank r",
        y_title=f"{metric.noun} {above} {best}, {metric.units}",
        message="" if differences else EMPTY,
        shapes=[named_band(-info.within, info.within, "counts as equal")] if differences else [],
        showlegend=True,
    )


def _markers(differences: Sequence[RankDifference], metric: Metric) -> dict[str, Any]:
    mark, ys = MARKS[differences[0].call], [d.value for d in differences]
    intervals = [(d.low, d.high) if d.low is not None and d.low < d.high else (None, None) for d in differences]
    return scatter(
        [f"r = {d.r}" for d in differences],
        ys,
        name=mark.words,
        marker={"color": MEASURED, "size": 11, "symbol": mark.symbol, "line": {"color": MEASURED, "width": 1.5}},
        error_y=bars(ys, intervals, MEASURED),
        hovertext=[_hover(d, metric) for d in differences],
        hoverinfo="text",
        cliponaxis=False,
    )


def _hover(d: RankDifference, metric: Metric) -> str:
    digits, is_best = 1 if metric.higher_is_better else 4, d.call == BEST
    interval = "interval not known" if d.low is None else f"{d.low:+.{digits}f} to {d.high:+.{digits}f}"
    words = metric.superlative if is_best else MARKS[d.call].words
    value = f"{d.value:+.{digits}f} {metric.units}"
    return f"<b>r = {d.r}</b>: {words}<br>{value}<br>{'' if is_best else interval}"
