"""The tabulated forecast, assets/forecast.json, as `make forecast` wrote it."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from rankviz.catalog.files import read_json
from rankviz.core.forecast.bands import Bands, RankLine, bands_from_json
from rankviz.core.studies.lines import RateByRank
from rankviz.errors import AssetError

FILE = "forecast.json"


@lru_cache(maxsize=4)
def read_forecast(assets: Path) -> Mapping[str, Any]:
    """Return the content of forecast.json, with the whole validation."""
    return read_json(assets / FILE, "run make forecast")


@lru_cache(maxsize=4)
def load_bands(assets: Path) -> Bands:
    """Return the part of forecast.json that forecasts need: bands of quality by rank, and their validation."""
    try:
        return bands_from_json(read_forecast(assets))
    except (KeyError, TypeError) as error:
        raise AssetError(f"{FILE}: not a forecast of this version ({error}); run make forecast.") from None


def load_quick_look(assets: Path) -> Mapping[str, Any]:
    """Return the validation of the quick look on published lines: records by "loss" and "score"."""
    try:
        return read_forecast(assets)["quick_look"]
    except KeyError:
        raise AssetError(f"{FILE}: not a forecast of this version (no quick_look); run make forecast.") from None


@lru_cache(maxsize=4)
def load_rank_lines(assets: Path) -> tuple[RankLine, ...]:
    """Return the published lines behind the forecast, and lines of reinforcement learning, which no forecast uses."""
    return tuple(
        RankLine(**{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()})
        for row in read_forecast(assets)["published"]
    )


def load_rates_by_rank(assets: Path) -> list[RateByRank]:
    """Return counts over published sweeps of how the best learning rate moves with the rank."""
    return [RateByRank(**row) for row in read_forecast(assets)["counts"]["rate_by_rank"]]
