"""Quality by rank as a forecast: bands and a median, dashed where extrapolated, with measured runs on top."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log2
from statistics import NormalDist
from typing import Any, NamedTuple

from rankviz.core.forecast.bands import Forecast
from rankviz.core.forecast.bent import BentForecast
from rankviz.core.forecast.words import UNIT_WORDS
from rankviz.figures.style import CHOSEN, ESTIMATED, MEASURED, Drawing, draw, figure, rgba, vertical_line

INNER = "50 % band"
EXTRAPOLATED = ", extrapolated"
"""What the name of a trace ends with where no line has a point."""
EMPTY = "There is no forecast yet. It needs finished runs at two ranks."


class ForecastRank(NamedTuple):
    """The band at one rank, in the figure's unit; None where only the median is known."""

    r: int
    median: float
    low_50: float | None
    high_50: float | None
    low_80: float | None
    high_80: float | None
    extrapolated: bool
    detail: str


class MeasuredPoint(NamedTuple):
    """Runs of one rank. sd: spread of one run, measured or assumed; None where not known."""

    r: int
    value: float
    sd: float | None
    detail: str


class ForecastInfo(NamedTuple):
    """What the figure of a forecast shows."""

    ranks: Sequence[ForecastRank] = ()
    runs: Sequence[MeasuredPoint] = ()
    y_title: str = ""
    chosen: int | None = None
    source: str = ""
    rows: Sequence[Mapping[str, object]] = ()


def forecast_info(forecast: Forecast | BentForecast | None, *, chosen: int | None = None) -> ForecastInfo:
    """From a forecast of either kind; None gives the axes and a sentence. chosen: a rank to mark."""
    if forecast is None:
        return ForecastInfo(chosen=chosen)
    own = isinstance(forecast, BentForecast)
    unit = "nats" if own else UNIT_WORDS[forecast.unit]
    return ForecastInfo(
        ranks=[_rank(rank, unit) for rank in forecast.ranks],
        runs=[
            MeasuredPoint(run.r, run.loss, run.sd, f"{run.loss:.4f} nats, {_runs(run.runs)}") for run in forecast.runs
        ]
        if own
        else [],
        y_title="held-out loss, nats per token (lower is better)"
        if own
        else f"shortfall from r = {forecast.reference_rank}, {unit} (lower is better)",
        chosen=chosen,
        source=" ".join(forecast.sentences),
        rows=_rows(forecast),
    )


def _runs(runs: int) -> str:
    return "one run" if runs == 1 else f"mean of {runs} runs"


def _rank(rank: Any, unit: str) -> ForecastRank:
    extrapolated = getattr(rank, "extrapolated", False)
    band = rank.low_80 is not None and (
        f"<br>50 % band {rank.low_50:.3g} to {rank.high_50:.3g}<br>80 % band {rank.low_80:.3g} to {rank.high_80:.3g}"
    )
    detail = f"median {rank.median:.3g} {unit}{band or ''}" + ("<br>extrapolated" if extrapolated else "")
    return ForecastRank(rank.r, rank.median, rank.low_50, rank.high_50, rank.low_80, rank.high_80, extrapolated, detail)


def _rows(forecast: Forecast | BentForecast) -> Sequence[Mapping[str, object]]:
    columns = ("r", "median", "low_50", "high_50", "low_80", "high_80")
    rows = [
        {"kind": "forecast", **{name: getattr(rank, name) for name in columns}, "measured": "", "runs": ""}
        for rank in forecast.ranks
    ]
    if isinstance(forecast, Forecast):
        return rows
    return rows + [
        {"kind": "measured", "r": run.r, **dict.fromkeys(columns[1:], ""), "measured": run.loss, "runs": run.runs}
        for run in forecast.runs
    ]


@figure
def forecast_figure(info: ForecastInfo, *, height: int = 320) -> Drawing:
    """Estimated is a band and a line, measured is a marker."""
    ranks = sorted({rank.r for rank in info.ranks} | {run.r for run in info.runs})
    return draw(
        [*bands(info.ranks), *([_markers(info.runs)] if info.runs else [])],
        height=height,
        uirevision=f"forecast|{ranks}|{info.y_title}",
        x={"type": "log", "tickvals": ranks, "ticktext": [str(r) for r in ranks], "range": _span(ranks)},
        y={},
        x_title="LoRA rank r",
        y_title=info.y_title,
        message="" if info.ranks else EMPTY,
        shapes=[vertical_line(info.chosen, CHOSEN)] if info.chosen else [],
        showlegend=bool(info.ranks),
    )


