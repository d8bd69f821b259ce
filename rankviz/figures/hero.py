"""Published quality by rank, one line per study, base model and run date; and the trade-off chart of one model, every
rank by its cost and its expected quality.

Forecasts are a band with a median, published lines are faint with open markers, runs are filled markers with error
bars, and a fast curve is dashed. Published lines and runs only give differences between their own ranks, so for a
shortfall each is shifted until its highest rank lies on the forecast's median. The page itself draws the chosen rank
over the chart, so that a moved slider shows at once.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from math import isfinite, log, log10
from statistics import NormalDist, fmean, stdev
from typing import Any, NamedTuple

from rankviz import units
from rankviz.core.advice.words import metric_in_words, rate_text
from rankviz.core.cost.estimate import RankEstimate
from rankviz.core.forecast.bands import GRID, RankForecast
from rankviz.core.forecast.quick_look import BentRank
from rankviz.core.forecast.tradeoff import RANKS, SHORTFALL_LOSS, SHORTFALL_SCORE, SHORTFALLS, Tradeoff
from rankviz.core.runs.fast_curve import fast_curves
from rankviz.core.runs.metric import LOSS, METRICS, Metric
from rankviz.core.runs.record import RunRecord, made_of
from rankviz.core.studies.lines import Line, Near, QualityPoint
from rankviz.errors import InvalidSettingError
from rankviz.figures import style
from rankviz.figures.style import CostAxis, Point

SHAPES = (
    *("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon", "star", "cross", "x"),
    *("hourglass", "bowtie", "triangle-left", "triangle-right", "octagon", "hexagram", "diamond-tall", "asterisk"),
)
DASHES = ("solid", "dot", "dash", "dashdot")
POINT_COLUMNS = (
    *("base_model", "task", "metric", "higher_is_better", "method", "target_modules", "rank", "lora_alpha"),
    *("learning_rate", "value", "standard_error", "base_value", "duration", "run_date"),
)


def shapes_of(studies: Sequence[str]) -> dict[str, str]:
    """Return one marker shape per study id, so that figures side by side can share the mapping."""
    return {study: SHAPES[i % len(SHAPES)] for i, study in enumerate(dict.fromkeys(studies))}


def studies_figure(
    near: Sequence[Near],
    *,
    parameters: Callable[[Line], Sequence[int | None]],
    chosen_r: int | None = None,
    shapes: Mapping[str, str] | None = None,
    height: int = 340,
    name: str = "studies",
) -> style.Drawing:
    """Draw published lines of quality by rank on a logarithmic axis. Lines whose best value is 0 are left out: they
    have no distance from it in percent.

    Args:
        near: The studies to show, the nearest first.
        parameters: Returns the adapter parameters of a line's points, for the table.
        chosen_r: The rank to mark.
        shapes: Marker by study, for figures side by side; by default one is chosen for each.
        name: Distinguishes figures side by side, for their zoom.
    """
    drawn = [(each, line) for each in near for line in each.lines if line.has_shares]
    by_label: dict[str, list[Line]] = {}
    rows = []
    for each, line in drawn:
        study, base = line.study, escape(line.model.base_model.rsplit("/", 1)[-1])
        runs = "bars: ± 1 s.e." if any(point.standard_error is not None for point in line.points) else "one run each"
        policy = study.learning_rate_label.replace("learning rate", "rate").replace("learning-rate", "rate")
        method = "" if line.first.method == "lora" else f" ({escape(line.first.method)})"
        # Broken where the legend would be too wide.
        label = f"{escape(study.label)}, {base}{method}<br>{policy}; {runs}"
        by_label.setdefault(label, []).append(line)
        about = {"study": study.study_id, "source": study.where, "why_near": each.in_words}
        about |= {"learning_rate_policy": study.learning_rate_label}
        for point, size in zip(line.points, parameters(line), strict=True):
            shown = {"r" if name == "rank" else name: getattr(point, name) for name in POINT_COLUMNS}
            rows.append({**about, **shown, "trainable_parameters": size})
    shapes = shapes or shapes_of([each.line.study.study_id for each in near])
    ranks = sorted({r for _, line in drawn for r in line.ranks} | ({chosen_r} if chosen_r else set()))
    highest, ticks = max(ranks, default=1), []
    for rank in ranks:  # without those that would overlap
        if not ticks or rank >= (1.9 if highest < 512 else 3.9) * ticks[-1]:
            ticks.append(rank)
    # The same range in figures side by side, so that they can be compared.
    axis = {"type": "log", "tickangle": 0, "range": [-0.15, 3.2 if highest > 256 else 2.6]}
    return style.draw(
        [
            _trace(label, line, shapes[line.study.study_id], DASHES[i % len(DASHES)]) | {"showlegend": line is lines[0]}
            for i, (label, lines) in enumerate(by_label.items())
            for line in lines
        ],
        height=height,
        uirevision=name,
        x=axis | style.ticks_at([(rank, str(rank)) for rank in ticks]),
        y={},
        x_title="LoRA rank r",
        y_title="% short of best (lower is better)",
        message="" if drawn else "No published study has these targets.",
        rows=rows,
        source="; ".join(dict.fromkeys(f"{each.line.study.citation} ({each.line.study.where})" for each in near)),
        shapes=[style.vertical_line(chosen_r, style.CHOSEN)] if chosen_r and drawn else [],
        showlegend=bool(drawn),
    )


def _trace(label: str, line: Line, shape: str, dash: str) -> dict[str, Any]:
    errors = [100 / abs(line.best.value) * (point.standard_error or 0) for point in line.points]
    return style.scatter(
        [point.rank for point in line.points],
        [100 * line.short_of_best(point.value) for point in line.points],
        mode="lines+markers",
        name=label,
        legendgroup=label,
        line={"color": style.rgba(style.PUBLISHED, 0.6), "width": 1.2, "dash": dash},
        marker={"color": style.PUBLISHED, "symbol": f"{shape}-open", "size": 9, "line": {"width": 1.6}},
        error_y=style.bars(errors, style.PUBLISHED, opacity=0.6, thickness=1.2, visible=any(errors)),
        hovertext=[_hover(line, point) for point in line.points],
        hoverinfo="text",
    )


def _hover(line: Line, point: QualityPoint) -> str:
    spread = " (one run)" if point.standard_error is None else f" ± {point.standard_error:g}"
    rate = f"learning rate {rate_text(point.learning_rate)}" if point.learning_rate else "learning rate not stated"
    alpha = f"alpha {point.lora_alpha:g}" if point.lora_alpha else "alpha not stated"
    about = (
        f"{line.study.label}, {point.base_model}",
        point.task,
        ", ".join(filter(None, (point.duration, point.run_date))),
        f"{rate}, {alpha}",
        f"targets: {point.target_modules or 'not stated'}",
        f"full fine-tuning {line.full.value:g}" if line.full else "",
    )
    first = f"<b>r = {point.rank}</b>: {point.value:g}{spread} {escape(metric_in_words(line))}"
    return "<br>".join((first, *map(escape, filter(None, about))))


DRAWN_RANKS = frozenset([*range(1, 17), *range(18, 33, 2), *range(36, 65, 4), *range(72, 129, 8), *range(144, 257, 16)])
"""Ranks at which the band is drawn: enough for smooth edges on any cost axis."""
WHOLE_BAND_FROM = 8
"""Lowest rank whose 80 % band must be inside the y range."""
REACH = NormalDist().inv_cdf(0.9)
"""Standard deviations from the mean to the end of an 80 % interval, the width that the band has."""
EVERY_RANK = "every rank"
"""Name of the hidden trace of all ranks; the page adds all costs of a rank to it, for the hover."""
QUALITY_LABELS = {
    SHORTFALL_LOSS: "Loss above r = 128, %",
    SHORTFALL_SCORE: "Score below r = 128, points",
    **{metric.key: metric.label for metric in METRICS.values()},
}
HANGS = (
    "Published lines and runs know only differences between their own ranks: each is placed so that its highest rank "
    "lies on the median, or at 0 where nothing is forecast."
)
X_LABELS = {"file": "Adapter file", "memory": "Memory", "time": "Time", "money": "Cost", "rank": "Rank"}


def x_axis(x: str, ranks: Sequence[RankEstimate]) -> CostAxis:
    """Return the cost axis of a key of X_LABELS, for these ranks."""
    size, time_unit = units.time_unit(max((r.duration.total.expected for r in ranks if r.duration), default=0))
    is_large = any(rank.adapter_bytes >= 10 * units.GB for rank in ranks)  # else the ticks have no room on a phone
    in_unit, unit = (units.GB / units.MB, "GB") if is_large else (1, "MB")
    ticks = [(at, f"{at / in_unit:,g}") for at, _ in style.ONE_TWO_FIVE]
    axes = {
        "file": CostAxis(f"adapter file, {unit} (log scale)", lambda rank: rank.adapter_bytes / units.MB, ticks),
        "memory": CostAxis("GPU memory, GiB (expected)", lambda rank: rank.memory.device / units.GIB),
        "time": CostAxis(
            f"training time, {time_unit} (expected)",
            lambda rank: rank.duration.total.expected / size if rank.duration else None,
            from_zero=True,
            unknown="Select a GPU with a known speed to see the time.",
        ),
        "money": CostAxis(
            "cost, US dollars (expected)",
            lambda rank: rank.usd.expected if rank.usd else None,
            from_zero=True,
            unknown="Select a GPU with a price, or enter one, to see the cost.",
        ),
        "rank": CostAxis("LoRA rank r (log scale)", lambda rank: rank.r, [(r, str(r)) for r in GRID]),
    }
    return axes[x]


class HeroLine(NamedTuple):
    """Points of one source; lines of two sources are never joined. kind: a key of LOOKS. name: for the legend. short:
    for the legend of a narrow chart, if not the name."""

    label: str
    kind: str
    points: Sequence[Point]
    shape: str = "circle"
    name: str = ""
    short: str = ""


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
            points.append(Point(r, x, y, text, errors.get(r), chosen=chosen))
        base = line.base_model.rsplit("/", 1)[-1]
        short = " ".join(each.label.partition(",")[0].split()[:2])
        name, whole = f"{base.replace('-Instruct', '')} ({short})", f"{base} ({each.label})"
        lines.append(HeroLine(whole, "published", points, shapes[line.study_id], name, short))
    names = [line.name for line in lines]
    return [line._replace(name=line.label, short="") if names.count(line.name) > 1 else line for line in lines]


def _between(place: Mapping[int, float], r: float) -> float:
    """Return the place of a fractional rank on the cost axis, by linear interpolation or extrapolation."""
    known = sorted(place)
    high = min(max(bisect_left(known, r), 1), len(known) - 1)
    low, high = known[high - 1], known[high]
    return place[low] + (r - low) / (high - low) * (place[high] - place[low])


def _run_lines(tradeoff: Tradeoff, place: Mapping[int, float], median: Mapping[int, float]) -> list[HeroLine]:
    """Return the points of the model's first sweep that measured this quality, and of its fast curve. For a shortfall,
    it is the first sweep with two ranks, and points are in % of the mean loss of its highest rank."""
    metric, is_shortfall = METRICS.get(tradeoff.quality, LOSS), tradeoff.quality in SHORTFALLS
    if tradeoff.quality == SHORTFALL_SCORE:
        return []
    for sweep in tradeoff.sweeps:
        measured = _by_rank(sweep.runs, metric)
        if len(measured) > 1 and max(measured) in median if is_shortfall else measured:
            break
    else:
        return []
    top = max(measured)
    highest = fmean(value for value, _ in measured[top])

    def y(value: float) -> float:
        return 100 * log(value / highest) + median[top] if is_shortfall else value

    points = []
    for r, cell in measured.items():
        values, error, runs = [value for value, _ in cell], None, "one run"
        mean = fmean(values)
        if len(values) > 1:
            error = abs(y(mean + REACH * stdev(values)) - y(mean))
            runs = f"mean of {len(values)} runs, bar: 80 % of such runs"
        if r in place:
            text = f"{metric.text(mean)} {metric.noun}<br>{runs}"
            points.append(Point(r, place[r], y(mean), text, error, cell[0][1]))
    name = "recorded runs" if sweep.recorded else "your runs"
    lines = [HeroLine(f"{name}: {made_of(sweep)}", "runs", points, name=name)]
    for curve in fast_curves(sweep.runs)[:1]:
        points = [
            Point(point.r, place[point.r], y(value), f"{metric.text(value)} {metric.noun}", run_id=curve.run_id)
            for point in curve.points
            if point.r in place and (value := metric.of(point)) is not None
        ]
        lines.append(HeroLine(f"fast curve: {made_of(sweep)}", "fast", points, name="fast curve"))
    return lines


def _by_rank(runs: Iterable[RunRecord], metric: Metric) -> dict[int, list[tuple[float, str]]]:
    """Return, by rank, value and id of all runs at the rank's best learning rate."""
    cells: dict[int, dict[float, list[tuple[float, str]]]] = {}
    for run in runs:
        value = metric.of(run.loss_after)
        if value is not None and isfinite(value):
            cells.setdefault(run.request.r, {}).setdefault(run.request.learning_rate, []).append((value, run.run_id))
    return {
        r: min(rates.values(), key=lambda cell: fmean(metric.turned(value) for value, _ in cell))
        for r, rates in sorted(cells.items())
    }


