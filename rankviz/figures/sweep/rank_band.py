"""The forecast between the runs of a sweep, as it lies under them in the figure of loss by rank."""

from collections.abc import Sequence
from typing import Any

from rankviz.figures.forecast import INNER, ForecastRank, bands

NAME, MEDIAN = "estimated, 80 % band", "estimated, noise not known"


def band_traces(ranks: Sequence[ForecastRank]) -> Sequence[dict[str, Any]]:
    """Bands of 80 and 50 % and the median, with an entry of the legend for each band; or the median alone."""
    name = NAME if ranks and ranks[0].low_80 is not None else MEDIAN
    return [
        trace if trace["name"] == INNER else trace | {"name": name, "legendgroup": name, "showlegend": place == 0}
        for place, trace in enumerate(bands(ranks))
    ]


def band_rows(ranks: Sequence[ForecastRank]) -> Sequence[dict[str, object]]:
    """The band as rows of the figure's CSV; the loss is the median."""
    bounds = ("low_50", "high_50", "low_80", "high_80")
    return [
        {"kind": "estimated band", "r": rank.r, "loss": rank.median, **{name: getattr(rank, name) for name in bounds}}
        for rank in ranks
    ]
