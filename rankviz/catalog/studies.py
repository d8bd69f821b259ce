"""Published rank studies, read from assets/evidence/: points.csv, studies.json, models.json and learning_rates.csv.

Reading trusts the files: `tools.asset_schema` checks them in the tests. A row that cannot be read at all is still an
AssetError that names it.
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from rankviz.catalog.hardware import read_rows
from rankviz.core.studies.findings import BestRate
from rankviz.core.studies.lines import Evidence, QualityPoint, StudiedModel, Study
from rankviz.errors import AssetError

FOLDER = "evidence"
POINTS_FILE = "points.csv"
STUDIES_FILE = "studies.json"
MODELS_FILE = "models.json"
RATES_FILE = "learning_rates.csv"

READERS: dict[Any, Callable[[str], Any]] = {
    bool: lambda text: {"yes": True, "no": False}[text],
    float: float,
    float | None: lambda text: float(text) if text else None,
    int: int,
    int | None: lambda text: int(text) if text else None,
}
"""How a cell becomes a field of that type; any other type is the text itself."""


@lru_cache(maxsize=8)
def load_evidence(assets: Path) -> Evidence:
    """All published studies that RankViz ships, with their base models and points."""
    folder = assets / FOLDER
    studies = [_row(Study, row, STUDIES_FILE, "study_id") for row in read_rows(folder / STUDIES_FILE, "studies")]
    models = [_row(StudiedModel, row, MODELS_FILE, "base_model") for row in read_rows(folder / MODELS_FILE, "models")]
    evidence = Evidence(studies, models, read_points(folder / POINTS_FILE))
    for line, point in enumerate(evidence.points, start=2):
        if point.study_id not in evidence.studies:
            raise AssetError(f"{POINTS_FILE}: row {line}, study_id: no {point.study_id!r} in {STUDIES_FILE}; add it.")
        if point.base_model not in evidence.models:
            raise AssetError(
                f"{POINTS_FILE}: row {line}, base_model: no {point.base_model!r} in {MODELS_FILE}; add it."
            )
    return evidence


def read_points(path: Path) -> list[QualityPoint]:
    """The rows of points.csv."""
    return _read_table(QualityPoint, path)


def read_learning_rates(assets: Path) -> list[BestRate]:
    """The rows of learning_rates.csv. Most are of studies in points.csv; the others have no quality by rank."""
    return _read_table(BestRate, assets / FOLDER / RATES_FILE)


def _read_table(row: type, path: Path) -> list[Any]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader, readers = csv.DictReader(file), {each.name: READERS.get(each.type, str) for each in fields(row)}
            if tuple(reader.fieldnames or ()) != tuple(readers):
                raise AssetError(f"{path.name}: the columns must be {', '.join(readers)}, in this order.")
            return [row(**_cells(cells, readers, line, path.name)) for line, cells in enumerate(reader, start=2)]
    except FileNotFoundError:
        raise AssetError(f"{path.name}: no such file in {path.parent}; restore it from the repository.") from None


def _cells(cells: dict[str, str], readers: Mapping[str, Callable[[str], Any]], line: int, file: str) -> dict[str, Any]:
    if cells.keys() != readers.keys() or None in cells.values():
        raise AssetError(f"{file}: row {line} has more or fewer cells than there are columns; add or remove some.")
    values: dict[str, Any] = {}
    for name, text in cells.items():
        try:
            values[name] = readers[name](text)
        except (KeyError, ValueError):
            raise AssetError(
                f"{file}: row {line}, {name}: {text!r} is not a value of this column; correct the cell or empty it."
            ) from None
    return values


def _row(kind: type, row: Any, file: str, key: str) -> Any:
    try:
        return kind(**row)
    except TypeError as error:
        name = row.get(key, "?") if isinstance(row, dict) else row
        raise AssetError(
            f"{file}: row {name!r} cannot be read ({error}); give it the fields that its neighbours have."
        ) from None
