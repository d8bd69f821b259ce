"""Published quality against rank or size: a line per study, base and run date, never joined across, all of it teal."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from rankviz import units
from rankviz.core.advice.words import metric_in_words
from rankviz.core.studies.nearest import Near
from rankviz.errors import InvalidSettingError
from rankviz.figures.study_lines import (
    GAP,
    VALUE,
    PublishedLine,
    PublishedPoint,
    Sizes,
    places,
    published_line,
    rows_of,
    shapes_of,
)
from rankviz.figures.style import CHOSEN, PUBLISHED, SMALL, Drawing, draw, figure, rgba, vertical_line


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
    traces = [
        _lines(group, DASHES[i % len(DASHES)], by_rank=info.x == "rank") for i, group in enumerate(by_label.values())
    ]
    legend = max(1, len(by_label)) * LEGEND_ROW_PIXELS
    return draw(
        traces,
        height=height,
        uirevision=f"{name}|{info.x}|{info.y}",
        x={
            "type": "log",
            "tickangle": 0,
            "tickmode": "array",
            "tickvals": [tick for tick, _ in info.ticks],
            "ticktext": [text for _, text in info.ticks],
        }
        | ({"range": list(info.x_range)} if info.x_range else {}),
        y={},
        x_title=X_TITLES[info.x],
        y_title=info.y_title,
        message="" if info.lines else info.empty,
        shapes=[vertical_line(info.chosen_r, CHOSEN)] if info.chosen_r and info.lines else [],
        showlegend=bool(info.lines),
        legend={
            "x": 0,
            "y": 0,
            "yref": "container",
            "yanchor": "bottom",
            "font": {"size": SMALL},
            "tracegroupgap": 0,
        },
        margin={"l": 58, "r": 14, "t": 12, "b": 52 + legend},
    )


def _lines(group: Sequence[PublishedLine], dash: str, *, by_rank: bool) -> dict[str, Any]:
    """The lines of one legend entry as one trace: an empty point between two lines keeps them apart."""
    points: list[PublishedPoint | None] = []
    for line in group:
        points += [*line.points, None]
    points.pop()
    return {
        "type": "scatter",
        "x": [p and p.x for p in points],
        "y": [p and p.y for p in points],
        "mode": "lines+markers" if by_rank else "lines+markers+text",
        "text": None if by_rank else [f"{p.r}" if p else "" for p in points],
        "textposition": "top center",
        "textfont": {"size": SMALL},
        "connectgaps": False,
        "name": group[0].label,
        "line": {"color": rgba(PUBLISHED, 0.6), "width": 1.2, "dash": dash},
        "marker": {"color": PUBLISHED, "symbol": f"{group[0].shape}-open", "size": 9, "line": {"width": 1.6}},
        "error_y": {
            "type": "data",
            "array": [p.error if p and p.error else 0 for p in points],
            "visible": any(p and p.error for p in points),
            "color": rgba(PUBLISHED, 0.6),
            "thickness": 1.2,
            "width": 4,
        },
        "meta": group[0].study,
        "hovertext": [p.text if p else "" for p in points],
        "hoverinfo": "text",
    }