LOOKS: Mapping[str, dict[str, Any]] = {
    "published": {
        "mode": "lines+markers",
        "line": {"color": style.rgba(style.PUBLISHED, 0.55), "width": 1.2},
        "marker": {"size": 8, "color": style.PUBLISHED, "line": {"width": 1.4}},
    },
    "runs": {
        "mode": "markers",
        "marker": {"size": 11, "color": style.MEASURED, "line": {"color": "white", "width": 1}},
    },
    "fast": {
        "mode": "lines+markers",
        "line": {"color": style.FAST_CURVE, "width": 1.6, "dash": "dash"},
        "marker": {"size": 6, "color": style.FAST_CURVE},
    },
}
"""Plotly properties by kind of line: published lines have open markers, runs filled ones, a fast curve is dashed."""


def _line_traces(lines: Sequence[HeroLine]) -> list[dict[str, Any]]:
    """Return a trace per line. Lines of a study share a marker and differ by dash."""
    traces = []
    for line, dash in zip(lines, DASHES * len(lines), strict=False):
        look, points, is_published = LOOKS[line.kind], line.points, line.kind == "published"
        marker = look["marker"] | {"symbol": f"{line.shape}-open" if is_published else line.shape}
        look = look | {"marker": marker} | ({"line": look["line"] | {"dash": dash}} if is_published else {})
        colour = style.PUBLISHED if is_published else style.MEASURED
        trace = style.scatter(
            [point.x for point in points],
            [point.y for point in points],
            name=line.name,
            meta={"short": line.short or line.name},
            **look,
            error_y=style.bars([point.error for point in points], colour, opacity=0.6, thickness=1.2, width=3),
            customdata=[[point.chosen or point.r, point.run_id] for point in points],
            hovertext=[f"<b>{line.label}, r = {point.r}</b><br>{point.text}" for point in points],
            hoverinfo="text",
            cliponaxis=False,
        )
        traces.append(trace)
    return traces


