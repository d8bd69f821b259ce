"""The trade-off chart of one model: every rank at its cost, against its expected quality.

Estimated is a band with a median, published lines are faint with open markers, own runs are filled markers with error
bars, a fast curve is dashed. The chosen rank is not drawn here: the page draws it over the chart, so that it follows at
once.
"""

from collections.abc import Mapping, Sequence
from math import log10
from typing import Any, NamedTuple

from rankviz.core.cost.estimate import RankEstimate
from rankviz.core.forecast.bands import GRID, KINDS, LOSS, QUALITY_WORDS, UNIT_WORDS
from rankviz.core.forecast.tradeoff import RANKS, SHORTFALL_LOSS, SHORTFALL_SCORE, Tradeoff
from rankviz.core.runs.metric import METRICS
from rankviz.errors import InvalidSettingError
from rankviz.figures.forecast import INNER, ForecastRank, bands
from rankviz.figures.hero.axes import X_AXES
from rankviz.figures.hero.lines import HeroLine, line_traces, published_lines, run_lines
from rankviz.figures.style import ESTIMATED, SMALL, Drawing, draw, figure
from rankviz.units import rounded_percent

DRAWN_RANKS = frozenset([*range(1, 17), *range(18, 33, 2), *range(36, 65, 4), *range(72, 129, 8), *range(144, 257, 16)])
"""Enough for a smooth band on any axis."""
LABEL_ROOM = 0.035
"""Share of the axis that a rank's label takes."""
WHOLE_BAND_FROM = 8
"""The whole 80 % band is in the picture from this rank on."""
QUALITY_LABELS = {
    SHORTFALL_LOSS: "Shortfall, % of loss",
    SHORTFALL_SCORE: "Shortfall, points",
    **{metric.key: metric.label for metric in METRICS.values()},
}
HANGS = (
    "Published lines and runs know only differences between their own ranks: each is placed so that its highest rank "
    "lies on the median, or at 0 where nothing is forecast."
)


class HeroInfo(NamedTuple):
    """What the chart shows. xs: the cost of every rank of RANKS, None where it is not known."""

    xs: Sequence[float | None]
    band: Sequence[ForecastRank]
    band_label: str
    lines: Sequence[HeroLine]
    x_title: str
    y_title: str
    log_x: bool
    ticks: Sequence[tuple[float, str]]
    sentences: Sequence[str]
    empty: str = ""
    rows: Sequence[Mapping[str, object]] = ()
    heading: str = ""
    facts: Sequence[str] = ()
    """What holds over published studies."""
    reference: int | None = None
    """The rank that the band is a distance from, so that it has no width there."""


def hero_info(tradeoff: Tradeoff, *, x: str = "file") -> HeroInfo:
    """Every rank of the trade-off at its cost; at itself where costs are not known. x: a key of X_AXES."""
    if x not in X_AXES:
        raise InvalidSettingError(f"The cost axis must be one of {', '.join(X_AXES)} (got {x}).")
    costs = {rank.r: rank for rank in tradeoff.estimate.ranks} if tradeoff.estimate else {}
    x = x if costs else "rank"
    axis = X_AXES[x]([costs[r] for r in RANKS if costs])
    place = {r: axis.value(costs[r]) for r in costs} or {r: r for r in RANKS}
    known = {r: value for r, value in place.items() if value is not None}
    forecast = tradeoff.forecast or tradeoff.bent
    band = [rank for rank in forecast.ranks if rank.r in known] if forecast else []
    median = {point.r: point.median for point in band} or dict.fromkeys(known, 0.0)
    lines = [
        *published_lines(tradeoff.published, known, median, by_rank=x == "rank"),
        *run_lines(tradeoff, known, median),
    ]
    return HeroInfo(
        xs=[place[r] for r in RANKS],
        band=band,
        band_label=_band_label(tradeoff),
        lines=lines,
        x_title=axis.title,
        y_title=y_title(tradeoff),
        log_x=axis.log,
        ticks=axis.ticks,
        sentences=_sentences(tradeoff, lines),
        heading=tradeoff.forecast.heading if tradeoff.forecast else "",
        facts=tradeoff.forecast.facts if tradeoff.forecast else (),
        reference=tradeoff.forecast.reference_rank if tradeoff.forecast else None,
        empty="" if known else axis.unknown,
        rows=_rows(band, lines, costs),
    )


def y_title(tradeoff: Tradeoff) -> str:
    """The quality, its unit, and which way is better."""
    if tradeoff.forecast:
        forecast = tradeoff.forecast
        other = f"r = {forecast.reference_rank}" if forecast.ranks else "each line's highest rank"
        return f"{UNIT_WORDS[forecast.unit]} short of {other} (lower is better)"
    return METRICS[tradeoff.quality].title


def _band_label(tradeoff: Tradeoff) -> str:
    """What the band is, with how often such bands have held where that was counted."""
    forecast = tradeoff.forecast
    if forecast is None:
        recorded = tradeoff.bent is not None and tradeoff.sweeps[0].recorded
        known = tradeoff.bent is not None and tradeoff.bent.noise_nats is not None
        return f"forecast between {'recorded' if recorded else 'your'} runs{', 80 % band' if known else ''}"
    if forecast.coverage_80_left_out is None:
        return "forecast, 80 % band (not checked)"
    of = "" if forecast.kind == LOSS else f" on {KINDS[forecast.kind]}"
    return (
        f"forecast, 80 % band (held {rounded_percent(forecast.coverage_80_left_out, 0)} of unseen "
        f"{QUALITY_WORDS[forecast.unit]}{of})"
    )


