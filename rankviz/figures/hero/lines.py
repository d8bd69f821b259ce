"""Published lines, own runs and fast curves in the unit of the trade-off chart.

They know only differences between their own ranks. In a shortfall each is placed so that its highest rank lies on the
forecast's median there.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite, log
from statistics import NormalDist, fmean, stdev
from typing import Any, NamedTuple

from rankviz.core.forecast.tradeoff import SHORTFALL_SCORE, SHORTFALLS, PublishedLine, Tradeoff
from rankviz.core.runs.fast_curve import fast_curves
from rankviz.core.runs.metric import LOSS, METRICS, Metric
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.words import made_of
from rankviz.figures.studies import DASHES, shapes_of
from rankviz.figures.style import FAST_CURVE, MEASURED, PUBLISHED, rgba

SWEEPS_DRAWN = 3
REACH = NormalDist().inv_cdf(0.9)
"""Standard deviations from the middle to the end of an 80 % interval, as wide as the band's."""


class HeroPoint(NamedTuple):
    """One value of a study, of one's own runs or of a fast curve. error: half an error bar, None where not known."""

    r: int
    x: float
    y: float
    text: str
    error: float | None = None
    run_id: str = ""
    chosen: int | None = None
    """The rank that a click selects, where that is not r."""


class HeroLine(NamedTuple):
    """Points of one source, never joined to another's."""

    label: str
    kind: str
    """A key of LOOKS."""
    points: Sequence[HeroPoint]
    shape: str = "circle"


def published_lines(
    published: Sequence[PublishedLine],
    place: Mapping[int, float],
    median: Mapping[int, float],
    *,
    by_rank: bool = False,
) -> list[HeroLine]:
    """One line a study and base. A line of another MoE scheme lies at its own parameters, or at its ranks by rank.

    Args:
        place: Where each rank lies on the cost axis.
        median: The forecast's, by rank.
        by_rank: Whether the axis is the rank itself.
    """
    shapes = shapes_of([each.line.study_id for each in published])
    lines = []
    for each in published:
        line = each.line
        equal = None if by_rank else each.equal_ranks
        ranks = [r for r in line.ranks if r in place and (equal is None or r in equal)]
        if len(ranks) < 2 or ranks[-1] not in median:
            continue
        values = dict(zip(line.ranks, line.values, strict=True))
        errors = dict(zip(line.ranks, line.standard_errors, strict=True))
        top = values[ranks[-1]]
        lines.append(
            HeroLine(
                label=f"{line.base_model.rsplit('/', 1)[-1]} ({each.label})",
                kind="published",
                shape=shapes[line.study_id],
                points=[
                    HeroPoint(
                        r,
                        _between(place, equal[r]) if equal else place[r],
                        top - values[r] + median[ranks[-1]],
                        f"{top - values[r]:+.2g} from its r = {ranks[-1]}<br>{line.task}<br>{each.why}"
                        + (f"<br>as many parameters as r = {equal[r]:.3g} here" if equal else ""),
                        errors[r] if line.errors_published else None,
                        chosen=max(1, round(equal[r])) if equal else None,
                    )
                    for r in ranks
                ],
            )
        )
    return lines


def _between(place: Mapping[int, float], r: float) -> float:
    """Where a rank that need not be whole lies: straight between its neighbours, or beyond the last two."""
    known = sorted(place)
    high = min(max(bisect_left(known, r), 1), len(known) - 1)
    low, high = known[high - 1], known[high]
    return place[low] + (r - low) / (high - low) * (place[high] - place[low])


def run_lines(tradeoff: Tradeoff, place: Mapping[int, float], median: Mapping[int, float]) -> list[HeroLine]:
    """The sweeps of the model that have values in this quality, each with its fast curve. Arguments as above."""
    if tradeoff.quality == SHORTFALL_SCORE:
        return []
    metric = METRICS.get(tradeoff.quality, LOSS)
    lines = []
    with_values = [sweep for sweep in tradeoff.sweeps if _by_rank(sweep.runs, metric)]
    # A shortfall compares each sweep with itself; values as measured depend on steps and data, so one sweep is drawn.
    for sweep in with_values[: SWEEPS_DRAWN if tradeoff.quality in SHORTFALLS else 1]:
        measured = _by_rank(sweep.runs, metric)
        turn = _turn(tradeoff.quality, {r: fmean(values) for r, (values, _) in measured.items()}, median)
        if turn is None:
            continue
        whose = "recorded runs" if sweep.recorded else "your runs"
        lines.append(
            HeroLine(
                label=f"{whose}: {made_of(sweep)}",
                kind="runs",
                points=[
                    HeroPoint(
                        r,
                        place[r],
                        turn(fmean(values)),
                        f"{metric.text(fmean(values))} {metric.noun}<br>{_runs_text(len(values))}",
                        abs(turn(fmean(values) + REACH * stdev(values)) - turn(fmean(values)))
                        if len(values) > 1
                        else None,
                        run_id,
                    )
                    for r, (values, run_id) in measured.items()
                    if r in place
                ],
            )
        )
        lines += _fast_curves(sweep, metric, turn, place)
    return lines


