"""Published quality by rank or by adapter size: one line per study, base model and run date."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from rankviz import units
from rankviz.core.advice.words import metric_in_words, rate_text
from rankviz.core.studies.lines import AdapterSize, Line, Near, QualityPoint
from rankviz.errors import InvalidSettingError
from rankviz.figures.style import (
    CHOSEN,
    PUBLISHED,
    SMALL,
    Drawing,
    Rows,
    bars,
    draw,
    figure,
    rgba,
    scatter,
    ticks_at,
    vertical_line,
)

SHAPES = (
    *("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon", "star", "cross", "x"),
    *("hourglass", "bowtie", "triangle-left", "triangle-right", "octagon", "hexagram", "diamond-tall"),
    *("diamond-wide", "star-square", "star-diamond", "star-triangle-up", "star-triangle-down", "hexagon2"),
    *("triangle-ne", "triangle-se", "triangle-sw", "triangle-nw", "circle-cross", "circle-x", "square-cross"),
    *("square-x", "diamond-cross", "diamond-x", "asterisk", "hash", "y-up", "y-down", "y-left", "y-right"),
    *("arrow-up", "arrow-down", "arrow-left", "arrow-right"),
)
DASHES = ("solid", "dot", "dash", "dashdot")
LEGEND_ROW_PIXELS = 38
X_TITLES = {"rank": "LoRA rank r", "file": "adapter file"}
SIZE_TICKS = [step * 10**power for power in range(3, 12) for step in (1, 3)]
NO_SHARES = "The best value is 0, so no value has a distance from it in percent."
POINT_COLUMNS = (
    *("base_model", "task", "metric", "higher_is_better", "method", "target_modules", "value", "standard_error"),
    *("base_value", "duration", "run_date"),
)
COLUMNS = (
    *("study", "source", "base_model", "task", "metric", "higher_is_better", "method", "target_modules", "r"),
    *("lora_alpha", "learning_rate", "learning_rate_policy", "value", "standard_error", "base_value"),
    *("trainable_parameters", "adapter_bytes", "size_computed", "duration", "run_date", "why_near"),
)


class PublishedPoint(NamedTuple):
    """One rank of a study. x: its rank or file size in bytes. y: distance from the line's best value, in percent.
    error: half the length of an error bar, None where there was one run. text: the hover, lines joined by <br>."""

    x: float
    r: int
    y: float
    error: float | None
    text: str


class PublishedLine(NamedTuple):
    """Points of one line of a study. shape: the study's marker. label: the entry in the legend."""

    study: str
    shape: str
    label: str
    points: Sequence[PublishedPoint]


class StudiesInfo(NamedTuple):
    """Content of the figure of published studies. x: a key of X_TITLES. ranks: ticks of a rank axis. empty: a sentence
    that replaces the lines where there are none. without_shares: labels of studies with lines left out, because their
    best value is 0."""

    lines: Sequence[PublishedLine]
    x: str = "rank"
    ranks: Sequence[int] = ()
    chosen_r: int | None = None
    empty: str = ""
    without_shares: Sequence[str] = ()
    source: str = ""
    rows: Rows = ()


def shapes_of(studies: Sequence[str]) -> dict[str, str]:
    """Return one marker shape per study id, so that figures side by side can share the mapping."""
    return {study: SHAPES[i % len(SHAPES)] for i, study in enumerate(dict.fromkeys(studies))}


def studies_info(
    near: Sequence[Near],
    *,
    sizes: Callable[[Line], Sequence[AdapterSize]],
    x: str = "rank",
    chosen_r: int | None = None,
    shapes: Mapping[str, str] | None = None,
) -> StudiesInfo:
    """Return published lines of quality by rank or by file size; by size, lines without known sizes are left out.

    Args:
        near: The studies to show, the nearest first.
        sizes: Returns the adapter sizes of a line's points.
        x: A key of X_TITLES.
        shapes: Marker by study, for figures side by side; by default one is chosen for each.
    """
    if x not in X_TITLES:
        raise InvalidSettingError(f"No such axis: x is one of {', '.join(X_TITLES)}.")
    shapes = shapes or shapes_of([each.line.study.study_id for each in near])
    every = [(each, line, sizes(line)) for each in near for line in each.lines if line.has_shares]
    drawn = [row for row in every if x == "rank" or all(size.file_bytes for size in row[2])]
    ranks = sorted({r for _, line, _ in drawn for r in line.ranks} | ({chosen_r} if chosen_r else set()))
    without_shares = [each.line.study.label for each in near if not all(line.has_shares for line in each.lines)]
    empty = "No published study with these targets states adapter sizes." if every else NO_SHARES
    cited = dict.fromkeys(f"{each.line.study.citation} ({each.line.study.where})" for each in near)
    return StudiesInfo(
        lines=[_published_line(line, size if x == "file" else None, shapes) for _, line, size in drawn],
        x=x,
        ranks=ranks,
        chosen_r=chosen_r if x == "rank" else None,
        empty=empty if near else "No published study has these targets.",
        without_shares=without_shares,
        source="; ".join(cited),
        rows=[row for each, line, size in drawn for row in _rows(line, each, size)],
    )


