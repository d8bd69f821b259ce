"""Data classes for the costs and known quality of one model's ranks, side by side. Nothing is computed here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rankviz.core.cost.estimate import Estimate
from rankviz.core.forecast.bands import GRID, LOSS, Forecast, Metric, RankLine
from rankviz.core.forecast.quick_look import BentForecast
from rankviz.core.quantity import brief
from rankviz.core.runs.record import Sweep

RANKS = tuple(range(GRID[0], GRID[-1] + 1))
SHORTFALL_SCORE, SHORTFALL_LOSS = "score", "percent"
SHORTFALLS: dict[str, Metric] = {SHORTFALL_SCORE: "score", SHORTFALL_LOSS: LOSS}
"""Qualities that are forecast from published lines, with the forecast's metric. Other qualities are metrics of runs."""


class ForecastLine(NamedTuple):
    """A published line, in the unit of forecasts."""

    label: str
    line: RankLine
    why: str
    """Phrase on how the study resembles the model."""
    equal_ranks: Mapping[int, float] | None = None
    """For a line with another MoE scheme: {its rank: rank of the question with as many parameters}; else None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tradeoff:
    """Costs of one model's ranks from 1 to 256, and what is known about their quality."""

    __repr__ = brief

    estimate: Estimate | None
    """Estimate at RANKS and at the question's own ranks; None for a model that cannot be read."""
    quality: str
    """Name of the quality to show: a key of SHORTFALLS, or of METRICS in core.runs.metric."""
    qualities: tuple[str, ...]
    """Names of all qualities that this model has, those of SHORTFALLS first."""
    forecast: Forecast | None
    """Published forecast at RANKS; None where `quality` is a metric of runs."""
    published: tuple[ForecastLine, ...]
    sweeps: tuple[Sweep, ...]
    """Sweeps of this model with evaluated runs, the newest first, shipped ones last."""
    bent: BentForecast | None
    """Forecast between the newest sweep's runs; None where `quality` is not the loss, or too few runs ended."""