def _runs_text(runs: int) -> str:
    return "one run" if runs == 1 else f"mean of {runs} runs, bar: 80 % of such runs"


def _by_rank(runs: Iterable[RunRecord], metric: Metric) -> dict[int, tuple[list[float], str]]:
    """Values and the id of one run by rank, at the learning rate that was best there."""
    cells: dict[int, dict[float, list[tuple[float, str]]]] = {}
    for run in runs:
        value = metric.of(run.loss_after)
        if value is not None and isfinite(value):
            cells.setdefault(run.request.r, {}).setdefault(run.request.learning_rate, []).append((value, run.run_id))
    best = {
        r: min(by_rate.values(), key=lambda cell: fmean(metric.turned(value) for value, _ in cell))
        for r, by_rate in sorted(cells.items())
    }
    return {r: ([value for value, _ in cell], cell[0][1]) for r, cell in best.items()}


def _turn(quality: str, means: Mapping[int, float], median: Mapping[int, float]) -> Callable[[float], float] | None:
    """What turns a measured value into the y axis's; None where it cannot be placed there."""
    if quality not in SHORTFALLS:
        return lambda value: value
    top = max(means)
    if len(means) < 2 or top not in median:
        return None
    return lambda value: 100 * log(value / means[top]) + median[top]


def _fast_curves(
    sweep: Sweep, metric: Metric, turn: Callable[[float], float], place: Mapping[int, float]
) -> list[HeroLine]:
    return [
        HeroLine(
            label=f"fast curve: {made_of(sweep)}",
            kind="fast",
            points=[
                HeroPoint(
                    point.r,
                    place[point.r],
                    turn(value),
                    f"{metric.text(value)} {metric.noun}<br>"
                    f"{'trained' if point is curve.trained else 'truncated adapter'}",
                    run_id=curve.run_id,
                )
                for point in curve.points
                if point.r in place and (value := metric.of(point)) is not None
            ],
        )
        for curve in fast_curves(sweep.runs)[:1]
    ]


LOOKS: Mapping[str, Mapping[str, Any]] = {
    "published": {
        "mode": "lines+markers",
        "line": {"color": rgba(PUBLISHED, 0.55), "width": 1.2},
        "marker": {"size": 8, "color": PUBLISHED, "line": {"width": 1.4}},
    },
    "runs": {
        "mode": "markers",
        "marker": {"size": 11, "color": MEASURED, "line": {"color": "white", "width": 1}},
    },
    "fast": {
        "mode": "lines+markers",
        "line": {"color": FAST_CURVE, "width": 1.6, "dash": "dash"},
        "marker": {"size": 6, "color": FAST_CURVE},
    },
}
"""How each kind of line is drawn: estimated is a band, measured filled, published open, a fast curve dashed."""
RUN_SHAPES = ("circle", "square", "diamond")


def line_traces(lines: Sequence[HeroLine]) -> list[dict[str, Any]]:
    """Lines of one study share its marker and differ in their dashes; each sweep has a marker of its own."""
    runs, dashes = iter(RUN_SHAPES * len(lines)), iter(DASHES * len(lines))
    return [_line_trace(line, next(runs) if line.kind == "runs" else line.shape, next(dashes)) for line in lines]


def _line_trace(line: HeroLine, shape: str, dash: str) -> dict[str, Any]:
    look = dict(LOOKS[line.kind])
    if line.kind == "published":
        look["line"] = {**look["line"], "dash": dash}
    colour = PUBLISHED if line.kind == "published" else MEASURED
    return {
        "type": "scatter",
        "name": line.label,
        "x": [point.x for point in line.points],
        "y": [point.y for point in line.points],
        **look,
        "marker": {**look["marker"], "symbol": f"{shape}-open" if line.kind == "published" else shape},
        "error_y": {
            "type": "data",
            "array": [point.error or 0 for point in line.points],
            "visible": any(point.error for point in line.points),
            "color": rgba(colour, 0.6),
            "thickness": 1.2,
            "width": 3,
        },
        "customdata": [[point.chosen or point.r, point.run_id] for point in line.points],
        "hovertext": [f"<b>{line.label}, r = {point.r}</b><br>{point.text}" for point in line.points],
        "hoverinfo": "text",
        "cliponaxis": False,
    }
