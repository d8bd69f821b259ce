"""How far each rank lies above the best: differences paired by seed, with their intervals and the tolerance."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rankviz.core.runs.metric import LOSS, Metric
from rankviz.figures.rank_curve import BEST, MARKS
from rankviz.figures.style import MEASURED, NEUTRAL, Drawing, draw, figure, named_band, rgba
from rankviz.verdict import RankLoss, Verdict


class Difference(NamedTuple):
    """One rank against the best. low, high: the interval; None where the noise between runs is not known."""

    r: int
    value: float
    low: float | None
    high: float | None
    call: str
    """BEST of the best rank itself, or the verdict's call."""


class VerdictInfo(NamedTuple):
    """What the figure of a verdict shows. best: None where there is no verdict yet."""

    differences: Sequence[Difference] = ()
    best: int | None = None
    metric: Metric = LOSS
    within: float = 0.0
    """What counts as equal, in nats or points."""
    y_range: tuple[float, float] | None = None
    source: str = ""
    rows: Sequence[Mapping[str, object]] = ()


EMPTY = "No verdict yet. A verdict needs finished runs of at least two ranks."
SOURCE = (
    "Differences are paired on held-out examples within a seed. Intervals have 95 % confidence over runs and examples, "
    "for all pairs together."
)


def verdict_info(verdict: Verdict | None) -> VerdictInfo:
    """Every rank's difference from the best; empty where fewer than two ranks were compared."""
    if verdict is None or len(verdict.ranks) < 2:
        return VerdictInfo()
    differences = [
        Difference(rank.r, *verdict.above_best(rank.r), BEST if rank.r == verdict.best else rank.call)
        for rank in verdict.ranks
    ]
    return VerdictInfo(
        differences=differences,
        best=verdict.best,
        metric=verdict.metric,
        within=verdict.within,
        y_range=_y_range(differences, verdict.within),
        source=SOURCE,
        rows=[_row(verdict, rank) for rank in verdict.ranks],
    )


def _y_range(differences: Sequence[Difference], tolerance: float) -> tuple[float, float]:
    ends = [end for d in differences for end in (d.value, d.low, d.high) if end is not None] + [-tolerance, tolerance]
    room = 0.08 * (max(ends) - min(ends) or 1)
    return min(ends) - room, max(ends) + room


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
    """Ranks from left to right, evenly; zero is the best, the grey band what counts as equal."""
    differences = info.differences
    return draw(
        [_markers(alike, info.metric) for call in MARKS if (alike := [d for d in differences if d.call == call])],
        height=height,
        uirevision=f"verdict|{info.best}|{[d.r for d in differences]}",
        x={"type": "category", "categoryorder": "array", "categoryarray": [f"r = {d.r}" for d in differences]},
        y={
            "zeroline": True,
            "zerolinecolor": rgba(NEUTRAL, 0.7),
            "range": list(info.y_range) if info.y_range else None,
        },
        x_title="LoRA rank r",
        y_title=f"{_axis(info.metric)} {f'r = {info.best}' if differences else 'the best rank'}, {info.metric.units}",
        message="" if differences else EMPTY,
        shapes=[named_band(-info.within, info.within, "counts as equal")] if differences else [],
        showlegend=True,
    )


def _axis(metric: Metric) -> str:
    """Up is worse in every metric."""
    return f"{metric.noun} {'below' if metric.higher_is_better else 'above'}"


def _markers(differences: Sequence[Difference], metric: Metric) -> dict[str, Any]:
    mark = MARKS[differences[0].call]
    return {
        "type": "scatter",
        "x": [f"r = {d.r}" for d in differences],
        "y": [d.value for d in differences],
        "mode": "markers",
        "name": mark.words,
        "marker": {
            "color": MEASURED,
            "size": 11,
            "symbol": mark.symbol,
            "line": {"color": MEASURED, "width": 1.5},
        },
        "error_y": {
            "type": "data",
            "array": [d.high - d.value if _spans(d) else None for d in differences],
            "arrayminus": [d.value - d.low if _spans(d) else None for d in differences],
            "visible": any(_spans(d) for d in differences),
            "color": rgba(MEASURED, 0.7),
            "thickness": 1.3,
            "width": 4,
        },
        "hovertext": [_hover(d, metric) for d in differences],
        "hoverinfo": "text",
        "cliponaxis": False,
    }


def _spans(d: Difference) -> bool:
    return d.low is not None and d.low < d.high


def _hover(d: Difference, metric: Metric) -> str:
    digits = 1 if metric.higher_is_better else 4
    interval = "interval not known" if d.low is None else f"{d.low:+.{digits}f} to {d.high:+.{digits}f}"
    if d.call == BEST:
        return f"<b>r = {d.r}</b>: {metric.superlative}<br>{d.value:+.{digits}f} {metric.units}<br>"
    return f"<b>r = {d.r}</b>: {MARKS[d.call].words}<br>{d.value:+.{digits}f} {metric.units}<br>{interval}"
