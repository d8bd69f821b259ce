"""Quality against cost of measured runs, with the Pareto front and the smallest rank that is good enough."""

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from rankviz import units
from rankviz.core.runs.metric import (
    EXACT_MATCH,
    LOSS,
    TOKEN_ACCURACY,
    Metric,
    RankGroup,
    TradeoffPoint,
    by_rank,
    learning_rate_note,
    measured_metrics,
    pareto_front,
)
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.words import base_name, data_name, sweep_label, sweep_title, told_apart
from rankviz.errors import InvalidSettingError
from rankviz.figures.style import (
    MEASURED,
    NEUTRAL,
    ONE_TWO_FIVE,
    SMALL,
    Drawing,
    Rows,
    bars,
    draw,
    figure,
    named_band,
    rgba,
    scatter,
    ticks_at,
)
from rankviz.units import counted
from rankviz.verdict import Verdict, headline, judge, losses_of


class CostAxis(NamedTuple):
    """One kind of cost of a run. value: the cost, None where unknown. text: a cost in words. unit: divisor for short
    tick labels. per_rank: True where the cost grows in proportion to rank, which makes the axis logarithmic."""

    label: str
    title: str
    value: Callable[[RunRecord], float | None]
    text: Callable[[float], str]
    unit: int = 1
    per_rank: bool = False


def _seconds(run: RunRecord) -> float | None:
    return run.completed.train_seconds if run.completed else None


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
    "time": CostAxis("Training time", "training time, seconds", _seconds, units.duration),
    "money": CostAxis("Money", "cost, US dollars", _seconds, units.usd),
}
"""Cost axes by key. The value of "money" is in seconds: multiply it by the price per second."""


class QualityAxis(NamedTuple):
    """One quality of a run. metric: the metric of its verdict. sign: -1 where higher is better, since core code
    assumes that lower is better."""

    label: str
    title: str
    value: Callable[[RunRecord], float | None]
    column: str
    metric: Metric = LOSS
    sign: int = 1


def _of_metric(metric: Metric, column: str) -> QualityAxis:
    sign = -1 if metric.higher_is_better else 1
    return QualityAxis(metric.label, metric.title, lambda run: metric.of(run.loss_after), column, metric, sign)


GAIN_TITLE = "gain over the base, nats per token (higher is better)"
QUALITY_AXES = {
    "loss": _of_metric(LOSS, "held_out_loss"),
    "gain": QualityAxis("Gain over the base", GAIN_TITLE, lambda run: run.gain, "gain", sign=-1),
    "token_accuracy": _of_metric(TOKEN_ACCURACY, "token_accuracy_percent"),
    "exact_match": _of_metric(EXACT_MATCH, "exact_match_percent"),
}


class PlottedPoint(NamedTuple):
    """One rank of one sweep. low, high: mean minus and plus one standard deviation over seeds, None for a single run.
    detail: more words for the hover. call: the verdict on the rank, in figures that mark it."""

    run_id: str
    r: int
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    x_text: str = ""
    y_text: str = ""
    detail: str = ""
    call: str = ""


def plotted(rank: RankGroup, metric: Metric, *, sign: int, x: float, x_text: str = "", call: str = "") -> PlottedPoint:
    """Return the runs of one rank as one point. sign: -1 where higher is better. call: the verdict on the rank."""
    value, spread = sign * rank.loss, rank.spread
    low, high = (None, None) if spread is None else (value - spread, value + spread)
    repeats = f"{rank.runs} seeds, bar is one standard deviation" if spread is not None else "one run"
    detail = f"learning rate {rank.learning_rate:g}, {repeats}"
    return PlottedPoint(rank.points[0].run_id, rank.r, x, value, low, high, x_text, metric.text(value), detail, call)


def points_of(
    runs: Sequence[RunRecord],
    cost: Callable[[RunRecord], float | None],
    quality: Callable[[RunRecord], float | None],
    *,
    sign: int,
    price: float = 1.0,
) -> Sequence[TradeoffPoint]:
    """Return a point for each run with a known cost and quality. price: US dollars per unit of cost, or 1."""
    points = []
    for run in runs:
        spent, value, request = cost(run), quality(run), run.request
        if spent is not None and value is not None:
            points.append(
                TradeoffPoint(request.r, spent * price, sign * value, request.learning_rate, request.seed, run.run_id)
            )
    return points


class PointGroup(NamedTuple):
    """Points that may be compared: one sweep, with one base model and one data set. front: indices of the points that
    no other point beats in both cost and quality. smallest_good: index of the smallest rank that cannot be
    distinguished from the best. noise: range of quality that cannot be distinguished from the best."""

    label: str
    points: Sequence[PlottedPoint]
    front: Sequence[int] = ()
    smallest_good: int | None = None
    noise: tuple[float, float] | None = None


