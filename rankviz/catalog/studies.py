"""Published rank studies, from assets/evidence/ (points.csv, studies.json, models.json), and the forecast made of them,
assets/forecast.json, which `make forecast` writes."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from rankviz.catalog import RESTORE, read_json, read_rows
from rankviz.core.forecast.bands import Forecast, Metric, RankLine, forecast
from rankviz.core.forecast.tradeoff import RANKS
from rankviz.core.studies.lines import Evidence, QualityPoint, StudiedModel, Study
from rankviz.errors import AssetError

FOLDER = "evidence"
POINTS_FILE = "points.csv"
STUDIES_FILE = "studies.json"
MODELS_FILE = "models.json"
RATES_FILE = "learning_rates.csv"
FORECAST_FILE = "forecast.json"

READERS: dict[Any, Callable[[str], Any]] = {
    bool: lambda text: {"yes": True, "no": False}[text],
    float: float,
    float | None: lambda text: float(text) if text else None,
    int: int,
    int | None: lambda text: int(text) if text else None,
}
"""Function that parses a cell, by type of the field; a field of another type holds the cell's text."""


@lru_cache(maxsize=8)
def load_evidence(assets: Path) -> Evidence:
    """Return all published studies that ship with RankViz, with their base models and points."""
    folder = assets / FOLDER
    rows = read_rows(folder / STUDIES_FILE, "studies"), read_rows(folder / MODELS_FILE, "models")
    studies = [Study(**row) for row in rows[0]]
    models = [StudiedModel(**row) for row in rows[1]]
    evidence = Evidence(studies, models, read_table(QualityPoint, folder / POINTS_FILE))
    for line, point in enumerate(evidence.points, start=2):
        if point.study_id not in evidence.studies:
            raise AssetError(f"{POINTS_FILE}: row {line}, study_id: no {point.study_id!r} in {STUDIES_FILE}; add it.")
        if point.base_model not in evidence.models:
            raise AssetError(f"{POINTS_FILE}: row {line}, base_model: no {point.base_model!r} in {MODELS_FILE}.")
    return evidence


def read_table(kind: type, path: Path) -> list[Any]:
    """Read a CSV file whose columns are the fields of a dataclass; return one object of this class per row."""
    readers, rows = {each.name: READERS.get(each.type, str) for each in fields(kind)}, []
    try:
        file = path.open(newline="", encoding="utf-8")
    except FileNotFoundError:
        raise AssetError(f"{path.name}: no such file in {path.parent}; {RESTORE}.") from None
    with file:
        reader = csv.reader(file)
        if tuple(next(reader, ())) != tuple(readers):
            raise AssetError(f"{path.name}: the columns must be {', '.join(readers)}, in this order.")
        for line, cells in enumerate(reader, start=2):
            if len(cells) != len(readers):
                raise AssetError(f"{path.name}: row {line} has more or fewer cells than there are columns.")
            values = {}
            for (name, read), text in zip(readers.items(), cells, strict=True):
                try:
                    values[name] = read(text)
                except (KeyError, ValueError):
                    raise AssetError(
                        f"{path.name}: row {line}, {name}: {text!r} is no value of this column; correct or empty it."
                    ) from None
            rows.append(kind(**values))
    return rows


@lru_cache(maxsize=4)
def read_forecast(assets: Path) -> Mapping[str, Any]:
    """Return the content of forecast.json, its validation included."""
    return read_json(assets / FORECAST_FILE, "run make forecast")


@lru_cache(maxsize=16)
def forecast_of_all(assets: Path, metric: Metric, task: str, ranks: Sequence[int] = RANKS) -> Forecast:
    """Return the forecast at these ranks, the same for every model. Arguments as for core.forecast.bands.forecast."""
    return forecast(read_forecast(assets), metric, task, ranks)


@lru_cache(maxsize=4)
def load_rank_lines(assets: Path) -> tuple[RankLine, ...]:
    """Return the published lines behind the forecast, and lines of reinforcement learning, which it ignores."""
    return tuple(
        RankLine(**{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()})
        for row in read_forecast(assets)["published"]
    )
