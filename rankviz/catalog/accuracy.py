"""Measurements on disk, and the validation of those that RankViz ships."""

import csv
import json
from functools import lru_cache
from pathlib import Path

from rankviz.core.accuracy.bands import widths
from rankviz.core.accuracy.report import AccuracyReport, from_json
from rankviz.core.accuracy.rows import MeasuredRow, parse_row
from rankviz.core.cost.assumptions import Assumption
from rankviz.errors import AssetError, BadDataError

ROWS_FOLDER = "validation"
RESULT_FILE = "validation.json"
NEEDED = ("model_id", "precision", "framework", "r", "targets", "batch", "seq_len")
MAX_FILE_BYTES = 20_000_000


def read_rows(path: Path) -> tuple[MeasuredRow, ...]:
    """The rows of a CSV file in the form of assets/validation/*.csv; BadDataError names what is missing."""
    if not path.is_file():
        raise BadDataError(f"There is no file {str(path)!r}: give a CSV file of measurements.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise BadDataError(
            f"{path.name} has {path.stat().st_size:,} bytes, more than the {MAX_FILE_BYTES:,} allowed: split it."
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
            if missing:
                raise BadDataError(
                    f"{path.name} has no column {', '.join(missing)}: name the columns as in assets/validation."
                )
            rows = tuple(parse_row(cells, line) for line, cells in enumerate(reader, start=2))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadDataError(f"{path.name} is not a CSV file in UTF-8 ({error}): save it as one.") from None
    if not rows:
        raise BadDataError(f"{path.name} has no rows: give at least one measurement.")
    return rows


def shipped_rows(assets: Path) -> tuple[MeasuredRow, ...]:
    """All rows that RankViz ships, published ones and its own probes."""
    return tuple(row for file in sorted((assets / ROWS_FOLDER).glob("*.csv")) for row in read_rows(file))


@lru_cache(maxsize=4)
def load_validation(assets: Path) -> AccuracyReport:
    """The result of `make validate`."""
    path = assets / RESULT_FILE
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise AssetError(f"{path.name}: no such file in {path.parent}; run make validate.") from None
    except json.JSONDecodeError as error:
        raise AssetError(f"{path.name}: not JSON ({error}); run make validate.") from None
    except (KeyError, TypeError) as error:
        raise AssetError(f"{path.name}: not a report of this version ({error}); run make validate.") from None


def measured_widths(report: AccuracyReport) -> tuple[Assumption, ...]:
    """Half-widths of bands as rows of assumptions: the report's result for each kind of setting."""
    return widths(report.evidence, report.made)
