"""Measured rows on disk, in one form for everyone's, and what `make validate` wrote."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from rankviz.core.accuracy.report import AccuracyByKind
from rankviz.core.from_json import Misfit, build
from rankviz.errors import AssetError, BadDataError

if TYPE_CHECKING:
    from rankviz.core.accuracy.predicted import MeasuredRow
    from rankviz.core.accuracy.report import AccuracyReport


ROWS_FOLDER = "validation"
NEEDED = ("model_id", "precision", "framework", "r", "targets", "batch", "seq_len")
MAX_FILE_BYTES = 20_000_000


def read_rows(path: Path) -> tuple[MeasuredRow, ...]:
    """The rows of a CSV file in the form of assets/validation/*.csv; BadDataError names what is missing."""
    from rankviz.core.accuracy.predicted import parse_row  # estimates read no rows

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


RESULT_FILE = "validation.json"
Part = TypeVar("Part")


class RangeEvidence(NamedTuple):
    """What ranges rest on."""

    by_kind: AccuracyByKind
    made: str
    """Day, ISO."""


@lru_cache(maxsize=4)
def load_range_evidence(assets: Path) -> RangeEvidence:
    """What the ranges of estimates rest on."""
    return _read(assets, lambda value: RangeEvidence(build(AccuracyByKind, value["evidence"]), value["made"]))


@lru_cache(maxsize=4)
def load_validation(assets: Path) -> AccuracyReport:
    """The whole result of `make validate`."""
    from rankviz.core.accuracy.report import AccuracyReport

    return _read(assets, partial(build, AccuracyReport))


@lru_cache(maxsize=4)
def _read(assets: Path, part: Callable[[Mapping[str, Any]], Part]) -> Part:
    path = assets / RESULT_FILE
    try:
        return part(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise AssetError(f"{path.name}: no such file in {path.parent}; run make validate.") from None
    except json.JSONDecodeError as error:
        raise AssetError(f"{path.name}: not JSON ({error}); run make validate.") from None
    except (KeyError, TypeError, Misfit) as error:
        raise AssetError(f"{path.name}: not a report of this version ({error}); run make validate.") from None