def _span(ranks: Sequence[int]) -> list[float] | None:
    if not ranks:
        return None
    ends = log2(ranks[0]) - 0.3, log2(ranks[-1]) + 0.3
    return [end / log2(10) for end in ends]


def bands(ranks: Sequence[ForecastRank], xs: Mapping[int, float] | None = None) -> list[dict[str, Any]]:
    """Each stretch of ranks that is extrapolated, or is not, with its own fill; they meet at a rank with lines.

    xs: where each rank lies on the x axis; by default at itself.
    """
    xs = xs or {rank.r: rank.r for rank in ranks}
    traces: list[dict[str, Any]] = []
    for stretch, extrapolated in _stretches(ranks):
        if all(rank.low_80 is not None for rank in stretch):
            traces += [
                _band(stretch, xs, "low_80", "high_80", "80 % band", 0.16, extrapolated),
                _band(stretch, xs, "low_50", "high_50", INNER, 0.26, extrapolated),
            ]
        traces.append(_median(stretch, xs, extrapolated))
    names: set[str] = set()
    for trace in traces:
        # One hatched entry explains them all, so that the legend leaves room on a phone.
        trace["showlegend"] = trace["name"] not in {*names, f"{INNER}{EXTRAPOLATED}", f"median{EXTRAPOLATED}"}
        trace["legendrank"] = 1001 if trace["name"].endswith(EXTRAPOLATED) else 1000
        names.add(trace["name"])
    return traces


def _stretches(ranks: Sequence[ForecastRank]) -> list[tuple[Sequence[ForecastRank], bool]]:
    """Between two neighbours the band is extrapolated where one of them is."""
    gaps = [low.extrapolated or high.extrapolated for low, high in pairwise(ranks)]
    ends = [0, *(place for place in range(1, len(gaps)) if gaps[place] is not gaps[place - 1]), len(gaps)]
    return [(ranks[first : last + 1], gaps[first]) for first, last in pairwise(ends) if first < last]


def _band(
    ranks: Sequence[ForecastRank],
    xs: Mapping[int, float],
    low: str,
    high: str,
    name: str,
    opacity: float,
    extrapolated: bool,
) -> dict[str, Any]:
    hatch = {"fillpattern": {"shape": "/", "size": 6, "solidity": 0.25, "fgcolor": rgba(ESTIMATED, 2 * opacity)}}
    return {
        "type": "scatter",
        "x": [xs[rank.r] for rank in (*ranks, *reversed(ranks))],
        "y": [getattr(rank, high) for rank in ranks] + [getattr(rank, low) for rank in reversed(ranks)],
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": rgba(ESTIMATED, opacity),
        "name": name + EXTRAPOLATED if extrapolated else name,
        "hoverinfo": "skip",
        **(hatch if extrapolated else {}),
    }


def _median(ranks: Sequence[ForecastRank], xs: Mapping[int, float], extrapolated: bool) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": [xs[rank.r] for rank in ranks],
        "y": [rank.median for rank in ranks],
        "mode": "lines",
        "name": "median" + EXTRAPOLATED if extrapolated else "median",
        "line": {"color": ESTIMATED, "width": 2, "dash": "dot" if extrapolated else "solid"},
        "hovertext": [f"<b>r = {rank.r}</b><br>{rank.detail}" for rank in ranks],
        "hoverinfo": "text",
    }


def _markers(runs: Sequence[MeasuredPoint]) -> dict[str, Any]:
    reach = NormalDist().inv_cdf(0.9)
    return {
        "type": "scatter",
        "x": [run.r for run in runs],
        "y": [run.value for run in runs],
        "mode": "markers",
        "name": "measured",
        "marker": {"color": MEASURED, "size": 11, "line": {"color": "white", "width": 1}},
        "error_y": {
            "type": "data",
            "array": [0 if run.sd is None else reach * run.sd for run in runs],
            "visible": any(run.sd is not None for run in runs),
            "color": rgba(MEASURED, 0.7),
            "thickness": 1.3,
            "width": 4,
        },
        "hovertext": [f"<b>r = {run.r}</b><br>{run.detail}" for run in runs],
        "hoverinfo": "text",
        "cliponaxis": False,
    }
