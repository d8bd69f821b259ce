"""Figures of sweeps: quality by rank or cost, with the verdict's marks, fast curves, a forecast and a Pareto front, and
the training loss by step, one line per run.

A rank's value is its verdict's: the mean over the runs at the learning rate that the verdict compares.
"""

from collections.abc import Collection, Sequence
from math import isfinite, log2, log10
from statistics import fmean, stdev
from typing import Any, NamedTuple

from rankviz import units
from rankviz.core.forecast.quick_look import BentForecast, BentRank
from rankviz.core.runs.fast_curve import FastCurve, fast_curves, pick
from rankviz.core.runs.metric import LOSS, Metric
from rankviz.core.runs.record import Sweep, data_name, made_of, run_labels, sweep_title, told_apart
from rankviz.core.runs.run_time import FEW, thinned
from rankviz.errors import InvalidSettingError
from rankviz.figures import style
from rankviz.figures.style import CostAxis, Point
from rankviz.units import counted
from rankviz.verdict import CANT_TELL, DIFFERENT, EQUAL, Verdict, headline, rate_note
from rankviz.verdict.losses import OVER_EXAMPLES, is_over_examples

RANK = "rank"
COST_AXES = {
    "adapter": CostAxis(
        "adapter file, MB",
        lambda run: run.adapter_bytes,
        style.ONE_TWO_FIVE,
        label="Adapter file",
        text=units.file_size,
        unit=units.MB,
    ),
    RANK: CostAxis("LoRA rank r", lambda run: run.request.r, style.ONE_TWO_FIVE, label="Rank", text=lambda r: ""),
    "parameters": CostAxis(
        "trainable parameters, millions",
        lambda run: run.trainable_parameters,
        style.ONE_TWO_FIVE,
        label="Trainable parameters",
        text="{:,.0f} parameters".format,
        unit=10**6,
    ),
    "memory": CostAxis(
        "peak memory, GiB",
        lambda run: run.completed.peak_memory_bytes if run.completed else None,
        label="Peak memory",
        text=units.memory_size,
        unit=units.GIB,
    ),
    "time": CostAxis(
        "training time, seconds",
        lambda run: run.completed.train_seconds if run.completed else None,
        label="Training time",
        text=units.duration,
    ),
}


class PointGroup(NamedTuple):
    """Points of one sweep, which may be compared. A point is the mean of a rank's runs, with their standard deviation
    as error. front: points that no other point beats in both cost and quality. smallest: the smallest rank that cannot
    be distinguished from the best; None where no ranks are compared."""

    label: str
    points: Sequence[Point]
    front: Sequence[Point]
    smallest: Point | None


class SweepInfo(NamedTuple):
    """Content of the figure of sweeps. picked: the rank to mark, where the figure shows one sweep by rank. picked_as:
    the reason, in a few words. source: sentences on the origin and the meaning of the points."""

    groups: Sequence[PointGroup] = ()
    axis: CostAxis = COST_AXES[RANK]
    metric: Metric = LOSS
    curves: Sequence[FastCurve] = ()
    band: Sequence[BentRank] = ()
    picked: int | None = None
    picked_as: str = ""
    source: str = ""
    rows: style.Rows = ()


BEST = "best"
MARKS = {
    BEST: ("diamond", "best rank", "best"),
    DIFFERENT: ("circle", "worse than the best", "worse"),
    EQUAL: ("square", "equal within the tolerance", "equal"),
    CANT_TELL: ("circle-open", "cannot be distinguished from the best", "can't tell"),
}
"""Symbol of a marker and its words in the legend, whole and short, by the verdict on its rank."""
WHAT_A_FAST_CURVE_IS = (
    "The dashed curve is one adapter, trained at the highest rank and truncated to each lower one: how much rank the "
    "learned update needs, not what a run at a lower rank would learn."
)
WHAT_THE_BAND_IS = (
    "The band forecasts runs at the ranks between the measured ones; nothing below the lowest run or above the highest."
)
BAND, MEDIAN = "estimated", "estimated, noise not known"
TO_TRAIN, SO_FAR = "train next", "good so far"
ENOUGH, SMALLEST = "enough for this adapter", "smallest rank to consider"
FRONT = "no other rank is cheaper and better"
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon", "hexagon")


