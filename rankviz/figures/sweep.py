"""Figures of sweeps: quality by rank with fast curves and a forecast, and quality against cost with the Pareto front.

A rank's value is its verdict's: the mean over the runs at the learning rate that the verdict compares.
"""

from collections.abc import Callable, Sequence
from math import log2
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz import units
from rankviz.core.runs.fast_curve import FastCurve, fast_curves, pick
from rankviz.core.runs.metric import LOSS, Metric
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.words import base_name, data_name, sweep_label, sweep_title, told_apart
from rankviz.errors import InvalidSettingError
from rankviz.figures.style import (
    FAST_CURVE,
    MEASURED,
    NEUTRAL,
    ONE_TWO_FIVE,
    SMALL,
    Drawing,
    Rows,
    bands,
    bars,
    draw,
    figure,
    named_band,
    rgba,
    scatter,
    ticks_at,
    vertical_line,
)
from rankviz.units import counted
from rankviz.verdict import CANT_TELL, DIFFERENT, EQUAL, Verdict, headline, rate_note

if TYPE_CHECKING:
    from rankviz.core.forecast.quick_look import BentForecast, BentRank


class RankPoint(NamedTuple):
    """One rank of a sweep. value: mean of its runs, in nats or percent. spread: their standard deviation, None with
    one run. call: the verdict on the rank, BEST for the best; empty where no ranks are compared. cost: mean of the
    runs in the axis's unit; 0 without a cost axis."""

    run_id: str
    r: int
    value: float
    spread: float | None
    runs: int
    learning_rate: float
    text: str
    call: str = ""
    cost: float = 0.0


def _points(sweep: Sweep, verdict: Verdict, cost: "CostAxis | None" = None) -> list[RankPoint]:
    """Return the ranks of a verdict; with a cost axis, those with a known cost."""
    metric, points = verdict.metric, []
    compares = not verdict.unknown and len(verdict.ranks) > 1
    for rank in verdict.ranks:
        runs = [run for run in sweep.runs if run.request.r == rank.r and str(run.request.seed) in rank.run_losses]
        runs = [run for run in runs if run.request.learning_rate == rank.learning_rate]
        costs = [spent for run in runs if cost and (spent := cost.value(run)) is not None]
        if cost and not costs:
            continue
        spread = stdev(rank.run_losses.values()) if rank.seeds > 1 else None
        repeats = f"{rank.seeds} seeds, bar is one standard deviation" if rank.seeds > 1 else "one run"
        value, spent = verdict.read(rank.loss), fmean(costs) if costs else 0.0
        words = metric.text(value), cost.text(spent) if cost else "", f"learning rate {rank.learning_rate:g}, {repeats}"
        point = RankPoint(
            run_id=runs[0].run_id,
            r=rank.r,
            value=value,
            spread=spread,
            runs=rank.seeds,
            learning_rate=rank.learning_rate,
            text="<br>".join(filter(None, (f"<b>r = {rank.r}</b>", *words))),
            call="" if not compares else BEST if rank.r == verdict.best else rank.call,
            cost=spent / cost.unit if cost else 0.0,
        )
        points.append(point)
    return points


def _markers(xs: Sequence[float], points: Sequence[RankPoint], name: str, symbol: str, **more: Any) -> dict[str, Any]:
    """Return filled markers with error bars; a click on a marker reports its run."""
    ys = [point.value for point in points]
    ends = [(None, None) if p.spread is None else (p.value - p.spread, p.value + p.spread) for p in points]
    edge = MEASURED if symbol.endswith("open") else "white"
    return scatter(
        xs,
        ys,
        name=name,
        customdata=[point.run_id for point in points],
        marker={"color": MEASURED, "size": 11, "symbol": symbol, "line": {"color": edge, "width": 1}},
        error_y=bars(ys, ends, MEASURED),
        hovertext=[point.text for point in points],
        hoverinfo="text",
        cliponaxis=False,
        **more,
    )


