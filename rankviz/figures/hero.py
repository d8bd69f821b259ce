"""The trade-off chart of one model: every rank by its cost and its expected quality.

Forecasts are a band with a median, published lines are faint with open markers, runs are filled markers with error
bars, and a fast curve is dashed. Published lines and runs only give differences between their own ranks, so for a
shortfall each is shifted until its highest rank lies on the forecast's median. The page itself draws the chosen rank
over the chart, so that a moved slider shows at once.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite, log, log10
from statistics import NormalDist, fmean, stdev
from typing import Any, NamedTuple

from rankviz import units
from rankviz.core.cost.estimate import RankEstimate
from rankviz.core.forecast.bands import GRID, KINDS, QUALITY_WORDS, UNIT_WORDS
from rankviz.core.forecast.bands import LOSS as LOSS_KIND
from rankviz.core.forecast.tradeoff import RANKS, SHORTFALL_LOSS, SHORTFALL_SCORE, SHORTFALLS, Tradeoff
from rankviz.core.runs.fast_curve import fast_curves
from rankviz.core.runs.metric import LOSS, METRICS, Metric
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.words import made_of
from rankviz.errors import InvalidSettingError
from rankviz.figures.forecast import INNER, ForecastRank, bands
from rankviz.figures.studies import DASHES, shapes_of
from rankviz.figures.style import (
    ESTIMATED,
    FAST_CURVE,
    MEASURED,
    ONE_TWO_FIVE,
    PUBLISHED,
    SMALL,
    Drawing,
    Rows,
    draw,
    figure,
    rgba,
    scatter,
    ticks_at,
)
from rankviz.units import rounded_percent

DRAWN_RANKS = frozenset([*range(1, 17), *range(18, 33, 2), *range(36, 65, 4), *range(72, 129, 8), *range(144, 257, 16)])
"""Ranks at which the band is drawn: enough for smooth edges on any cost axis."""
LABEL_ROOM = 0.035
"""Minimum distance between two rank labels, as a share of the axis."""
WHOLE_BAND_FROM = 8
"""Lowest rank whose 80 % band must be inside the y range."""
SWEEPS_DRAWN = 3
REACH = NormalDist().inv_cdf(0.9)
"""Standard deviations from the mean to the end of an 80 % interval, the width that the band has."""
EVERY_RANK = "every rank"
"""Name of the hidden trace of all ranks; the page adds all costs of a rank to it, for the hover."""
QUALITY_LABELS = {
    SHORTFALL_LOSS: "Shortfall, % of loss",
    SHORTFALL_SCORE: "Shortfall, points",
    **{metric.key: metric.label for metric in METRICS.values()},
}
HANGS = (
    "Published lines and runs know only differences between their own ranks: each is placed so that its highest rank "
    "lies on the median, or at 0 where nothing is forecast."
)
X_LABELS = {"file": "Adapter file", "memory": "Memory", "time": "Time", "money": "Cost", "rank": "Rank"}
NO_TIME = "Select a GPU with a known speed to see the time."
NO_MONEY = "Select a GPU with a price, or enter one, to see the cost."
RUN_SHAPES = ("circle", "square", "diamond")


class XAxis(NamedTuple):
    """One cost axis for the ranks of one question. value: cost of a rank in the unit of the title, None where unknown.
    ticks: for a logarithmic axis; empty for a linear axis. unknown: a sentence on what to do if no rank has a value.
    """

    title: str
    value: Callable[[RankEstimate], float | None] = float
    ticks: Sequence[tuple[float, str]] = ()
    unknown: str = ""

    def drawn(self, places: Sequence[float | None]) -> dict[str, Any]:
        """Return the axis for plotly.js, from a little below the lowest of these places to a little above the top."""
        return {
            "type": "log" if self.ticks else "linear",
            "range": self.range_of(places),
            **(ticks_at(self.ticks) if self.ticks else {}),
        }

    def range_of(self, places: Sequence[float | None]) -> list[float] | None:
        """Return both ends of the axis, as powers of ten if it is logarithmic; None where no place is known."""
        xs = [(log10(x) if self.ticks else x) for x in places if x is not None]
        if not xs:
            return None
        low, high = min(xs), max(xs)
        room = 0.04 * (high - low) or abs(high) * 0.05 or 1.0
        return [low - room, high + room]


def x_axis(x: str, ranks: Sequence[RankEstimate]) -> XAxis:
    """Return the cost axis for a key of X_LABELS."""
    if x == "file":
        return XAxis("adapter file, MB (log scale)", lambda rank: rank.adapter_bytes / units.MB, ONE_TWO_FIVE)
    if x == "memory":
        return XAxis("GPU memory, GiB (expected)", lambda rank: rank.memory.device / units.GIB)
    if x == "time":
        size, unit = units.time_unit(max((r.duration.total.expected for r in ranks if r.duration), default=0))
        title = f"training time, {unit} (expected)"
        return XAxis(title, lambda r: r.duration.total.expected / size if r.duration else None, unknown=NO_TIME)
    if x == "money":
        title = "cost, US dollars (expected)"
        return XAxis(title, lambda rank: rank.cost.usd.expected if rank.cost else None, unknown=NO_MONEY)
    return XAxis("LoRA rank r (log scale)", lambda rank: rank.r, [(r, str(r)) for r in GRID])


class HeroPoint(NamedTuple):
    """One value of a study, a run or a fast curve. error: half the length of an error bar, None where unknown. chosen:
    rank that a click selects, if it is not r."""

    r: int
    x: float
    y: float
    text: str
    error: float | None = None
    run_id: str = ""
    chosen: int | None = None


class HeroLine(NamedTuple):
    """Points of one source; lines of two sources are never joined. kind: a key of LOOKS."""

    label: str
    kind: str
    points: Sequence[HeroPoint]
    shape: str = "circle"


def _published_lines(
    tradeoff: Tradeoff, place: Mapping[int, float], median: Mapping[int, float], *, by_rank: bool
) -> list[HeroLine]:
    """Return one line per study and base model, shifted to the forecast's median at its highest rank. A line with
    another MoE scheme lies at the ranks with equal parameters, or, on the rank axis, at its own ranks. place, median:
    place on the cost axis and median of the forecast, by rank."""
    shapes = shapes_of([each.line.study_id for each in tradeoff.published])
    lines = []
    for each in tradeoff.published:
        line, equal = each.line, None if by_rank else each.equal_ranks
        ranks = [r for r in line.ranks if r in place and (equal is None or r in equal)]
        if len(ranks) < 2 or ranks[-1] not in median:
            continue
        values = dict(zip(line.ranks, line.values, strict=True))
        errors = dict(zip(line.ranks, line.standard_errors, strict=True)) if line.errors_published else {}
        points, top = [], values[ranks[-1]]
        for r in ranks:
            text = f"{top - values[r]:+.2g} from its r = {ranks[-1]}<br>{line.task}<br>{each.why}"
            x, chosen = place[r], None
            if equal:
                text += f"<br>as many parameters as r = {equal[r]:.3g} here"
                x, chosen = _between(place, equal[r]), max(1, round(equal[r]))
            y = top - values[r] + median[ranks[-1]]
            points.append(HeroPoint(r, x, y, text, errors.get(r), chosen=chosen))
        label = f"{line.base_model.rsplit('/', 1)[-1]} ({each.label})"
        lines.append(HeroLine(label, "published", points, shapes[line.study_id]))
    return lines


def _between(place: Mapping[int, float], r: float) -> float:
    """Return the place of a fractional rank on the cost axis, by linear interpolation or extrapolation."""
    known = sorted(place)
    high = min(max(bisect_left(known, r), 1), len(known) - 1)
    low, high = known[high - 1], known[high]
    return place[low] + (r - low) / (high - low) * (place[high] - place[low])


def _run_lines(tradeoff: Tradeoff, place: Mapping[int, float], median: Mapping[int, float]) -> list[HeroLine]:
    """Return the model's sweeps that measured this quality, each followed by its fast curve."""
    if tradeoff.quality == SHORTFALL_SCORE:
        return []
    metric, is_shortfall = METRICS.get(tradeoff.quality, LOSS), tradeoff.quality in SHORTFALLS
    with_values = [(sweep, values) for sweep in tradeoff.sweeps if (values := _by_rank(sweep.runs, metric))]
    lines = []
    # A shortfall compares each sweep with itself; values as measured depend on steps and data, so one sweep is drawn.
    for sweep, measured in with_values[: SWEEPS_DRAWN if is_shortfall else 1]:
        top, turn = max(measured), float  # turn: makes a measured value one of the y axis
        if is_shortfall:
            if len(measured) < 2 or top not in median:
                continue
            mean, lifted = fmean(measured[top][0]), median[top]
            turn = lambda value, mean=mean, lifted=lifted: 100 * log(value / mean) + lifted  # noqa: E731
        points = []
        for r, (values, run_id) in measured.items():
            if r not in place:
                continue
            mean, error, runs = fmean(values), None, "one run"
            if len(values) > 1:
                error = abs(turn(mean + REACH * stdev(values)) - turn(mean))
                runs = f"mean of {len(values)} runs, bar: 80 % of such runs"
            text = f"{metric.text(mean)} {metric.noun}<br>{runs}"
            points.append(HeroPoint(r, place[r], turn(mean), text, error, run_id))
        label = f"{'recorded runs' if sweep.recorded else 'your runs'}: {made_of(sweep)}"
        lines.append(HeroLine(label, "runs", points))
        for curve in fast_curves(sweep.runs)[:1]:
            points = []
            for point in curve.points:
                if point.r in place and (value := metric.of(point)) is not None:
                    how = "trained" if point is curve.trained else "truncated adapter"
                    text = f"{metric.text(value)} {metric.noun}<br>{how}"
                    points.append(HeroPoint(point.r, place[point.r], turn(value), text, run_id=curve.run_id))
            lines.append(HeroLine(f"fast curve: {made_of(sweep)}", "fast", points))
    return lines