def sweep_info(
    judged: Sequence[tuple[Sweep, Verdict | None]],
    *,
    x: str = RANK,
    metric: Metric = LOSS,
    forecast: BentForecast | None = None,
    picked: int | None = None,
) -> SweepInfo:
    """Return quality by rank or by cost, one group per sweep, since only runs of a sweep have equal base, data, order
    and held-out set. One sweep by rank, in any state, also has its fast curves.

    Args:
        judged: Sweeps, each with a verdict on those of its runs that are shown; without a verdict no run is drawn.
        x: A key of COST_AXES.
        metric: Metric of all verdicts; points of a fast curve without it are left out.
        forecast: Forecast of the loss between one sweep's runs.
        picked: The rank to mark in one sweep; by default the one that the fast curve or the verdict recommends.
    """
    if x not in COST_AXES:
        raise InvalidSettingError(f"No such axis: the cost axis is one of {', '.join(COST_AXES)}.")
    axis, by_rank, sweeps = COST_AXES[x], x == RANK and len(judged) == 1, [sweep for sweep, _ in judged]
    labels = told_apart(sweeps, lambda sweep: sweep_title(sweep) + (" (recorded)" if sweep.recorded else ""))
    titles = told_apart(sweeps, sweep_title)
    groups, source, rows, curves = [], [], [], []
    value = f"{metric.key}_percent" if metric.higher_is_better else metric.key
    for sweep, verdict in judged:
        points = _points(sweep, verdict, axis) if verdict else []
        if points:
            front, turned = [], verdict.metric.turned
            for point in sorted(points, key=lambda p: (p.x, turned(p.y))):
                if not front or turned(point.y) < turned(front[-1].y):
                    front.append(point)
            is_known = sweep.ended and verdict.noise_width is not None
            least = verdict.smallest_indistinguishable if is_known else None
            smallest = next((point for point in points if point.r == least), None)
            groups.append(PointGroup(labels[sweep.sweep_id], points, front, smallest))
        if points or by_rank:
            made, steps = "Recorded" if sweep.recorded else "Measured", sweep.runs[0].request.max_steps
            about = f"{titles[sweep.sweep_id]}, {counted(steps, 'step')}"
            source.append(f"{made} by RankViz, sweep {sweep.sweep_id}: {about}.")
            source += filter(None, [headline(verdict), rate_note(verdict)] if verdict and sweep.ended else [])
        for p in points:
            rank = verdict.rank(p.r)
            row = {"kind": "independent runs", "r": p.r, value: p.y, "standard_deviation": p.error, "runs": rank.seeds}
            row |= {"learning_rate": rank.learning_rate, "sweep": sweep.sweep_id}
            rows.append(row if x == RANK else row | {axis.label.lower().replace(" ", "_"): p.x * axis.unit})
    if by_rank:
        ((sweep, verdict),) = judged
        for curve in fast_curves(sweep.runs):
            if measured := tuple(point for point in curve.points if metric.of(point) is not None):
                curves.append(curve._replace(points=measured))
    trained = {row["r"] for row in rows}
    picked_as = (SO_FAR if picked in trained else TO_TRAIN) if picked else ENOUGH if curves else SMALLEST
    if curves and not picked and sweep.ended:
        picked = pick(curves[0], verdict.within if verdict else metric.tolerance, metric).r
    elif by_rank and not picked and groups and groups[0].smallest:
        picked = groups[0].smallest.r
    for curve in curves:
        kind = {"kind": f"truncated from {curve.run_id}", "runs": 1}
        rows += [kind | {"r": p.r, value: metric.of(p), "recovery_steps": p.recovery_steps} for p in curve.points]
    band, ends = forecast.ranks if forecast else (), ("low_50", "high_50", "low_80", "high_80")
    rows += [
        {"kind": "estimated band", "r": rank.r, value: rank.median} | {name: getattr(rank, name) for name in ends}
        for rank in band
    ]
    source += [WHAT_A_FAST_CURVE_IS] * bool(curves) + [WHAT_THE_BAND_IS] * bool(band)
    return SweepInfo(
        groups=groups,
        axis=axis,
        metric=metric,
        curves=curves,
        band=band,
        picked=picked,
        picked_as=picked_as,
        source=" ".join(source),
        rows=rows,
    )


def _points(sweep: Sweep, verdict: Verdict, axis: CostAxis) -> list[Point]:
    """Return the ranks of a verdict with a known cost."""
    points, compares = [], sweep.ended and not verdict.unknown and len(verdict.ranks) > 1
    for rank in verdict.ranks:
        runs = [run for run in sweep.runs if run.request.r == rank.r and str(run.request.seed) in rank.run_losses]
        runs = [run for run in runs if run.request.learning_rate == rank.learning_rate]
        costs = [cost for run in runs if (cost := axis.value(run)) is not None]
        if not costs:
            continue
        repeats = f"{rank.seeds} seeds, bar is one standard deviation" if rank.seeds > 1 else "one run"
        value, rate = verdict.read(rank.loss), f"learning rate {rank.learning_rate:g}, {repeats}"
        over = f" ({OVER_EXAMPLES})" if is_over_examples(sweep.runs, verdict.metric) else ""
        words = f"<b>r = {rank.r}</b>", verdict.metric.text(value) + over, axis.text(fmean(costs)), rate
        point = Point(
            rank.r,
            fmean(costs) / axis.unit,
            value,
            "<br>".join(filter(None, words)),
            error=stdev(rank.run_losses.values()) if rank.seeds > 1 else None,
            run_id=runs[0].run_id,
            call="" if not compares else BEST if rank.r == verdict.best else rank.call,
        )
        points.append(point)
    return points


