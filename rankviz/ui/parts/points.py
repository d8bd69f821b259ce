"""Runs as points of the trade-off chart: which costs and qualities there are to choose, and what the chart says."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rankviz import units
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.tradeoff import RankGroup, TradeoffPoint, by_rank, learning_rate_note, pareto_front
from rankviz.figures import PlottedPoint, PointGroup, tradeoff_figure
from rankviz.ui.parts import live
from rankviz.ui.parts.charts import chart_value
from rankviz.verdict import Verdict, headline, judge, losses_of


class Axis(NamedTuple):
    """A cost to plot against. unit: what one step of the axis is, so that its ticks are short numbers."""

    label: str
    title: str
    value: Callable[[RunRecord], float | None]
    text: Callable[[float], str]
    unit: int = 1
    per_rank: bool = False
    """Grows in proportion to rank: drawn by its logarithm, and a rank that was not run has its place too."""


def _peak(run: RunRecord) -> float | None:
    return run.completed.peak_memory_bytes if run.completed else None


def _seconds(run: RunRecord) -> float | None:
    return run.completed.train_seconds if run.completed else None


X_AXES = {
    "adapter": Axis(
        "Adapter file",
        "adapter file, MB",
        lambda run: run.adapter_bytes,
        units.file_size,
        unit=units.MB,
        per_rank=True,
    ),
    "parameters": Axis(
        "Trainable parameters",
        "trainable parameters, millions",
        lambda run: run.trainable_parameters,
        lambda n: f"{n:,.0f} parameters",
        unit=10**6,
        per_rank=True,
    ),
    "memory": Axis("Peak memory", "peak memory, GiB", _peak, units.memory_size, unit=units.GIB),
    "time": Axis("Training time", "training time, seconds", _seconds, units.duration),
    "money": Axis("Money", "cost, US dollars", _seconds, units.usd),
}
X_CHOICES = [(axis.label, name) for name, axis in X_AXES.items()]
Y_CHOICES = [("Held-out loss", "loss"), ("Gain over the base", "gain")]
Y_TITLES = {
    "loss": "held-out loss, nats a token (lower is better)",
    "gain": "gain over the base, nats a token (higher is better)",
}


class Drawn(NamedTuple):
    chart: str
    caption: str
    """Plain text; it names files, so whoever shows it escapes it."""


def tradeoff_chart(
    sweeps: Sequence[Sweep],
    *,
    x: str,
    y: str,
    shown: Sequence[str] | None = None,
    chosen_r: int | None = None,
    usd_per_hour: float | None = None,
    height: int = 380,
) -> Drawn:
    """Finished runs of the sweeps, or those of them that are named: a group a sweep, since only within a sweep are
    base, data, order and held-out set the same."""
    axis = X_AXES[x]
    price = (usd_per_hour or 0) / 3600 if x == "money" else 1.0
    if x == "money" and not usd_per_hour:
        figure = tradeoff_figure(
            [], x_title=axis.title, y_title=Y_TITLES[y], height=height, empty="Give a price an hour."
        )
        return Drawn(chart_value(figure, [], file="tradeoff"), "No price an hour is known for these runs.")
    groups, notes, rows = [], [], []
    for sweep in sweeps:
        runs = [run for run in sweep.runs if shown is None or run.run_id in shown]
        losses = losses_of(runs)
        if all(run.diverged for run in losses):
            continue
        said = judge(losses)
        ranks = by_rank(_points(runs, axis, y, price), said.rates)
        if not ranks:
            continue
        front = {group.r for group in pareto_front(ranks)}
        groups.append(
            PointGroup(
                label=sweep_label(sweep),
                points=[_plotted(group, axis, y, runs) for group in ranks],
                front=[i for i, group in enumerate(ranks) if group.r in front],
                smallest_good=_ringed(ranks, said),
                noise=_noise(ranks, said, y),
            )
        )
        notes.append(_note(sweep, ranks, said))
        rows += [_csv_row(sweep, group, x, y) for group in ranks]
    figure = tradeoff_figure(
        groups,
        x_title=axis.title,
        y_title=Y_TITLES[y],
        chosen_r=chosen_r,
        chosen_x=_chosen_x(groups, chosen_r, axis),
        log_x=axis.per_rank,
        height=height,
    )
    if x == "money":
        notes.append(f"Money at {units.usd(usd_per_hour)} an hour.")
    return Drawn(chart_value(figure, rows, file="tradeoff", source=" ".join(notes)), " ".join(notes))


def sweep_label(sweep: Sweep) -> str:
    return live.title(sweep) + (" (recorded)" if sweep.recorded else "")


def _points(runs: Sequence[RunRecord], axis: Axis, y: str, price: float) -> list[TradeoffPoint]:
    """A gain is turned round, since the core's rule is that lower is better."""
    return [
        TradeoffPoint(
            r=run.request.r,
            cost=cost * price,
            loss=run.loss_after.loss if y == "loss" else -run.gain,
            learning_rate=run.request.learning_rate,
            seed=run.request.seed,
            run_id=run.run_id,
        )
        for run in runs
        if (cost := axis.value(run)) is not None and run.loss_after and (y == "loss" or run.gain is not None)
    ]