def _by_rank(runs: Iterable[RunRecord], metric: Metric) -> dict[int, tuple[list[float], str]]:
    """Return, by rank, the values of all runs at the rank's best learning rate, and the id of one of the runs."""
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
"""Plotly properties by kind of line: published lines have open markers, runs filled ones, a fast curve is dashed."""


def _line_traces(lines: Sequence[HeroLine]) -> list[dict[str, Any]]:
    """Return a trace per line. Lines of a study share a marker and differ by dash; each sweep has its own marker."""
    runs, dashes, traces = iter(RUN_SHAPES * len(lines)), iter(DASHES * len(lines)), []
    for line, dash in zip(lines, dashes, strict=False):
        look, points, is_published = dict(LOOKS[line.kind]), line.points, line.kind == "published"
        shape = next(runs) if line.kind == "runs" else line.shape
        if is_published:
            look["line"] = {**look["line"], "dash": dash}
        errors = [point.error or 0 for point in points]
        colour = rgba(PUBLISHED if is_published else MEASURED, 0.6)
        bar = {"array": errors, "visible": any(errors), "color": colour, "thickness": 1.2, "width": 3}
        look["marker"] = {**look["marker"], "symbol": f"{shape}-open" if is_published else shape}
        trace = scatter(
            [point.x for point in points],
            [point.y for point in points],
            name=line.label,
            **look,
            error_y={"type": "data"} | bar,
            customdata=[[point.chosen or point.r, point.run_id] for point in points],
            hovertext=[f"<b>{line.label}, r = {point.r}</b><br>{point.text}" for point in points],
            hoverinfo="text",
            cliponaxis=False,
        )
        traces.append(trace)
    return traces