BEST = "best"
MARKS = {
    BEST: ("diamond", "best rank"),
    DIFFERENT: ("circle", "worse than the best"),
    EQUAL: ("square", "equal within the tolerance"),
    CANT_TELL: ("circle-open", "cannot be distinguished from the best"),
}
"""Symbol and legend word of a marker, by the verdict on its rank."""
BAND, MEDIAN = "estimated, 80 % band", "estimated, noise not known"
WHAT_A_FAST_CURVE_IS = (
    "The dashed curve is one training at the highest rank, its adapter truncated to each lower rank. It shows how much "
    "rank the learned update needs. It does not show what a run at a lower rank would learn in the same time; "
    "independent runs show that."
)
WHAT_THE_BAND_IS = (
    "The band is a forecast of what runs at the ranks between the measured ones would reach; nothing is forecast below "
    "the lowest run or above the highest."
)
TO_TRAIN, ENOUGH, SMALLEST = "train next", "enough for this adapter", "smallest rank to consider"


class RankCurveInfo(NamedTuple):
    """Content of the figure of quality by rank. picked: the rank to mark. picked_as: the reason, in a few words."""

    points: Sequence[RankPoint] = ()
    curves: Sequence[FastCurve] = ()
    band: "Sequence[BentRank]" = ()
    ranks: Sequence[int] = ()
    picked: int | None = None
    picked_as: str = ""
    metric: Metric = LOSS
    source: str = ""
    rows: Rows = ()


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
        verdict: The verdict on the sweep's runs in this metric; None where there is none yet: then no run is drawn.
        metric: The quality to draw; points of a fast curve without it are left out.
        forecast: Forecast of the loss between the sweep's runs; None where there is none, or for another metric.
        picked: The rank to mark; by default the rank that the fast curve or the verdict recommends.
    """
    points, band = _points(sweep, verdict) if verdict else [], forecast.ranks if forecast else ()
    curves = [
        curve._replace(points=points_of)
        for curve in fast_curves(sweep.runs)
        if (points_of := tuple(point for point in curve.points if metric.of(point) is not None))
    ]
    picked_as = TO_TRAIN if picked else ENOUGH if curves else SMALLEST
    if not picked and curves:
        picked = pick(curves[0], verdict.within if verdict else metric.tolerance, metric).r
    elif not picked and verdict and len(verdict.ranks) > 1:
        picked = verdict.smallest_indistinguishable
    steps = counted(sweep.runs[0].request.max_steps, "step")
    source = f"Measured by RankViz, sweep {sweep.sweep_id}: {sweep_title(sweep)}, {steps}."
    source += f" {WHAT_A_FAST_CURVE_IS}" * bool(curves) + f" {WHAT_THE_BAND_IS}" * bool(band)
    column = f"{metric.key}_percent" if metric.higher_is_better else metric.key
    rows = [
        {"kind": "independent runs", "r": p.r, column: p.value, "standard_deviation": p.spread, "runs": p.runs}
        | {"learning_rate": p.learning_rate}
        for p in points
    ]
    rows += [
        {"kind": f"truncated from {curve.run_id}", "r": point.r, column: metric.of(point), "runs": 1}
        | {"recovery_steps": point.recovery_steps}
        for curve in curves
        for point in curve.points
    ]
    ends = ("low_50", "high_50", "low_80", "high_80")
    rows += [
        {"kind": "estimated band", "r": rank.r, column: rank.median} | {name: getattr(rank, name) for name in ends}
        for rank in band
    ]
    names = ("kind", "r", column, "standard_deviation", "runs", "recovery_steps", "learning_rate", *ends)
    return RankCurveInfo(
        points=points,
        curves=curves,
        band=band,
        ranks=sorted({row["r"] for row in rows}),
        picked=picked,
        picked_as=picked_as,
        metric=metric,
        source=source,
        rows=[{name: "" if row.get(name) is None else row[name] for name in names} for row in rows],
    )


@figure
def rank_curve_figure(info: RankCurveInfo, *, height: int = 320) -> Drawing:
    """Draw runs with the marks of the verdict, fast curves and the band; lines never join runs and truncations."""
    ranks, metric = info.ranks, info.metric
    known = info.band and info.band[0].low_80 is not None
    traces = bands(info.band, BAND if known else MEDIAN)
    for curve in info.curves:
        values, words = [metric.of(point) for point in curve.points], []
        for point, value in zip(curve.points, values, strict=True):
            size, trained = units.file_size(point.adapter_bytes), point is curve.trained
            made = f"trained, {size}" if trained else f"truncated, about {size}"
            recovery = f", {point.recovery_steps} steps after the truncation" if point.recovery_steps else ""
            words.append(f"<b>r = {point.r}</b><br>{metric.text(value)}<br>{made}{recovery}")
        line = scatter(
            [point.r for point in curve.points],
            values,
            mode="lines+markers",
            name="fast curve",
            legendgroup="fast curve",
            showlegend=curve is info.curves[0],
            meta=curve.run_id,
            line={"color": FAST_CURVE, "width": 2, "dash": "dash"},
            marker={"color": FAST_CURVE, "size": 8, "symbol": "x-thin-open", "line": {"width": 2}},
            hovertext=words,
            hoverinfo="text",
            cliponaxis=False,
        )
        traces.append(line)
    # One trace per call, so that each mark has its words in the legend.
    for call, (symbol, words) in {"": ("circle", ""), **MARKS}.items():
        if alike := [point for point in info.points if point.call == call]:
            name = f"measured: {words}" if words else "measured runs"
            traces.append(_markers([point.r for point in alike], alike, name, symbol))
    span = [(log2(ranks[0]) - 0.5) / log2(10), (log2(ranks[-1]) + 0.5) / log2(10)] if ranks else None
    return draw(
        traces,
        height=height,
        uirevision=f"rank-curve|{metric.key}|{list(ranks)}",
        x={"type": "log", "tickvals": ranks, "ticktext": [str(r) for r in ranks], "range": span},
        y={"exponentformat": "none"},  # no fixed number of digits: they would be the same at ticks close together
        x_title="LoRA rank r",
        y_title=metric.title,
        message="" if ranks else "Points appear here as runs finish.",
        shapes=[vertical_line(info.picked, NEUTRAL, f"r = {info.picked}: {info.picked_as}")] if info.picked else [],
        showlegend=True,
    )


class CostAxis(NamedTuple):
    """One kind of cost of a run. value: the cost, None where unknown. text: a cost in words. unit: divisor for short
    tick labels. per_rank: True where the cost grows in proportion to rank, which makes the axis logarithmic."""

    label: str
    title: str
    value: Callable[[RunRecord], float | None]
    text: Callable[[float], str]
    unit: int = 1
    per_rank: bool = False


COST_AXES = {
    "adapter": CostAxis(
        "Adapter file", "adapter file, MB", lambda run: run.adapter_bytes, units.file_size, units.MB, per_rank=True
    ),
    "parameters": CostAxis(
        "Trainable parameters",
        "trainable parameters, millions",
        lambda run: run.trainable_parameters,
        "{:,.0f} parameters".format,
        unit=10**6,
        per_rank=True,
    ),
    "memory": CostAxis(
        "Peak memory",
        "peak memory, GiB",
        lambda run: run.completed.peak_memory_bytes if run.completed else None,
        units.memory_size,
        unit=units.GIB,
    ),
    "time": CostAxis(
        "Training time",
        "training time, seconds",
        lambda run: run.completed.train_seconds if run.completed else None,
        units.duration,
    ),
}


class PointGroup(NamedTuple):
    """Points that may be compared: one sweep with its verdict. front: points that no other point beats in both cost
    and quality."""

    label: str
    points: Sequence[RankPoint]
    front: Sequence[RankPoint]
    verdict: Verdict


class TradeoffInfo(NamedTuple):
    """Content of the trade-off figure. notes: sentences on the origin and the meaning of the points."""

    groups: Sequence[PointGroup]
    cost: CostAxis
    metric: Metric
    notes: Sequence[str] = ()
    rows: Rows = ()


FRONT = "no other rank is cheaper and better"
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon", "hexagon")


def tradeoff_info(judged: Sequence[tuple[Sweep, Verdict]], *, x: str = "adapter") -> TradeoffInfo:
    """Return quality against cost, one group per sweep, since only runs of a sweep have equal base, data, order and
    held-out set.

    Args:
        judged: Sweeps, each with a verdict on those of its runs that are shown; all verdicts in one metric.
        x: A key of COST_AXES.
    """
    if x not in COST_AXES:
        raise InvalidSettingError(f"No such axis: the cost axis is one of {', '.join(COST_AXES)}.")
    cost, metric = COST_AXES[x], judged[0][1].metric if judged else LOSS
    sweeps = [sweep for sweep, _ in judged]
    labels, titles = told_apart(sweeps, sweep_label), told_apart(sweeps, sweep_title)
    column = f"{metric.key}_percent" if metric.higher_is_better else "held_out_loss"
    groups, notes, rows = [], [], []
    for sweep, verdict in judged:
        front, points = [], _points(sweep, verdict, cost)
        for point in sorted(points, key=lambda p: (p.cost, metric.turned(p.value))):
            if not front or metric.turned(point.value) < metric.turned(front[-1].value):
                front.append(point)
        if points:
            groups.append(PointGroup(labels[sweep.sweep_id], points, front, verdict))
            notes.append(_note(titles[sweep.sweep_id], sweep, verdict))
        about = {"sweep": sweep.sweep_id, "recorded": sweep.recorded}
        about |= {"base": base_name(sweep.runs[0].request.base), "data": data_name(sweep.runs[0].request.data)}
        for p in points:
            row = {**about, "r": p.r, cost.label.lower().replace(" ", "_"): p.cost * cost.unit, column: p.value}
            row |= {"standard_deviation": "" if p.spread is None else p.spread, "runs": p.runs}
            rows.append(row | {"learning_rate": p.learning_rate})
    return TradeoffInfo(groups, cost, metric, notes, rows)


def _note(title: str, sweep: Sweep, verdict: Verdict) -> str:
    start = "Recorded by RankViz on a CPU (not your run): " if sweep.recorded else ""
    notes = [f"{start}{title}, {counted(sweep.runs[0].request.max_steps, 'step')}.", headline(verdict)]
    if verdict.noise_width is not None:
        notes.append(
            f"The ring marks r = {verdict.smallest_indistinguishable}. Ranks inside the grey band cannot be "
            f"distinguished from r = {verdict.best} (95 % intervals over runs and examples)."
        )
    return " ".join([*notes, *([rate_note(verdict)] if len(verdict.ranks) > 1 else [])])


@figure
def tradeoff_figure(info: TradeoffInfo, *, height: int = 380) -> Drawing:
    """Draw each group with its own marker shape; lines never join two groups, and the legend names each mark once."""
    traces, shapes, alone = [], [], len(info.groups) == 1
    for group, symbol in zip(info.groups, SYMBOLS * len(info.groups), strict=False):
        if len(group.front) > 1:
            xs, ys = [p.cost for p in group.front], [p.value for p in group.front]
            line = {"color": rgba(MEASURED, 0.45), "width": 1.5, "shape": "hv", "dash": "dot"}
            traces.append(scatter(xs, ys, mode="lines", line=line, name=FRONT, hoverinfo="skip"))
        labels = {"mode": "markers+text", "textposition": "top right", "textfont": {"size": SMALL}}
        labels["text"] = [f"\u2009r = {p.r}" for p in group.points]  # a thin space keeps the label clear of the ring
        name = "measured runs" if alone else group.label
        traces.append(_markers([p.cost for p in group.points], group.points, name, symbol, **labels))
        known, width = {p.r: p for p in group.points}, group.verdict.noise_width
        smallest, best = known.get(group.verdict.smallest_indistinguishable), known.get(group.verdict.best)
        if smallest and width is not None:
            ring = {"color": "rgba(0,0,0,0)", "size": 21, "line": {"color": NEUTRAL, "width": 1.6}}
            traces.append(scatter([smallest.cost], [smallest.value], marker=ring, name=SMALLEST, hoverinfo="skip"))
        if best and width is not None and alone:
            ends = sorted((best.value, best.value + (-width if info.metric.higher_is_better else width)))
            shapes.append(named_band(*ends, "cannot be distinguished from the best"))
    for name in (FRONT, SMALLEST):
        for number, trace in enumerate(trace for trace in traces if trace["name"] == name):
            trace |= {"legendgroup": name, "showlegend": number == 0}
    return draw(
        traces,
        height=height,
        uirevision="|".join((info.cost.title, info.metric.key, *(group.label for group in info.groups))),
        x={"type": "log", **ticks_at(ONE_TWO_FIVE)} if info.cost.per_rank else {"type": "linear"},
        y={},
        x_title=info.cost.title,
        y_title=info.metric.title,
        message="" if info.groups else "No finished runs yet. Train a sweep to see its points here.",
        shapes=shapes,
        showlegend=True,
    )