class HeroInfo(NamedTuple):
    """Content of the trade-off chart. xs: cost of every rank of RANKS, None where unknown. sentences: the evidence
    behind the chart. empty: a sentence that replaces the data."""

    axis: CostAxis
    y_title: str
    xs: Sequence[float | None] = ()
    band: Sequence[RankForecast | BentRank] = ()
    band_label: str = ""
    lines: Sequence[HeroLine] = ()
    sentences: Sequence[str] = ()
    empty: str = ""
    rows: style.Rows = ()


def hero_info(tradeoff: Tradeoff, *, x: str = "file") -> HeroInfo:
    """Return the content of the trade-off chart: every rank at its cost, or at its place on the rank axis where no
    costs are known. x: a key of X_LABELS."""
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
        sentences += [f"Drawn: {'; '.join(line.label for line in lines)}.", HANGS]
    if tradeoff.sweeps and tradeoff.quality == SHORTFALL_SCORE:
        sentences.append("Runs of this model measured a loss, not a score: choose another quality to see them.")
    if quality := tradeoff.forecast:
        other = f"r = {quality.reference_rank}" if quality.ranks else "each line's highest rank"
        title = "score below {}, points" if tradeoff.quality == SHORTFALL_SCORE else "loss above {}, %"
        y_title = f"{title.format(other)} (lower is better)"
    else:
        y_title = METRICS[tradeoff.quality].title
    label = "forecast" if quality is None or quality.validated else "forecast, not validated"
    if quality is None and not (tradeoff.bent and tradeoff.bent.noise_nats):  # only the median
        label = "forecast between the runs"
    rows = []
    for point in (point for point in band if point.r in DRAWN_RANKS):
        row = {"kind": "forecast", "source": "", "r": point.r, "value": point.median}
        row |= {name: getattr(point, name) for name in ("low_50", "high_50", "low_80", "high_80")}
        if cost := costs.get(point.r):
            row |= {"adapter_parameters": cost.adapter_parameters, "adapter_bytes": cost.adapter_bytes}
            row |= {"memory_bytes": cost.memory.device, "seconds": cost.duration and cost.duration.total.expected}
            row |= {"usd": cost.usd and cost.usd.expected}
        rows.append(row)
    for line in lines:
        about = {"kind": line.kind, "source": line.label}
        rows += [{**about, "r": point.r, "value": point.y} for point in line.points]
    return HeroInfo(
        axis=axis,
        y_title=y_title,
        xs=[place[r] for r in RANKS],
        band=band,
        band_label=label,
        lines=lines,
        sentences=sentences,
        empty="" if known else axis.unknown,
        rows=rows,
    )