class HeroInfo(NamedTuple):
    """Content of the trade-off chart. xs: cost of every rank of RANKS, None where unknown. reference: the rank from
    which shortfalls are counted, where the band has no width. sentences: the evidence behind the chart. empty: a
    sentence that replaces the data."""

    axis: XAxis
    y_title: str
    xs: Sequence[float | None] = ()
    band: Sequence[ForecastRank] = ()
    band_label: str = ""
    lines: Sequence[HeroLine] = ()
    reference: int | None = None
    sentences: Sequence[str] = ()
    empty: str = ""
    rows: Rows = ()


def hero_info(tradeoff: Tradeoff, *, x: str = "file") -> HeroInfo:
    """Return every rank at its cost, or on the rank axis where no costs are known. x: a key of X_LABELS."""
    if x not in X_LABELS:
        raise InvalidSettingError(f"The cost axis must be one of {', '.join(X_LABELS)} (got {x}).")
    costs = {rank.r: rank for rank in tradeoff.estimate.ranks} if tradeoff.estimate else {}
    x = x if costs else "rank"
    axis = x_axis(x, [costs[r] for r in RANKS if costs])
    place = {r: axis.value(costs[r]) for r in costs} or {r: r for r in RANKS}
    known = {r: value for r, value in place.items() if value is not None}
    forecast = tradeoff.forecast or tradeoff.bent
    band = [rank for rank in forecast.ranks if rank.r in known] if forecast else []
    median = {point.r: point.median for point in band} or dict.fromkeys(known, 0.0)
    lines = _published_lines(tradeoff, known, median, by_rank=x == "rank") + _run_lines(tradeoff, known, median)
    sentences = list(forecast.sentences) if forecast else []
    if tradeoff.forecast and lines:
        sentences.append(HANGS)
    if tradeoff.sweeps and tradeoff.quality == SHORTFALL_SCORE:
        sentences.append("Runs of this model measured a loss, not a score: choose another quality to see them.")
    return HeroInfo(
        axis=axis,
        y_title=y_title(tradeoff),
        xs=[place[r] for r in RANKS],
        band=band,
        band_label=_band_label(tradeoff),
        lines=lines,
        reference=tradeoff.forecast.reference_rank if tradeoff.forecast else None,
        sentences=sentences,
        empty="" if known else axis.unknown,
        rows=_rows(band, lines, costs),
    )