def _sentences(tradeoff: Tradeoff, lines: Sequence[HeroLine]) -> list[str]:
    """What the chart rests on; the sentences of the forecast, then how lines are placed."""
    forecast = tradeoff.forecast or tradeoff.bent
    words = list(forecast.sentences) if forecast else []
    if tradeoff.forecast and lines:
        words.append(HANGS)
    if tradeoff.sweeps and tradeoff.quality == SHORTFALL_SCORE:
        words.append("Runs of this model measured a loss, not a score: choose another quality to see them.")
    return words


def _rows(
    band: Sequence[ForecastRank], lines: Sequence[HeroLine], costs: Mapping[int, RankEstimate]
) -> list[dict[str, object]]:
    rows = []
    for point in (point for point in band if point.r in DRAWN_RANKS):
        row = {
            "kind": "forecast",
            "source": "",
            "r": point.r,
            "value": point.median,
            **{name: getattr(point, name) for name in ("low_50", "high_50", "low_80", "high_80")},
        }
        if cost := costs.get(point.r):
            row |= {
                "adapter_parameters": cost.adapter_parameters,
                "adapter_bytes": cost.adapter_bytes,
                "memory_bytes": cost.memory.device,
                "seconds": cost.duration.total.expected if cost.duration else "",
                "usd": cost.cost.usd.expected if cost.cost else "",
            }
        rows.append(row)
    columns = list(rows[0]) if rows else ["kind", "source", "r", "value"]
    for line in lines:
        for point in line.points:
            row = dict.fromkeys(columns, "") | {"kind": line.kind, "source": line.label, "r": point.r, "value": point.y}
            rows.append(row)
    return rows


EVERY_RANK = "every rank"
"""The trace that the page fills with all costs of a rank, for its hover."""


@figure
def hero_figure(info: HeroInfo, *, height: int = 400) -> Drawing:
    """The band below, lines over it, runs on top."""
    ticks = {
        "tickmode": "array",
        "tickvals": [at for at, _ in info.ticks],
        "ticktext": [text for _, text in info.ticks],
    }
    return draw(
        [*_band_traces(info), *line_traces(info.lines)] if not info.empty else [],
        height=height,
        uirevision=f"{info.x_title}|{info.y_title}",
        x={
            "type": "log" if info.log_x else "linear",
            "range": x_range([*info.xs, *(point.x for line in info.lines for point in line.points)], log=info.log_x),
            **(ticks if info.ticks else {}),
        },
        y={"range": _y_range(info)},
        x_title=info.x_title,
        y_title=info.y_title,
        message=info.empty,
        hovermode="closest",
        hoverdistance=30,
        dragmode=False,
        showlegend=not info.empty,
    )


def x_range(places: Sequence[float | None], *, log: bool) -> list[float] | None:
    """A little more than all places, so that the ends can be grasped; None where no place is known."""
    xs = [(log10(x) if log else x) for x in places if x is not None]
    if not xs:
        return None
    low, high = min(xs), max(xs)
    room = 0.04 * (high - low) or abs(high) * 0.05 or 1.0
    return [low - room, high + room]


def _y_range(info: HeroInfo) -> list[float] | None:
    """All but the far end of the 80 % band at the lowest ranks, which would press everything else flat."""
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
    """An entry of the legend for the band and the median, and one for the inner band; the ranks that a band has by
    name; every rank, for the hover."""
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
    base = {"type": "scatter", "showlegend": False, "mode": "markers"}
    return [
        pieces[0] | {"legendrank": 1},
        *pieces[1:],
        {
            **base,
            "name": EVERY_RANK,
            "x": [xs[rank.r] for rank in info.band],
            "y": [rank.median for rank in info.band],
            "ids": [str(rank.r) for rank in info.band],
            "marker": {"size": 9, "color": "rgba(0,0,0,0)"},
        },
        {
            **base,
            "name": "powers of two",
            "mode": "markers+text",
            "x": [xs[rank.r] for rank in stops],
            "y": [rank.median for rank in stops],
            "text": _labels([xs[rank.r] for rank in stops], [str(rank.r) for rank in stops], info),
            "textposition": "top center",
            "textfont": {"size": SMALL},
            "marker": {"size": 7, "color": ESTIMATED},
            "hoverinfo": "skip",
            "cliponaxis": False,
        },
        *(
            {
                **base,
                "name": f"r = {rank.r}: the reference, 0 by definition",
                "showlegend": True,
                "legendrank": 3,
                "x": [xs[rank.r]],
                "y": [rank.median],
                "marker": {"size": 10, "color": "white", "line": {"color": ESTIMATED, "width": 2}},
                "hoverinfo": "skip",
                "cliponaxis": False,
            }
            for rank in stops
            if rank.r == info.reference
        ),
    ]


def _labels(xs: Sequence[float], texts: Sequence[str], info: HeroInfo) -> list[str]:
    """Only those that have room: on a cost that rank hardly moves, the low ranks lie on one another."""
    low, high = x_range(info.xs, log=info.log_x)
    labels, last = [], float("-inf")
    for x, text in zip(xs, texts, strict=True):
        place = ((log10(x) if info.log_x else x) - low) / (high - low)
        has_room = place - last >= LABEL_ROOM
        labels.append(text if has_room else "")
        last = place if has_room else last
    return labels
