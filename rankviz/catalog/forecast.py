"""The tabulated forecast, assets/forecast.json, which `make forecast` writes."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from rankviz.catalog.files import read_json
from rankviz.core.forecast.bands import Forecast, Metric, RankLine, forecast
from rankviz.core.forecast.tradeoff import RANKS

FILE = "forecast.json"


@lru_cache(maxsize=4)
def read_forecast(assets: Path) -> Mapping[str, Any]:
    """Return the content of forecast.json, its validation included."""
    return read_json(assets / FILE, "run make forecast")


@lru_cache(maxsize=16)
def forecast_of_all(assets: Path, metric: Metric, task: str) -> Forecast:
    """Return the forecast at RANKS, the same for every model. metric, task: as for core.forecast.bands.forecast."""
    return forecast(read_forecast(assets), metric, task, RANKS)


@lru_cache(maxsize=4)
def load_rank_lines(assets: Path) -> tuple[RankLine, ...]:
    """Return the published lines that the forecast is made from, and lines of reinforcement learning, which it
    ignores."""
    return tuple(
        RankLine(**{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()})
        for row in read_forecast(assets)["published"]
    )