def y_title(tradeoff: Tradeoff) -> str:
    """Return the title of the quality axis: the quality, its unit, and whether lower or higher is better."""
    if tradeoff.forecast:
        forecast = tradeoff.forecast
        other = f"r = {forecast.reference_rank}" if forecast.ranks else "each line's highest rank"
        return f"{UNIT_WORDS[forecast.unit]} short of {other} (lower is better)"
    return METRICS[tradeoff.quality].title


def _band_label(tradeoff: Tradeoff) -> str:
    """Return the legend entry of the band, with the share of unseen results inside such bands where it was counted."""
    forecast = tradeoff.forecast
    if forecast is None:
        recorded = tradeoff.bent is not None and tradeoff.sweeps[0].recorded
        known = tradeoff.bent is not None and tradeoff.bent.noise_nats is not None
        return f"forecast between {'recorded' if recorded else 'your'} runs{', 80 % band' if known else ''}"
    if forecast.coverage_80_left_out is None:
        return "forecast, 80 % band (not checked)"
    of = "" if forecast.kind == LOSS_KIND else f" on {KINDS[forecast.kind]}"
    return (
        f"forecast, 80 % band (held {rounded_percent(forecast.coverage_80_left_out, 0)} of unseen "
        f"{QUALITY_WORDS[forecast.unit]}{of})"
    )


def _rows(
    band: Sequence[ForecastRank], lines: Sequence[HeroLine], costs: Mapping[int, RankEstimate]
) -> list[dict[str, object]]:
    rows = []
    for point in (point for point in band if point.r in DRAWN_RANKS):
        ends = {name: getattr(point, name) for name in ("low_50", "high_50", "low_80", "high_80")}
        row = {"kind": "forecast", "source": "", "r": point.r, "value": point.median, **ends}
        if cost := costs.get(point.r):
            row |= {
                "adapter_parameters": cost.adapter_parameters,
                "adapter_bytes": cost.adapter_bytes,
                "memory_bytes": cost.memory.device,
                "seconds": cost.duration.total.expected if cost.duration else "",
                "usd": cost.cost.usd.expected if cost.cost else "",
            }
        rows.append(row)
    empty = dict.fromkeys(rows[0] if rows else ("kind", "source", "r", "value"), "")
    return rows + [
        empty | {"kind": line.kind, "source": line.label, "r": point.r, "value": point.y}
        for line in lines
        for point in line.points
    ]


