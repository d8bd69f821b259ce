"""Held-out loss or accuracy by rank: runs as markers, a fast curve as a dashed line, a forecast between them."""

from collections.abc import Mapping, Sequence
from math import log2
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz import units
from rankviz.core.runs.fast_curve import CurvePoint, FastCurve, fast_curves, pick
from rankviz.core.runs.metric import LOSS, Metric, RankGroup, by_rank
from rankviz.core.runs.record import Sweep
from rankviz.core.runs.words import sweep_title
from rankviz.figures.forecast import INNER, ForecastRank, bands
from rankviz.figures.style import FAST_CURVE, MEASURED, NEUTRAL, Drawing, Rows, draw, figure, scatter, vertical_line
from rankviz.figures.sweep_tradeoff import PlottedPoint, measured_markers, plotted, points_of
from rankviz.units import counted
from rankviz.verdict import CANT_TELL, DIFFERENT, EQUAL, Verdict

if TYPE_CHECKING:
    from rankviz.core.forecast.quick_look import BentForecast


class Mark(NamedTuple):
    """A marker's symbol and its words in the legend."""

    symbol: str
    words: str


BEST = "best"
MARKS = {
    BEST: Mark("diamond", "best rank"),
    DIFFERENT: Mark("circle", "worse than the best"),
    EQUAL: Mark("square", "equal within the tolerance"),
    CANT_TELL: Mark("circle-open", "cannot be distinguished from the best"),
}
NAME, MEDIAN = "estimated, 80 % band", "estimated, noise not known"
WHAT_A_FAST_CURVE_IS = (
    "The dashed curve is one training at the highest rank, its adapter truncated to each lower rank. It shows how much "
    "rank the learned update needs. It does not show what a run at a lower rank would learn in the same time; "
    "independent runs show that."
)
WHAT_THE_BAND_IS = (
    "The band is a forecast of what runs at the ranks between the measured ones would reach; nothing is forecast below "
    "the lowest run or above the highest."
)
COLUMNS = ("standard_deviation", "runs", "recovery_steps", "learning_rate", "low_50", "high_50", "low_80", "high_80")
EMPTY = "Points appear here as runs finish."
TO_TRAIN, ENOUGH, SMALLEST = "train next", "enough for this adapter", "smallest rank to consider"


class FastCurveLine(NamedTuple):
    """One training whose adapter was truncated to lower ranks. points: rank, value, and words for the hover."""

    label: str
    run_id: str
    points: Sequence[tuple[int, float, str]]


class RankCurveInfo(NamedTuple):
    """Content of the figure of quality by rank. picked: the rank to mark. picked_as: the reason, in a few words."""

    runs: Sequence[PlottedPoint] = ()
    lines: Sequence[FastCurveLine] = ()
    ranks: Sequence[int] = ()
    picked: int | None = None
    picked_as: str = ""
    metric: Metric = LOSS
    source: str = ""
    rows: Rows = ()
    band: Sequence[ForecastRank] = ()


def how_made(point: CurvePoint, curve: FastCurve) -> str:
    """Return "trained" or "truncated", with the number of training steps after the truncation if there were any."""
    if point is curve.trained:
        return "trained"
    return f"truncated, then {point.recovery_steps} training steps" if point.recovery_steps else "truncated"


def file_text(point: CurvePoint, curve: FastCurve) -> str:
    """Return the size of the adapter's file; "about" for a truncated one, whose size is scaled by rank, although the
    file's header does not shrink with rank."""
    return ("" if point is curve.trained else "about ") + units.file_size(point.adapter_bytes)


def rank_curve_info(
    sweep: Sweep,
    verdict: Verdict | None,
    *,
    metric: Metric = LOSS,
    forecast: "BentForecast | None" = None,
    picked: int | None = None,
) -> RankCurveInfo:
    """Return quality by rank of one sweep in any state: its runs, its fast curves and its forecast.

    Args:
        verdict: The verdict on the sweep's runs in this metric; None where there is none yet.
        metric: The quality to draw; points without it are left out.
        forecast: Forecast of the loss between the sweep's runs; None where there is none, or for another metric.
        picked: The rank to mark; by default the rank that the fast curve or the verdict recommends.
    """
    calls: Mapping[int, str] = {}
    sign = -1 if metric.higher_is_better else 1
    points = points_of(sweep.runs, lambda run: run.adapter_bytes or 0, lambda run: metric.of(run.loss_after), sign=sign)
    groups = by_rank(points, verdict.rates) if verdict else ()
    if verdict and not verdict.unknown and len(verdict.ranks) > 1:
        calls = {rank.r: BEST if rank.r == verdict.best else rank.call for rank in verdict.ranks}
    curves = [curve for curve in fast_curves(sweep.runs) if any(metric.of(point) is not None for point in curve.points)]
    lines = [_line(curve, sweep, metric, alone=len(curves) == 1) for curve in curves]
    band = forecast.ranks if forecast else ()
    picked_as = TO_TRAIN if picked else ENOUGH if curves else SMALLEST
    if not picked and curves:
        picked = pick(curves[0], verdict.within if verdict else metric.tolerance, metric).r
    elif not picked and verdict and len(verdict.ranks) > 1:
        picked = verdict.smallest_indistinguishable
    ranks = {group.r for group in groups} | {rank.r for rank in band} | {r for line in lines for r, _, _ in line.points}
    steps = counted(sweep.runs[0].request.max_steps, "step")
    source = [f"Measured by RankViz, sweep {sweep.sweep_id}: {sweep_title(sweep)}, {steps}."]
    return RankCurveInfo(
        runs=[plotted(each, metric, sign=sign, x=each.r, call=calls.get(each.r, "")) for each in groups],
        lines=lines,
        ranks=sorted(ranks),
        picked=picked,
        picked_as=picked_as,
        metric=metric,
        source=" ".join([*source, *([WHAT_A_FAST_CURVE_IS] if curves else []), *([WHAT_THE_BAND_IS] if band else [])]),
        rows=_rows(groups, curves, band, metric),
        band=band,
    )