class TradeoffInfo(NamedTuple):
    """Content of the trade-off figure. notes: sentences on the origin and the meaning of the points."""

    groups: Sequence[PointGroup]
    x_title: str
    y_title: str
    log_x: bool = True
    empty: str = "No finished runs yet. Train a sweep to see its points here."
    notes: Sequence[str] = ()
    rows: Rows = ()


NONE_KNOWN: Mapping[str, Verdict] = MappingProxyType({})
FRONT, SMALLEST = "no other rank is cheaper and better", "smallest rank to consider"
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon", "hexagon")


def tradeoff_info(
    sweeps: Sequence[Sweep],
    *,
    x: str = "adapter",
    y: str = "loss",
    run_ids: Collection[str] | None = None,
    usd_per_hour: float | None = None,
    tolerance: float | None = None,
    verdicts: Mapping[str, Verdict] = NONE_KNOWN,
) -> TradeoffInfo:
    """Return finished runs, one group per sweep, since only runs of a sweep have equal base, data, order and held-out
    set.

    Args:
        sweeps: Sweeps; those without finished runs are left out.
        x, y: A key of COST_AXES, a key of QUALITY_AXES.
        run_ids: Only these runs; None means all.
        usd_per_hour: Price of the machine, for x = "money".
        tolerance: Largest difference, in nats or points, that does not matter in practice; None for the default.
        verdicts: Known verdicts within this tolerance on all runs of a sweep, by sweep id.
    """
    if x not in COST_AXES or y not in QUALITY_AXES:
        raise InvalidSettingError(
            f"No such axis: the cost axis is one of {', '.join(COST_AXES)}, the quality axis {', '.join(QUALITY_AXES)}."
        )
    cost, quality = COST_AXES[x], QUALITY_AXES[y]
    titles = {"x_title": cost.title, "y_title": quality.title}
    if x == "money" and not usd_per_hour:
        notes = ["The price per hour of these runs is not known."]
        return TradeoffInfo([], **titles, empty="Enter a price per hour.", notes=notes)
    price = usd_per_hour / 3600 if x == "money" else 1.0
    groups, notes, rows, empty = [], [], [], {}
    all_runs = [run for sweep in sweeps for run in sweep.runs if run.loss_after]
    if all_runs and quality.metric not in measured_metrics(all_runs):
        empty = {"empty": f"None of these runs measured {quality.metric.noun}."}
    labels, titles_of = told_apart(sweeps, sweep_label), told_apart(sweeps, sweep_title)
    for sweep in sweeps:
        runs = [run for run in sweep.runs if run_ids is None or run.run_id in run_ids]
        if (verdict := verdicts.get(sweep.sweep_id)) is None:
            losses = losses_of(runs, quality.metric)
            if all(run.diverged for run in losses):
                continue
            verdict = judge(losses, tolerance=tolerance, metric=quality.metric)
        points = points_of(runs, cost.value, quality.value, sign=quality.sign, price=price)
        if ranks := by_rank(points, verdict.rates):
            groups.append(_group(labels[sweep.sweep_id], ranks, verdict, cost, quality))
            notes.append(_note(titles_of[sweep.sweep_id], sweep, ranks, verdict))
            rows += [_row(sweep, rank, cost, quality) for rank in ranks]
    if x == "money":
        notes.append(f"Price: {units.usd(usd_per_hour)} per hour.")
    return TradeoffInfo(groups, **titles, log_x=cost.per_rank, notes=notes, rows=rows, **empty)


def _group(
    label: str, ranks: Sequence[RankGroup], verdict: Verdict, cost: CostAxis, quality: QualityAxis
) -> PointGroup:
    """Return a sweep's ranks as a group, with the findings of its verdict."""
    points = [
        plotted(rank, quality.metric, sign=quality.sign, x=rank.cost / cost.unit, x_text=cost.text(rank.cost))
        for rank in ranks
    ]
    front, width, noise = {rank.r for rank in pareto_front(ranks)}, verdict.noise_width, None
    best = next((point.y for point in points if point.r == verdict.best), None)
    if width is not None and best is not None:
        noise = (best, best + width) if quality.sign > 0 else (best - width, best)
    smallest = [i for i, point in enumerate(points) if point.r == verdict.smallest_indistinguishable]
    return PointGroup(
        label=label,
        points=points,
        front=[i for i, point in enumerate(points) if point.r in front],
        smallest_good=smallest[0] if smallest and width is not None else None,
        noise=noise,
    )


