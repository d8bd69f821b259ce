"""Up to four pinned configurations on one chart: every rank of each at its cost, the pinned rank marked."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rankviz.core.forecast.tradeoff import RANKS, Tradeoff
from rankviz.figures.hero.axes import X_AXES
from rankviz.figures.hero.chart import DRAWN_RANKS, x_range, y_title
from rankviz.figures.studies import DASHES
from rankviz.figures.style import CHOSEN, ESTIMATED, Drawing, draw, figure

SHAPES = ("circle", "square", "diamond", "triangle-up")


class Pinned(NamedTuple):
    """One configuration: its letter and rank, and the ranks that it could have. x, y: places on the axes."""

    label: str
    r: int
    ranks: Sequence[int]
    xs: Sequence[float]
    ys: Sequence[float]


class CompareInfo(NamedTuple):
    """What the chart shows."""

    pinned: Sequence[Pinned]
    x_title: str
    y_title: str
    log_x: bool
    ticks: Sequence[tuple[float, str]]
    empty: str
    rows: Sequence[Mapping[str, object]]


def compare_info(tradeoffs: Sequence[tuple[str, int, Tradeoff]], *, x: str = "file") -> CompareInfo:
    """tradeoffs: a label, the pinned rank and the trade-off of each, all of the same quality. x: a key of X_AXES."""
    every = [rank for _, _, tradeoff in tradeoffs for rank in tradeoff.estimate.ranks if rank.r in RANKS]
    axis = X_AXES[x](every)
    pinned = []
    for label, r, tradeoff in tradeoffs:
        medians = {rank.r: rank.median for rank in tradeoff.forecast.ranks}
        places = {rank.r: axis.value(rank) for rank in tradeoff.estimate.ranks}
        ranks = [k for k in medians if (k in DRAWN_RANKS or k == r) and places[k] is not None]
        pinned.append(Pinned(label, r, ranks, [places[k] for k in ranks], [medians[k] for k in ranks]))
    return CompareInfo(
        pinned=pinned,
        x_title=axis.title,
        y_title=y_title(tradeoffs[0][2]) if tradeoffs else "",
        log_x=axis.log,
        ticks=axis.ticks,
        empty="" if any(each.ranks for each in pinned) else axis.unknown or "Nothing is pinned.",
        rows=[
            {"configuration": each.label, "r": r, axis.title: at, "forecast": value}
            for each in pinned
            for r, at, value in zip(each.ranks, each.xs, each.ys, strict=True)
        ],
    )


@figure
def compare_figure(info: CompareInfo, *, height: int = 320) -> Drawing:
    """A line a configuration, estimated; the pinned rank of each is a mark with its letter."""
    traces: list[dict[str, Any]] = []
    for each, dash, shape in zip(info.pinned, DASHES, SHAPES, strict=False):
        here = [place for place, r in enumerate(each.ranks) if r == each.r]
        traces += [
            {
                "type": "scatter",
                "mode": "lines",
                "name": each.label,
                "x": each.xs,
                "y": each.ys,
                "line": {"color": ESTIMATED, "width": 2, "dash": dash},
                "hovertext": [f"<b>{each.label}</b><br>r = {r}" for r in each.ranks],
                "hoverinfo": "text",
            },
            {
                "type": "scatter",
                "mode": "markers+text",
                "showlegend": False,
                "name": f"{each.label}, r = {each.r}",
                "x": [each.xs[place] for place in here],
                "y": [each.ys[place] for place in here],
                "text": [f" {each.label[0]}: r = {each.r}"] * len(here),
                "textposition": "top right",
                "marker": {"color": CHOSEN, "size": 12, "symbol": shape, "line": {"color": "white", "width": 1}},
                "hoverinfo": "skip",
                "cliponaxis": False,
            },
        ]
    every = [x for each in info.pinned for x in each.xs]
    places, texts = [at for at, _ in info.ticks], [text for _, text in info.ticks]
    ticks = {"tickmode": "array", "tickvals": places, "ticktext": texts} if info.ticks else {}
    return draw(
        traces if not info.empty else [],
        height=height,
        uirevision=f"compare|{info.x_title}",
        x={"type": "log" if info.log_x else "linear", "range": x_range(every, log=info.log_x), **ticks},
        y={},
        x_title=info.x_title,
        y_title=info.y_title,
        message=info.empty,
        showlegend=not info.empty,
    )