def _line(curve: FastCurve, sweep: Sweep, metric: Metric, *, alone: bool) -> FastCurveLine:
    seed = next(run.request.seed for run in sweep.runs if run.run_id == curve.run_id)
    points = [
        (point.r, value, f"{how_made(point, curve)}, {file_text(point, curve)}")
        for point in curve.points
        if (value := metric.of(point)) is not None
    ]
    return FastCurveLine("fast curve" if alone else f"fast curve, seed {seed}", curve.run_id, points)


def _rows(
    groups: Sequence[RankGroup], curves: Sequence[FastCurve], band: Sequence[ForecastRank], metric: Metric
) -> Rows:
    column = f"{metric.key}_percent" if metric.higher_is_better else metric.key
    rows: list[dict[str, object]] = []
    for group in groups:
        row = {
            "kind": "independent runs",
            "r": group.r,
            column: -group.loss if metric.higher_is_better else group.loss,
            "runs": group.runs,
        }
        spread = "" if group.spread is None else group.spread
        rows.append({**row, "standard_deviation": spread, "learning_rate": group.learning_rate})
    for curve in curves:
        for point in curve.points:
            if (value := metric.of(point)) is not None:
                row = {"kind": f"truncated from {curve.run_id}", "r": point.r, column: value, "runs": 1}
                rows.append({**row, "recovery_steps": point.recovery_steps})
    for rank in band:
        bounds = {name: getattr(rank, name) for name in ("low_50", "high_50", "low_80", "high_80")}
        rows.append({"kind": "estimated band", "r": rank.r, "loss": rank.median, **bounds})
    return [{name: row.get(name, "") for name in ("kind", "r", column, *COLUMNS)} for row in rows]


@figure
def rank_curve_figure(info: RankCurveInfo, *, height: int = 320) -> Drawing:
    """Draw runs with the marks of the verdict, fast curves and the band; lines never join runs and truncations."""
    ranks, metric = info.ranks, info.metric
    name = NAME if info.band and info.band[0].low_80 is not None else MEDIAN
    band = [
        trace if trace["name"] == INNER else trace | {"name": name, "legendgroup": name, "showlegend": place == 0}
        for place, trace in enumerate(bands(info.band))
    ]
    lines = [
        scatter(
            [r for r, _, _ in line.points],
            [value for _, value, _ in line.points],
            mode="lines+markers",
            name=line.label,
            meta=line.run_id,
            line={"color": FAST_CURVE, "width": 2, "dash": "dash"},
            marker={"color": FAST_CURVE, "size": 8, "symbol": "x-thin-open", "line": {"width": 2}},
            hovertext=[f"<b>r = {r}</b><br>{metric.text(value)}<br>{words}" for r, value, words in line.points],
            hoverinfo="text",
            cliponaxis=False,
        )
        for line in info.lines
    ]
    # One trace per call, so that each mark has its words in the legend.
    runs = [_markers(alike) for call in ("", *MARKS) if (alike := [p for p in info.runs if p.call == call])]
    span = [(log2(ranks[0]) - 0.5) / log2(10), (log2(ranks[-1]) + 0.5) / log2(10)] if ranks else None
    return draw(
        [*band, *lines, *runs],
        height=height,
        uirevision=f"rank-curve|{metric.key}|{list(ranks)}",
        x={"type": "log", "tickvals": ranks, "ticktext": [str(r) for r in ranks], "range": span},
        y={"exponentformat": "none"},  # no fixed number of digits: they would be the same at ticks close together
        x_title="LoRA rank r",
        y_title=metric.title,
        message="" if ranks else EMPTY,
        shapes=[vertical_line(info.picked, NEUTRAL, f"r = {info.picked}: {info.picked_as}")] if info.picked else [],
        showlegend=True,
    )


def _markers(runs: Sequence[PlottedPoint]) -> dict[str, Any]:
    mark = MARKS.get(runs[0].call)
    return measured_markers(
        runs,
        name=f"measured: {mark.words}" if mark else "measured runs",
        symbol=mark.symbol if mark else "circle",
        edge=MEASURED if mark and mark.symbol.endswith("open") else "white",
    )