def _note(title: str, sweep: Sweep, ranks: Sequence[RankGroup], verdict: Verdict) -> str:
    start = "Recorded by RankViz on a CPU (not your run): " if sweep.recorded else ""
    setting = f"{start}{title}, {counted(sweep.runs[0].request.max_steps, 'step')}."
    if len(ranks) < 2:
        return f"{setting} Only r = {ranks[0].r} is shown, so no ranks are compared."
    notes = [setting, headline(verdict)]
    if verdict.noise_width is not None:
        notes.append(
            f"The ring marks r = {verdict.smallest_indistinguishable}. Ranks inside the grey band cannot be "
            f"distinguished from r = {verdict.best} (95 % intervals over runs and examples)."
        )
    lowest = min(ranks, key=lambda rank: rank.loss)
    if lowest.r != verdict.best:
        notes.append(
            f"The figure averages over tokens, and r = {lowest.r} is best there. The verdict averages over examples."
        )
    return " ".join([*notes, learning_rate_note(ranks)])


def _row(sweep: Sweep, rank: RankGroup, cost: CostAxis, quality: QualityAxis) -> dict[str, object]:
    return {
        "sweep": sweep.sweep_id,
        "recorded": sweep.recorded,
        "base": base_name(sweep.runs[0].request.base),
        "data": data_name(sweep.runs[0].request.data),
        "r": rank.r,
        cost.label.lower().replace(" ", "_"): rank.cost,
        quality.column: quality.sign * rank.loss,
        "standard_deviation": rank.spread if rank.spread is not None else "",
        "runs": rank.runs,
        "learning_rate": rank.learning_rate,
        "learning_rates_tried": rank.learning_rates_tried,
    }


@figure
def tradeoff_figure(info: TradeoffInfo, *, height: int = 380) -> Drawing:
    """Draw each group with its own marker shape; lines never join two groups, and the legend names each mark once."""
    groups = [group for group in info.groups if group.points]
    traces, shapes, named = [], [], set()
    for group, symbol in zip(groups, SYMBOLS * len(groups), strict=False):
        traces += [*_front(group), _markers(group, symbol, alone=len(groups) == 1), *_ring(group)]
        if group.noise and len(groups) == 1:
            shapes.append(named_band(*group.noise, "cannot be distinguished from the best"))
    for trace in traces:
        if (name := trace.get("legendgroup")) in named:
            trace["showlegend"] = False
        named |= {name} if name else set()
    return draw(
        traces,
        height=height,
        uirevision=f"{info.x_title}|{info.y_title}|{'|'.join(group.label for group in groups)}",
        x={"type": "log", **ticks_at(ONE_TWO_FIVE)} if info.log_x else {"type": "linear"},
        y={},
        x_title=info.x_title,
        y_title=info.y_title,
        message="" if groups else info.empty,
        shapes=shapes,
        showlegend=True,
    )


def _front(group: PointGroup) -> list[dict[str, Any]]:
    front = sorted((group.points[i] for i in group.front), key=lambda p: p.x)
    line = {"color": rgba(MEASURED, 0.45), "width": 1.5, "shape": "hv", "dash": "dot"}
    name = {"name": FRONT, "legendgroup": FRONT, "hoverinfo": "skip"}
    trace = scatter([p.x for p in front], [p.y for p in front], mode="lines", line=line, **name)
    return [trace] if len(front) > 1 else []


def _markers(group: PointGroup, symbol: str, *, alone: bool) -> dict[str, Any]:
    return measured_markers(
        group.points,
        name="measured runs" if alone else group.label,
        symbol=symbol,
        mode="markers+text",
        text=[f"\u2009r = {p.r}" for p in group.points],  # a thin space keeps the label clear of the ring
        textposition="top right",
        textfont={"size": SMALL},
    )


def measured_markers(
    points: Sequence[PlottedPoint], *, name: str, symbol: str, edge: str = "white", **more: Any
) -> dict[str, Any]:
    """Return filled markers of runs with error bars; a click on a marker reports its run."""
    ys = [p.y for p in points]
    words = [filter(None, (f"<b>r = {p.r}</b>", p.y_text, p.x_text, p.detail)) for p in points]
    return scatter(
        [p.x for p in points],
        ys,
        name=name,
        customdata=[p.run_id for p in points],
        marker={"color": MEASURED, "size": 11, "symbol": symbol, "line": {"color": edge, "width": 1}},
        error_y=bars(ys, [(p.low, p.high) for p in points], MEASURED),
        hovertext=["<br>".join(each) for each in words],
        hoverinfo="text",
        cliponaxis=False,
        **more,
    )


def _ring(group: PointGroup) -> list[dict[str, Any]]:
    if group.smallest_good is None:
        return []
    point = group.points[group.smallest_good]
    ring = {"color": "rgba(0,0,0,0)", "size": 21, "line": {"color": NEUTRAL, "width": 1.6}}
    return [scatter([point.x], [point.y], marker=ring, hoverinfo="skip", name=SMALLEST, legendgroup=SMALLEST)]
