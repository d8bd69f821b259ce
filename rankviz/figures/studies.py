"""Published quality against rank or size: a line per study, base and run date, never joined across."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from rankviz import units
from rankviz.core.advice.words import metric_in_words, rate_text
from rankviz.core.studies.lines import AdapterSize, Line, QualityPoint
from rankviz.core.studies.nearest import Near
from rankviz.errors import InvalidSettingError
from rankviz.figures.style import (
    CHOSEN,
    PUBLISHED,
    SMALL,
    Drawing,
    bars,
    draw,
    figure,
    rgba,
    scatter,
    ticks_at,
    vertical_line,
)

Sizes = Callable[[Line], Sequence[AdapterSize]]


class PublishedPoint(NamedTuple):
    """One value. error: half an error bar, None where it was one run. text: the hover, lines joined by <br>."""

    x: float
    y: float
    r: int
    error: float | None
    text: str


class PublishedLine(NamedTuple):
    """Points that may be joined. shape: the study's marker. label: the legend's entry."""

    study: str
    shape: str
    label: str
    points: Sequence[PublishedPoint]


GAP, VALUE = "gap", "value"
"""The quality axis: the shortfall from the best rank in percent, or the value as published."""
SHAPES = (
    *("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon", "star", "cross", "x"),
    *("hourglass", "bowtie", "triangle-left", "triangle-right", "octagon", "hexagram", "diamond-tall"),
    *("diamond-wide", "star-square", "star-diamond", "star-triangle-up", "star-triangle-down", "hexagon2"),
    *("triangle-ne", "triangle-se", "triangle-sw", "triangle-nw", "circle-cross", "circle-x", "square-cross"),
    *("square-x", "diamond-cross", "diamond-x", "asterisk", "hash", "y-up", "y-down", "y-left", "y-right"),
    *("arrow-up", "arrow-down", "arrow-left", "arrow-right"),
)


def shapes_of(studies: Sequence[str]) -> dict[str, str]:
    """One shape per study, the same in every figure that is shown beside this one."""
    return {study: SHAPES[i % len(SHAPES)] for i, study in enumerate(dict.fromkeys(studies))}


def published_line(line: Line, sizes: Sizes, shapes: Mapping[str, str], *, x: str, y: str) -> PublishedLine:
    """The points that have a place on the axis x (a key of X_TITLES). y: GAP or VALUE. shapes: marker by study."""
    scale = 100 / abs(line.best.value) if y == GAP else 1.0
    points = [
        PublishedPoint(
            x=place,
            y=100 * line.short_of_best(point.value) if y == GAP else point.value,
            r=point.rank,
            error=None if point.standard_error is None else point.standard_error * scale,
            text="<br>".join(_hover(line, point)),
        )
        for place, point in zip(places(line, sizes, x), line.points, strict=True)
        if place is not None
    ]
    study = line.study.study_id
    return PublishedLine(study, shapes[study], _label(line), points)


def places(line: Line, sizes: Sizes, x: str) -> Sequence[float | None]:
    """Of the points of a line on the axis x; None where the size is not known."""
    if x == "rank":
        return line.ranks
    return [size.parameters if x == "parameters" else size.file_bytes for size in sizes(line)]


def _label(line: Line) -> str:
    """Who, on what, and who tuned the learning rate; broken where the legend would be too wide."""
    runs = "one run each" if line.one_run else "bars: ± 1 s.e."
    policy = line.study.learning_rate_label.replace("learning rate", "rate").replace("learning-rate", "rate")
    base = line.model.base_model.rsplit("/", 1)[-1]
    method = "" if line.first.method == "lora" else f" ({escape(line.first.method)})"
    return f"{escape(line.study.label)}, {escape(base)}{method}<br>{policy}; {runs}"


def _hover(line: Line, point: QualityPoint) -> Sequence[str]:
    spread = " (one run)" if point.standard_error is None else f" ± {point.standard_error:g}"
    rate = f"learning rate {rate_text(point.learning_rate)}" if point.learning_rate else "learning rate not stated"
    tried = f", best of {point.learning_rates_tried}" if (point.learning_rates_tried or 0) > 1 else ""
    alpha = f"alpha {point.lora_alpha:g}" if point.lora_alpha else "alpha not stated"
    full = f"full fine-tuning {line.full.value:g}" if line.full else ""
    base = "" if point.base_value is None else f"before training {point.base_value:g}"
    parts = [
        f"<b>r = {point.rank}</b>: {point.value:g}{spread} {escape(metric_in_words(line))}",
        escape(f"{line.study.label}, {point.base_model}"),
        escape(point.task),
        escape(", ".join(filter(None, (point.duration, point.run_date)))),
        f"{rate}{tried}, {alpha}",
        escape(f"targets: {point.target_modules or 'not stated'}"),
        full,
        base,
    ]
    return [part for part in parts if part]


def rows_of(line: Line, near: Near, sizes: Sequence[AdapterSize]) -> Sequence[Mapping[str, object]]:
    """The line as rows of a table; what is not known is empty."""
    rows = []
    for point, size in zip(line.points, sizes, strict=True):
        row = {name: getattr(point, name) for name in POINT_COLUMNS} | {
            "study": line.study.study_id,
            "source": line.study.where,
            "r": point.rank,
            "lora_alpha": point.lora_alpha or None,
            "learning_rate": point.learning_rate or None,
            "learning_rate_policy": line.study.learning_rate_label,
            "trainable_parameters": size.parameters or None,
            "adapter_bytes": size.file_bytes or None,
            "size_computed": size.computed,
            "why_near": near.in_words,
        }
        rows.append({name: "" if row[name] is None else row[name] for name in COLUMNS})
    return rows


POINT_COLUMNS = (
    *("base_model", "task", "metric", "higher_is_better", "method", "target_modules", "value", "standard_error"),
    *("base_value", "duration", "run_date"),
)
COLUMNS = (
    *("study", "source", "base_model", "task", "metric", "higher_is_better", "method", "target_modules", "r"),
    *("lora_alpha", "learning_rate", "learning_rate_policy", "value", "standard_error", "base_value"),
    *("trainable_parameters", "adapter_bytes", "size_computed", "duration", "run_date", "why_near"),
)


class StudiesInfo(NamedTuple):
    """What a figure of published studies shows. x, y: keys of X_TITLES and Y_CHOICES."""

    lines: Sequence[PublishedLine]
    x: str
    y: str
    y_title: str
    ticks: Sequence[tuple[float, str]]
    x_range: tuple[float, float] | None
    """In powers of ten, so that figures side by side can be compared."""
    chosen_r: int | None
    empty: str
    unsized: Sequence[str] = ()
    """Studies that are left out because the size of their adapters is not known."""
    without_shares: Sequence[str] = ()
    """Studies of which something is left out because its best value is 0."""
    source: str = ""
    rows: Sequence[Mapping[str, object]] = ()


X_TITLES = {"rank": "LoRA rank r", "parameters": "trainable parameters", "file": "adapter file"}
GAP_TITLE = "% short of best (lower is better)"
DASHES = ("solid", "dot", "dash", "dashdot")
LEGEND_ROW_PIXELS = 38
SIZE_TICKS = [step * 10.0**power for power in range(3, 12) for step in (1, 3)]


def studies_info(
    near: Sequence[Near],
    *,
    sizes: Sizes,
    x: str = "rank",
    y: str = GAP,
    chosen_r: int | None = None,
    shapes: Mapping[str, str] | None = None,
) -> StudiesInfo:
    """Published lines of quality by rank or size.

    Args:
        near: The studies to show, the nearest first.
        sizes: Gives the adapter sizes of a line's points.
        x: A key of X_TITLES.
        y: GAP, or VALUE; then only lines with the first line's metric are shown.
        chosen_r: A rank to mark.
        shapes: Marker by study, where several figures stand side by side.
    """
    if x not in X_TITLES or y not in (GAP, VALUE):
        raise InvalidSettingError(f"No such axis: x is one of {', '.join(X_TITLES)}; y is {GAP} or {VALUE}.")
    shapes = shapes or shapes_of([each.line.study.study_id for each in near])
    metric = near[0].line.first.metric if near else ""
    lines, rows = [], []
    for each in near:
        for line in each.lines:
            if line.first.metric != metric if y == VALUE else not line.has_shares:
                continue
            shown = published_line(line, sizes, shapes, x=x, y=y)
            if shown.points:
                lines.append(shown)
                rows += rows_of(line, each, sizes(line))
    ranks = sorted({p.r for line in lines for p in line.points} | ({chosen_r} if chosen_r else set()))
    without_shares = [each.line.study.label for each in near if not all(line.has_shares for line in each.lines)]
    cited = dict.fromkeys(f"{each.line.study.citation} ({each.line.study.where})" for each in near)
    return StudiesInfo(
        lines=lines,
        x=x,
        y=y,
        y_title=GAP_TITLE if y == GAP else escape(metric_in_words(near[0].line)) if near else "",
        ticks=[(rank, str(rank)) for rank in _spaced(ranks)] if x == "rank" else _size_ticks(x),
        x_range=(-0.15, 3.2 if max(ranks, default=0) > 256 else 2.6) if x == "rank" else None,
        chosen_r=chosen_r if x == "rank" else None,
        empty=_why_empty(near, without_shares if y == GAP else []),
        unsized=[each.line.study.label for each in near if not any(places(line, sizes, x)[0] for line in each.lines)],
        without_shares=without_shares if y == GAP else [],
        source="; ".join(cited),
        rows=rows,
    )


def _why_empty(near: Sequence[Near], without_shares: Sequence[str]) -> str:
    if not near:
        return "No published study has these targets."
    if len(without_shares) == len(near):
        return "The best value is 0, so no value has a distance from it in percent."
    return "No published study with these targets states adapter sizes."


def _spaced(ranks: Sequence[int]) -> Sequence[int]:
    """Ranks as ticks, without those that would overlap."""
    kept: list[int] = []
    factor = 1.9 if max(ranks, default=1) < 512 else 3.9
    for rank in ranks:
        if not kept or rank >= factor * kept[-1]:
            kept.append(rank)
    return kept


def _size_ticks(x: str) -> Sequence[tuple[float, str]]:
    short = units.file_size if x == "file" else units.count
    return [(tick, short(int(tick)).replace(".00", "").replace(".0 ", " ")) for tick in SIZE_TICKS]


@figure
def studies_figure(info: StudiesInfo, *, height: int = 440, name: str = "studies") -> Drawing:
    """A logarithmic x axis. name: tells figures apart that stand side by side."""
    by_label: dict[str, list[PublishedLine]] = {}
    for line in info.lines:
        by_label.setdefault(line.label, []).append(line)
    groups = enumerate(by_label.values())
    legend = {"x": 0, "y": 0, "yref": "container", "yanchor": "bottom", "font": {"size": SMALL}, "tracegroupgap": 0}
    return draw(
        [_lines(group, DASHES[i % len(DASHES)], by_rank=info.x == "rank") for i, group in groups],
        height=height,
        uirevision=f"{name}|{info.x}|{info.y}",
        x={"type": "log", "tickangle": 0, **ticks_at(info.ticks)}
        | ({"range": list(info.x_range)} if info.x_range else {}),
        y={},
        x_title=X_TITLES[info.x],
        y_title=info.y_title,
        message="" if info.lines else info.empty,
        shapes=[vertical_line(info.chosen_r, CHOSEN)] if info.chosen_r and info.lines else [],
        showlegend=bool(info.lines),
        legend=legend,
        margin={"l": 58, "r": 14, "t": 12, "b": 52 + max(1, len(by_label)) * LEGEND_ROW_PIXELS},
    )


def _lines(group: Sequence[PublishedLine], dash: str, *, by_rank: bool) -> dict[str, Any]:
    """The lines of one legend entry as one trace: an empty point between two lines keeps them apart."""
    points: list[PublishedPoint | None] = [point for line in group for point in (*line.points, None)][:-1]
    errors = [p.error if p and p.error else 0 for p in points]
    look = {"array": errors, "arrayminus": None, "visible": any(errors), "color": rgba(PUBLISHED, 0.6)}
    labels = {} if by_rank else {"text": [f"{p.r}" if p else "" for p in points]}
    return scatter(
        [p and p.x for p in points],
        [p and p.y for p in points],
        mode="lines+markers" if by_rank else "lines+markers+text",
        **labels,
        textposition="top center",
        textfont={"size": SMALL},
        connectgaps=False,
        name=group[0].label,
        line={"color": rgba(PUBLISHED, 0.6), "width": 1.2, "dash": dash},
        marker={"color": PUBLISHED, "symbol": f"{group[0].shape}-open", "size": 9, "line": {"width": 1.6}},
        error_y=bars([], [], PUBLISHED, **look, thickness=1.2),
        meta=group[0].study,
        hovertext=[p.text if p else "" for p in points],
        hoverinfo="text",
    )
