"""Measured rows on disk: RankViz's own, published ones, and anyone's in the same form."""

import csv
from pathlib import Path

from rankviz.core.accuracy.rows import MeasuredRow, parse_row
from rankviz.errors import BadDataError

ROWS_FOLDER = "validation"
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