@figure
def hero_figure(info: HeroInfo, *, height: int = 400) -> Drawing:
    """Draw the trade-off chart: the band at the bottom, lines over it, runs on top."""
    return draw(
        [*_band_traces(info), *_line_traces(info.lines)] if not info.empty else [],
        height=height,
        uirevision=f"{info.axis.title}|{info.y_title}",
        x=info.axis.drawn([*info.xs, *(point.x for line in info.lines for point in line.points)]),
        y={"range": _y_range(info)},
        x_title=info.axis.title,
        y_title=info.y_title,
        message=info.empty,
        hovermode="closest",
        hoverdistance=30,
        dragmode=False,
        showlegend=not info.empty,
    )


def _y_range(info: HeroInfo) -> list[float] | None:
    """Return the y range, without the far end of the 80 % band at low ranks, which would flatten everything else."""
    known = [rank for rank in info.band if rank.low_80 is not None]
    band = [(rank.low_50, rank.high_50) for rank in known] or [(rank.median, rank.median) for rank in info.band]
    band += [(rank.low_80, rank.high_80) for rank in known if rank.r >= WHOLE_BAND_FROM]
    points = [
        (point.y - (point.error or 0), point.y + (point.error or 0)) for line in info.lines for point in line.points
    ]
    ends = [end for pair in (*band, *points) for end in pair]
    if not ends:
        return None
    room = 0.06 * (max(ends) - min(ends)) or 1.0
    return [min(ends) - room, max(ends) + room]


def _band_traces(info: HeroInfo) -> list[dict[str, Any]]:
    """Return the traces of the forecast: both bands and the median, a hidden trace of every rank for the hover,
    labelled markers at powers of two, and the reference rank."""
    if not info.band:
        return []
    xs = dict(zip(RANKS, info.xs, strict=True))
    drawn = [rank for rank in info.band if rank.r in DRAWN_RANKS]
    pieces = [
        {**piece, "hoverinfo": "skip", "showlegend": place == 0, "legendgroup": "band", "name": info.band_label}
        | ({"name": INNER, "legendgroup": INNER, "showlegend": True, "legendrank": 2} if piece["name"] == INNER else {})
        for place, piece in enumerate(bands(drawn, xs))
    ]
    stops = [rank for rank in info.band if rank.r in GRID]
    places, medians = [xs[rank.r] for rank in stops], [rank.median for rank in stops]
    hidden = {"showlegend": False, "hoverinfo": "skip", "cliponaxis": False}
    traces = [
        pieces[0] | {"legendrank": 1},
        *pieces[1:],
        scatter(
            [xs[rank.r] for rank in info.band],
            [rank.median for rank in info.band],
            name=EVERY_RANK,
            ids=[str(rank.r) for rank in info.band],
            marker={"size": 9, "color": "rgba(0,0,0,0)"},
            showlegend=False,
        ),
        scatter(
            places,
            medians,
            mode="markers+text",
            name="powers of two",
            text=_labels(places, [str(rank.r) for rank in stops], info),
            textposition="top center",
            textfont={"size": SMALL},
            marker={"size": 7, "color": ESTIMATED},
            **hidden,
        ),
    ]
    for rank in stops:
        if rank.r == info.reference:
            mark = {"size": 10, "color": "white", "line": {"color": ESTIMATED, "width": 2}}
            name = f"r = {rank.r}: the reference, 0 by definition"
            entry = {"name": name, "showlegend": True, "legendrank": 3}
            traces.append(scatter([xs[rank.r]], [rank.median], marker=mark, **hidden | entry))
    return traces


def _labels(xs: Sequence[float], texts: Sequence[str], info: HeroInfo) -> list[str]:
    """Return the rank labels, empty where they would overlap: on some cost axes the low ranks lie close together."""
    low, high = info.axis.range_of(info.xs)
    labels, last = [], float("-inf")
    for x, text in zip(xs, texts, strict=True):
        place = ((log10(x) if info.axis.ticks else x) - low) / (high - low)
        has_room = place - last >= LABEL_ROOM
        labels.append(text if has_room else "")
        last = place if has_room else last
    return labels