def sweep_figure(info: SweepInfo, *, height: int = 320) -> style.Drawing:
    """Draw the band, fast curves and runs. One sweep has the marks of its verdict, several have a shape each; lines
    never join two sweeps, or runs and truncations."""
    axis, metric, alone, by_rank = info.axis, info.metric, len(info.groups) == 1, info.axis is COST_AXES[RANK]
    traces = style.bands(info.band, BAND if info.band and info.band[0].low_80 is not None else MEDIAN)
    traces += [_curve(curve, metric) for curve in info.curves]
    for group, shape in zip(info.groups, SYMBOLS * len(info.groups), strict=False):
        if not by_rank and len(group.front) > 1:
            line = {"color": style.rgba(style.MEASURED, 0.45), "width": 1.5, "shape": "hv", "dash": "dot"}
            xs, ys = [p.x for p in group.front], [p.y for p in group.front]
            traces.append(style.scatter(xs, ys, mode="lines", line=line, name=FRONT, hoverinfo="skip"))
        for call, (symbol, words, short) in (
            {"": ("circle", "", ""), **MARKS}.items() if alone else [("", (shape, "", ""))]
        ):
            # One trace per call, so that each mark has its words in the legend.
            if alike := [point for point in group.points if not alone or point.call == call]:
                name = f"measured: {words}" if words else "measured runs" if alone else group.label
                traces.append(_markers(alike, name, symbol) | {"meta": {"short": short or name}})
        if group.smallest and not info.picked:
            ring = {"color": "rgba(0,0,0,0)", "size": 21, "line": {"color": style.NEUTRAL, "width": 1.6}}
            place = [group.smallest.x], [group.smallest.y]
            traces.append(style.scatter(*place, marker=ring, name=SMALLEST, hoverinfo="skip"))
    for name in (FRONT, SMALLEST, "fast curve"):  # once in the legend
        for number, trace in enumerate(trace for trace in traces if trace["name"] == name):
            trace |= {"legendgroup": name, "showlegend": number == 0}
    ranks = sorted({row["r"] for row in info.rows})
    ticks = style.ticks_at([(r, str(r)) for r in ranks] if by_rank else style.ONE_TWO_FIVE)
    span = {"range": [log10(ranks[0]) - 0.15, log10(ranks[-1]) + 0.15]} if ranks and by_rank else {}
    marked = f"r = {info.picked}: {info.picked_as}"
    return style.draw(
        traces,
        height=height,
        uirevision="|".join((axis.title, metric.key, str(ranks), *(group.label for group in info.groups))),
        x={"type": "log", **ticks, **span} if axis.ticks else {"type": "linear"},
        y={"exponentformat": "none"},  # no fixed number of digits: they would be the same at ticks close together
        x_title=axis.title,
        y_title=metric.title,
        message="" if traces else "Points appear here as runs finish.",
        rows=info.rows,
        source=info.source,
        shapes=[style.vertical_line(info.picked, style.NEUTRAL, marked)] if info.picked else [],
        showlegend=True,
        ranks=None if by_rank else [(point.x, point.r) for group in info.groups for point in group.points],
    )


def _markers(points: Sequence[Point], name: str, symbol: str) -> dict[str, Any]:
    """Return filled markers with error bars; a click on a marker reports its run."""
    edge = style.MEASURED if symbol.endswith("open") else "white"
    return style.scatter(
        [point.x for point in points],
        [point.y for point in points],
        name=name,
        customdata=[point.run_id for point in points],
        marker={"color": style.MEASURED, "size": 11, "symbol": symbol, "line": {"color": edge, "width": 1}},
        error_y=style.bars([point.error for point in points], style.MEASURED),
        hovertext=[point.text for point in points],
        hoverinfo="text",
        cliponaxis=False,
    )


