"""Measured rows on disk, in one form for all sources, and results of `make validate` and `make truth`."""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from rankviz.catalog import read_json
from rankviz.core.accuracy.report import AccuracyByKind, AccuracyReport
from rankviz.core.from_json import build
from rankviz.errors import BadDataError

if TYPE_CHECKING:
    from rankviz.core.accuracy.predicted import MeasuredRow

ROWS_FOLDER = "validation"
NEEDED = ("model_id", "precision", "framework", "r", "targets", "batch", "seq_len")
MAX_FILE_BYTES = 20_000_000
GRPO_FILE = "validation/grpo/published.csv"
RESULT_FILE = "validation.json"
TRUTH_FILE = "truth.json"


def read_rows(path: Path) -> tuple[MeasuredRow, ...]:
    """Read a CSV file with the columns of assets/validation/*.csv; BadDataError names a missing one."""
    from rankviz.core.accuracy.predicted import parse_row  # estimates read no rows

    if not path.is_file():
        raise BadDataError(f"There is no file {str(path)!r}: give a CSV file of measurements.")
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise BadDataError(f"{path.name} has {size:,} bytes, more than the {MAX_FILE_BYTES:,} allowed: split it.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in NEEDED if name not in (reader.fieldnames or ())]:
                raise BadDataError(
                    f"{path.name} has no column {', '.join(missing)}: name them as in assets/validation."
                )
            rows = tuple(parse_row(cells, line) for line, cells in enumerate(reader, start=2))
    except (UnicodeDecodeError, csv.Error):
        raise BadDataError(f"{path.name} is not a CSV file in UTF-8: save it as one.") from None
    if not rows:
        raise BadDataError(f"{path.name} has no rows: give at least one measurement.")
    return rows


def shipped_rows(assets: Path) -> tuple[MeasuredRow, ...]:
    """Return all rows that ship with RankViz: published ones and those of its own probes."""
    return tuple(row for file in sorted((assets / ROWS_FOLDER).glob("*.csv")) for row in read_rows(file))


@lru_cache(maxsize=4)
def load_range_evidence(assets: Path) -> tuple[AccuracyByKind, str]:
    """Return the errors behind the ranges of estimates, and the ISO date of the validation."""
    value = read_json(assets / RESULT_FILE, "run make validate")
    return build(AccuracyByKind, value["evidence"]), value["made"]


@lru_cache(maxsize=4)
def load_validation(assets: Path) -> AccuracyReport:
    """Return the whole report of `make validate`."""
    from rankviz.core.accuracy.report import AccuracyReport

    return build(AccuracyReport, read_json(assets / RESULT_FILE, "run make validate"))