def _plotted(group: RankGroup, axis: Axis, y: str, runs: Sequence[RunRecord]) -> PlottedPoint:
    sign = 1 if y == "loss" else -1
    value = sign * group.loss
    repeats = f"{group.runs} seeds, bar is one standard deviation" if group.spread is not None else "one run"
    return PlottedPoint(
        run_id=group.points[0].run_id,
        r=group.r,
        x=group.cost / axis.unit,
        y=value,
        low=value - group.spread if group.spread is not None else None,
        high=value + group.spread if group.spread is not None else None,
        x_text=axis.text(group.cost),
        detail=f"learning rate {group.learning_rate:g}, {repeats}",
    )


def _ringed(ranks: Sequence[RankGroup], said: Verdict) -> int | None:
    """The smallest rank that can't be told from the best; none where nothing can be told."""
    if said.noise_width is None:
        return None
    return next((i for i, group in enumerate(ranks) if group.r == said.smallest_indistinguishable), None)


def _noise(ranks: Sequence[RankGroup], said: Verdict, y: str) -> tuple[float, float] | None:
    """From the best to what can't be told from it; none where nothing can be told."""
    best = next((group for group in ranks if group.r == said.best), None)
    if said.noise_width is None or best is None:
        return None
    ends = best.loss, best.loss + said.noise_width
    return ends if y == "loss" else (-ends[1], -ends[0])


def _chosen_x(groups: Sequence[PointGroup], r: int | None, axis: Axis) -> float | None:
    """Where the chosen rank lies: at its point, or in proportion where the axis grows with rank. One group only."""
    if r is None or len(groups) != 1:
        return None
    points = groups[0].points
    here = next((p.x for p in points if p.r == r), None)
    return here if here is not None or not axis.per_rank else points[-1].x / points[-1].r * r


def _note(sweep: Sweep, ranks: Sequence[RankGroup], said: Verdict) -> str:
    start = "Recorded by RankViz on a CPU, not your run: " if sweep.recorded else ""
    request = sweep.runs[0].request
    where = f"{start}{live.base_name(request.base)} on {live.data_name(request.data)}, {request.max_steps} steps."
    if len(ranks) < 2:
        return f"{where} One rank so far."
    notes = [where, headline(said)]
    if said.noise_width is not None:
        ring = f"r = {said.smallest_indistinguishable} is ringed"
        notes.append(
            f"{ring}; the grey band holds what can't be told from r = {said.best} (95 %, over runs and examples)."
        )
    lowest = min(ranks, key=lambda group: group.loss)
    if lowest.r != said.best:
        notes.append(
            f"The axis weighs tokens alike, by which r = {lowest.r} is best; the verdict weighs examples alike."
        )
    return " ".join([*notes, learning_rate_note(ranks)])


def _csv_row(sweep: Sweep, group: RankGroup, x: str, y: str) -> dict[str, object]:
    return {
        "sweep": sweep.sweep_id,
        "recorded": sweep.recorded,
        "base": live.base_name(sweep.runs[0].request.base),
        "data": live.data_name(sweep.runs[0].request.data),
        "r": group.r,
        X_AXES[x].label.lower().replace(" ", "_"): group.cost,
        "held_out_loss" if y == "loss" else "gain": group.loss if y == "loss" else -group.loss,
        "standard_deviation": group.spread if group.spread is not None else "",
        "runs": group.runs,
        "learning_rate": group.learning_rate,
        "learning_rates_tried": group.learning_rates_tried,
    }