def _curve(curve: FastCurve, metric: Metric) -> dict[str, Any]:
    values, words = [metric.of(point) for point in curve.points], []
    for point, value in zip(curve.points, values, strict=True):
        size = units.file_size(point.adapter_bytes)
        made = f"trained, {size}" if point is curve.trained else f"truncated, about {size}"
        recovery = f", {point.recovery_steps} steps after the truncation" if point.recovery_steps else ""
        words.append(f"<b>r = {point.r}</b><br>{metric.text(value)}<br>{made}{recovery}")
    return style.scatter(
        [point.r for point in curve.points],
        values,
        mode="lines+markers",
        name="fast curve",
        meta=curve.run_id,
        line={"color": style.FAST_CURVE, "width": 2, "dash": "dash"},
        marker={"color": style.FAST_CURVE, "size": 8, "symbol": "x-thin-open", "line": {"width": 2}},
        hovertext=words,
        hoverinfo="text",
        cliponaxis=False,
    )


MOST_POINTS = 1000
"""Maximum number of points of one curve; a figure has fewer pixels."""
ALL_POINTS = 8_000
"""Maximum number of points of all curves together, but each curve keeps at least FEW."""
MOST_NAMED = 8
"""Maximum number of curves with an entry each in the legend; more curves have one entry per rank."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def training_figure(
    sweeps: Sequence[Sweep], *, run_ids: Collection[str] | None = None, height: int = 320
) -> style.Drawing:
    """Draw training loss by step of every run of sweeps in any state, in the colour of measurements, and a marker for
    its held-out loss after the last step. A higher rank has a stronger and wider line. The dash tells the runs of one
    rank apart, or with many runs the ranks. run_ids: only these runs; None means all."""
    runs = [(run, sweep) for sweep in sweeps for run in sweep.runs if run_ids is None or run.run_id in run_ids]
    each = min(MOST_POINTS, max(FEW, ALL_POINTS // max(1, len(runs))))
    labels = {run_id: label for sweep in sweeps for run_id, label in run_labels(sweep).items()}
    if len(sweeps) > 1:
        names = told_apart(sweeps, lambda sweep: data_name(sweep.runs[0].request.data), made_of, sweep_title)
        labels = {run.run_id: f"{names[sweep.sweep_id]}: {labels[run.run_id]}" for run, sweep in runs}
    begun = [run for run, _ in runs if run.steps]
    peers = {r: [run.run_id for run in begun if run.request.r == r] for r in sorted({run.request.r for run in begun})}
    max_steps = max((run.request.max_steps for run, _ in runs), default=1)
    ranks, by_rank, lines, rows, ended = list(peers), len(begun) > MOST_NAMED, [], [], []
    for run in begun:
        r, label, steps = run.request.r, labels[run.run_id], thinned(run.steps, each)
        place, of_rank = ranks.index(r), peers[r]
        dash = place if by_rank or len(ranks) == len(begun) else of_rank.index(run.run_id)
        strength = 1.0 if len(ranks) == 1 else 0.55 + 0.45 * place / (len(ranks) - 1)
        named = {"name": f"r = {r}", "legendgroup": str(r), "showlegend": run.run_id == of_rank[0]}
        look = {"color": style.rgba(style.MEASURED, strength), "width": 1.4 + 0.25 * min(6, log2(r))}
        line = style.scatter(
            [x.step for x in steps],
            [x.loss for x in steps],
            mode="lines",
            meta=run.run_id,
            line=look | {"dash": DASHES[dash % len(DASHES)]},
            hovertemplate=f"{label}<br>step %{{x}}: %{{y:.4f}}<extra></extra>",
            **(named if by_rank else {"name": label}),
        )
        lines.append(line)
        rows += [
            {"run": run.run_id, "r": r, "step": x.step, "loss": x.loss, "learning_rate": x.learning_rate} for x in steps
        ]
        if run.loss_after and isfinite(run.loss_after.loss):
            ended.append((run.run_id, label, steps[-1].step + max_steps * 0.04, run.loss_after.loss))
    if ended:
        held_out = style.scatter(
            [x for _, _, x, _ in ended],
            [loss for *_, loss in ended],
            marker={"color": style.MEASURED, "size": 9, "symbol": "diamond"},
            name="held-out loss",
            customdata=[run_id for run_id, *_ in ended],
            hovertext=[f"{label}<br>held-out {loss:.4f}" for _, label, _, loss in ended],
            hoverinfo="text",
        )
        lines.append(held_out)
    left_out = any(len(run.steps) > each for run in begun)
    part = f" At most {each} steps of each run are shown: the lowest and the highest of its parts." * left_out
    over = runs and all(run.state.ended for run, _ in runs)
    return style.draw(
        lines,
        height=height,
        uirevision="loss|" + "|".join(run.run_id for run, _ in runs),
        x={"range": [0, max_steps * 1.08 + 1]},
        y={},
        x_title="step",
        y_title="loss, nats per token (lower is better)",
        message="" if begun else "No step was logged." if over else "The loss appears with the first step.",
        rows=rows,
        source=f"Measured: {'; '.join(map(sweep_title, sweeps))}.{part}" if runs else "",
        showlegend=True,
    )