def _published_line(line: Line, sizes: Sequence[AdapterSize] | None, shapes: Mapping[str, str]) -> PublishedLine:
    scale = 100 / abs(line.best.value)
    places = [size.file_bytes for size in sizes] if sizes else line.ranks
    points = [
        PublishedPoint(
            x=x,
            r=point.rank,
            y=100 * line.short_of_best(point.value),
            error=None if point.standard_error is None else point.standard_error * scale,
            text="<br>".join(filter(None, _hover(line, point))),
        )
        for x, point in zip(places, line.points, strict=True)
    ]
    # Who, on what, and who tuned the learning rate; broken where the legend would be too wide.
    runs = "one run each" if line.one_run else "bars: ± 1 s.e."
    policy = line.study.learning_rate_label.replace("learning rate", "rate").replace("learning-rate", "rate")
    base = line.model.base_model.rsplit("/", 1)[-1]
    method = "" if line.first.method == "lora" else f" ({escape(line.first.method)})"
    label = f"{escape(line.study.label)}, {escape(base)}{method}<br>{policy}; {runs}"
    return PublishedLine(line.study.study_id, shapes[line.study.study_id], label, points)


def _hover(line: Line, point: QualityPoint) -> Sequence[str]:
    spread = " (one run)" if point.standard_error is None else f" ± {point.standard_error:g}"
    rate = f"learning rate {rate_text(point.learning_rate)}" if point.learning_rate else "learning rate not stated"
    tried = f", best of {point.learning_rates_tried}" if (point.learning_rates_tried or 0) > 1 else ""
    alpha = f"alpha {point.lora_alpha:g}" if point.lora_alpha else "alpha not stated"
    return (
        f"<b>r = {point.rank}</b>: {point.value:g}{spread} {escape(metric_in_words(line))}",
        escape(f"{line.study.label}, {point.base_model}"),
        escape(point.task),
        escape(", ".join(filter(None, (point.duration, point.run_date)))),
        f"{rate}{tried}, {alpha}",
        escape(f"targets: {point.target_modules or 'not stated'}"),
        f"full fine-tuning {line.full.value:g}" if line.full else "",
        "" if point.base_value is None else f"before training {point.base_value:g}",
    )


def _rows(line: Line, near: Near, sizes: Sequence[AdapterSize]) -> Rows:
    """Return the line as table rows; unknown cells are empty."""
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


@figure
def studies_figure(info: StudiesInfo, *, height: int = 440, name: str = "studies") -> Drawing:
    """Draw published lines on a logarithmic axis. name: distinguishes figures side by side, for their zoom."""
    by_label: dict[str, list[PublishedLine]] = {}
    for line in info.lines:
        by_label.setdefault(line.label, []).append(line)
    highest, ticks = max(info.ranks, default=1), []
    for rank in info.ranks:  # without those that would overlap
        if not ticks or rank >= (1.9 if highest < 512 else 3.9) * ticks[-1]:
            ticks.append(rank)
    by_rank = {**ticks_at([(rank, str(rank)) for rank in ticks]), "range": [-0.15, 3.2 if highest > 256 else 2.6]}
    by_size = ticks_at([(size, units.file_size(size).replace(".0 ", " ")) for size in SIZE_TICKS])
    legend = {"x": 0, "y": 0, "yref": "container", "yanchor": "bottom", "font": {"size": SMALL}, "tracegroupgap": 0}
    return draw(
        [_lines(group, DASHES[i % len(DASHES)]) for i, group in enumerate(by_label.values())],
        height=height,
        uirevision=f"{name}|{info.x}",
        # The same range in figures side by side, so that they can be compared.
        x={"type": "log", "tickangle": 0, **(by_rank if info.x == "rank" else by_size)},
        y={},
        x_title=X_TITLES[info.x],
        y_title="% short of best (lower is better)",
        message="" if info.lines else info.empty,
        shapes=[vertical_line(info.chosen_r, CHOSEN)] if info.chosen_r and info.lines else [],
        showlegend=bool(info.lines),
        legend=legend,
        margin={"l": 58, "r": 14, "t": 12, "b": 52 + max(1, len(by_label)) * LEGEND_ROW_PIXELS},
    )


def _lines(group: Sequence[PublishedLine], dash: str) -> dict[str, Any]:
    """Return all lines of one legend entry as a single trace, with an empty point between two lines."""
    points: list[PublishedPoint | None] = [point for line in group for point in (*line.points, None)][:-1]
    errors = [p.error if p and p.error else 0 for p in points]
    look = {"array": errors, "arrayminus": None, "visible": any(errors), "color": rgba(PUBLISHED, 0.6)}
    return scatter(
        [p and p.x for p in points],
        [p and p.y for p in points],
        mode="lines+markers",
        connectgaps=False,
        name=group[0].label,
        line={"color": rgba(PUBLISHED, 0.6), "width": 1.2, "dash": dash},
        marker={"color": PUBLISHED, "symbol": f"{group[0].shape}-open", "size": 9, "line": {"width": 1.6}},
        error_y=bars([], [], PUBLISHED, **look, thickness=1.2),
        meta=group[0].study,
        hovertext=[p.text if p else "" for p in points],
        hoverinfo="text",
    )
