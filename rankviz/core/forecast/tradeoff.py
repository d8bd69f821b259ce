"""Costs and known quality of the ranks of one model, side by side. Nothing is computed here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rankviz.core.cost.estimate import Estimate
from rankviz.core.forecast.bands import GRID, LOSS, Forecast, Metric, RankLine
from rankviz.core.forecast.quick_look import BentForecast
from rankviz.core.runs.record import Sweep

RANKS = tuple(range(GRID[0], GRID[-1] + 1))
"""Every rank that a forecast covers."""
SHORTFALL_SCORE, SHORTFALL_LOSS = "score", "percent"
SHORTFALLS: dict[str, Metric] = {SHORTFALL_SCORE: "score", SHORTFALL_LOSS: LOSS}
"""Qualities that are forecast from published lines, with the metric of the forecast. The others are metrics of runs."""


class ForecastLine(NamedTuple):
    """A published line in the unit of the forecast."""

    label: str
    """The study's, with its MoE scheme."""
    line: RankLine
    source: str
    why: str
    """Reason why it is near to the model."""
    equal_ranks: Mapping[int, float] | None = None
    """For a line with another MoE scheme: by its ranks, the rank of the question's adapter that trains as many
    parameters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tradeoff:
    """One model's ranks from 1 to 256 with their costs, and what is known of their quality."""

    estimate: Estimate | None
    """At RANKS, and at the question's own; None for a model that cannot be read."""
    quality: str
    """A key of SHORTFALLS, or of core.runs.metric.METRICS."""
    qualities: tuple[str, ...]
    """The qualities that this model has, SHORTFALLS first."""
    forecast: Forecast | None
    """At RANKS; None where quality is a metric of runs."""
    published: tuple[ForecastLine, ...]
    """The nearest lines in the unit of the forecast."""
    sweeps: tuple[Sweep, ...]
    """Sweeps of this model with evaluated runs; the newest first, recorded ones last."""
    bent: BentForecast | None
    """Between the runs of the newest such sweep; None where quality is not its loss, or too little has run."""