def hero_figure(info: HeroInfo, *, height: int = 400) -> style.Drawing:
    """Draw the trade-off chart: the band at the bottom, lines over it, runs on top."""
    points = [point for line in info.lines for point in line.points]
    xs = [x for x in (*info.xs, *(point.x for point in points)) if x is not None]
    xs = list(map(log10, xs)) if info.axis.ticks else [0.0, *xs] if xs and info.axis.from_zero else xs
    room = (0.04 * (max(xs) - min(xs)) or abs(max(xs)) * 0.05 or 1.0) if xs else 0.0
    # The y range leaves out the far end of the 80 % band at low ranks, which would flatten the rest of the chart.
    known = [rank for rank in info.band if rank.low_80 is not None]
    pairs = [(rank.low_50, rank.high_50) for rank in known] or [(rank.median, rank.median) for rank in info.band]
    pairs += [(rank.low_80, rank.high_80) for rank in known if rank.r >= WHOLE_BAND_FROM]
    pairs += [(point.y - (point.error or 0), point.y + (point.error or 0)) for point in points]
    ends = [end for pair in pairs for end in pair]
    above = 0.06 * (max(ends) - min(ends)) or 1.0 if ends else 0.0
    kind = {"type": "log", **style.ticks_at(info.axis.ticks)} if info.axis.ticks else {"type": "linear"}
    places = dict(zip(RANKS, info.xs, strict=False))
    drawn_ranks = [rank for rank in info.band if rank.r in DRAWN_RANKS]
    drawn = style.bands(drawn_ranks, info.band_label, places, narrow=": median, 50/80 %")
    traces = [trace | {"hoverinfo": "skip"} for trace in drawn]
    if info.band:
        every = style.scatter(
            [places[rank.r] for rank in info.band],
            [rank.median for rank in info.band],
            name=EVERY_RANK,
            ids=[str(rank.r) for rank in info.band],
            marker={"size": 9, "color": "rgba(0,0,0,0)"},
            showlegend=False,
        )
        traces.append(every)
    stops = [(x, r) for r, x in places.items() if r in GRID and x is not None]
    return style.draw(
        [*traces, *_line_traces(info.lines)] if not info.empty else [],
        height=height,
        uirevision=f"{info.axis.title}|{info.y_title}",
        x={"range": [min(xs) - room * (not info.axis.from_zero), max(xs) + room] if xs else None, **kind},
        y={"range": [min(ends) - above, max(ends) + above] if ends else None},
        x_title=info.axis.title,
        y_title=info.y_title,
        message=info.empty,
        rows=info.rows,
        source=" ".join(info.sentences),
        hovermode="closest",
        hoverdistance=30,
        dragmode=False,
        showlegend=not info.empty,
        # The handle's label stands among these ranks, and above the rank axis alone.
        ranks=stops if any(x != r for x, r in stops) else (),
    )
