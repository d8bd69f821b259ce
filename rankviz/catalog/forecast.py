"""The tabulated forecast, assets/forecast.json, as `make forecast` wrote it, and whether it is of the evidence here."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from rankviz.core.forecast.bands import Bands, bands_from_json
from rankviz.core.forecast.lines import RankLine
from rankviz.errors import AssetError

FILE = "forecast.json"


@lru_cache(maxsize=4)
def load_bands(assets: Path) -> Bands:
    """The bands and how they have held."""
    try:
        return bands_from_json(read_forecast(assets))
    except (KeyError, TypeError) as error:
        raise AssetError(f"{FILE}: not a forecast of this version ({error}); run make forecast.") from None


def read_forecast(assets: Path) -> Mapping[str, Any]:
    """The file as it is, with the whole validation."""
    try:
        return json.loads((assets / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AssetError(f"{FILE}: no such file in {assets}; run make forecast.") from None
    except json.JSONDecodeError as error:
        raise AssetError(f"{FILE}: not JSON ({error}); run make forecast.") from None


@lru_cache(maxsize=4)
def load_quick_look(assets: Path) -> Mapping[str, Any]:
    """Return how the quick look held on published lines: records of "loss" and "score"."""
    if (held := read_forecast(assets).get("quick_look")) is None:
        raise AssetError(f"{FILE}: not a forecast of this version (no quick_look); run make forecast.")
    return held


def lines_hash(lines: Sequence[RankLine]) -> str:
    """SHA-256 over the lines that a forecast is fitted to. It stays where only words of the evidence change."""
    text = json.dumps([asdict(line) for line in lines], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
