"""Data structures for costs and known quality of one model's ranks, side by side. Nothing is computed here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rankviz.core.cost.estimate import Estimate
from rankviz.core.forecast.bands import GRID, LOSS, Forecast, Metric, RankLine
from rankviz.core.forecast.quick_look import BentForecast
from rankviz.core.runs.record import Sweep

RANKS = tuple(range(GRID[0], GRID[-1] + 1))
SHORTFALL_SCORE, SHORTFALL_LOSS = "score", "percent"
SHORTFALLS: dict[str, Metric] = {SHORTFALL_SCORE: "score", SHORTFALL_LOSS: LOSS}
"""Qualities forecast from published lines, with the metric of the forecast. Others are metrics of runs."""


class ForecastLine(NamedTuple):
    """A published line in the forecast's unit."""

    label: str
    line: RankLine
    why: str
    """Similarities of the study with the model, in words."""
    equal_ranks: Mapping[int, float] | None = None
    """For a line with another MoE scheme: by its rank, the question's rank with as many parameters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tradeoff:
    """Costs of one model's ranks from 1 to 256, and what is known about their quality."""

    estimate: Estimate | None
    """Estimate at RANKS and at the question's own ranks; None for a model that cannot be read."""
    quality: str
    """A key of SHORTFALLS, or of core.runs.metric.METRICS."""
    qualities: tuple[str, ...]
    """Qualities available for this model, SHORTFALLS first."""
    forecast: Forecast | None
    """Forecast at RANKS; None where `quality` is a metric of runs."""
    published: tuple[ForecastLine, ...]
    sweeps: tuple[Sweep, ...]
    """Sweeps of this model with evaluated runs: the newest first, recorded ones last."""
    bent: BentForecast | None
    """Forecast between the newest sweep's runs; None where quality is not the loss, or too few runs ended."""
