"""The rows of a JSONL, JSON, CSV or Parquet file, each with its number: of the line, record, element or row."""

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rankviz import installed
from rankviz.dataset.rows import REQUIRED
from rankviz.errors import BadDataError, quoted

MAX_FILE_BYTES = 200 * 10**6
MAX_ARRAY_BYTES = 50 * 10**6
"""Of a JSON array, which takes ten times its size in memory, since it is parsed at once."""
MAX_ROWS = 1_000_000
MAX_UNPACKED_BYTES = 10 * MAX_FILE_BYTES
PARQUET_BATCH = 1024


class TwiceError(ValueError):
    """A name that stands twice, in quotes."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; TwiceError where one would replace another."""
    row = dict(pairs)
    if len(row) != len(pairs):
        _require_once([name for name, _ in pairs])
    return row


def _require_once(names: Sequence[str]) -> None:
    """TwiceError for the first name that is there more than once. Columns without a name are read by nobody."""
    for name, times in Counter(names).items():
        if times > 1 and name:
            raise TwiceError(quoted(name))


JSON = json.JSONDecoder(object_pairs_hook=_once)
"""One for all rows: making one takes as long as reading a short row."""


def _read_jsonl(content: bytes, name: str) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(_decode(content, name).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = JSON.decode(line)
        except TwiceError as column:
            raise BadDataError(f"Row {number} of {name} has {column} twice: keep one of the two.") from None
        except (ValueError, RecursionError) as error:
            hint = " The file seems to hold one JSON array: name it .json, or write one object per line."
            more = hint if line.strip() == "[" else ""
            raise BadDataError(f"Row {number} of {name} is not a JSON object ({error}).{more}") from None
        if not isinstance(row, dict):
            raise BadDataError(f"Row {number} of {name} is not a JSON object but a {type(row).__name__}.")
        yield number, row


def _read_json(content: bytes, name: str) -> Iterator[tuple[int, dict]]:
    """One array of objects; without its bracket, one object per line."""
    if not content.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        yield from _read_jsonl(content, name)
        return
    if len(content) > MAX_ARRAY_BYTES:
        raise BadDataError(
            f"{name} is a JSON array of {len(content) / 1e6:,.0f} MB, more than the {MAX_ARRAY_BYTES / 1e6:,.0f} MB "
            "allowed: write one object per line (JSONL)."
        )
    try:
        rows = JSON.decode(_decode(content, name))
    except TwiceError as column:
        raise BadDataError(f"A row of {name} has {column} twice: keep one of the two.") from None
    except (ValueError, RecursionError) as error:
        raise BadDataError(f"{name} is not a JSON array ({error}).") from None
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise BadDataError(f"Row {number} of {name} is not a JSON object but a {type(row).__name__}.")
        yield number, row


def _read_csv(content: bytes, name: str) -> Iterator[tuple[int, dict]]:
    csv.field_size_limit(MAX_FILE_BYTES)
    reader = csv.DictReader(io.StringIO(_decode(content, name), newline=""), strict=True)
    number = 0
    try:
        _require_once(reader.fieldnames or ())
        for number, row in enumerate(reader, start=1):
            if None in row:
                raise BadDataError(f"Row {number} of {name} has more cells than the header: check the quotes.")
            yield number, row
    except TwiceError as column:
        raise BadDataError(f"The header of {name} has the column {column} twice: rename one of the two.") from None
    except csv.Error as error:
        raise BadDataError(f"Row {number + 1} of {name} cannot be read as CSV: {error}.") from None


def _read_parquet(content: bytes, name: str) -> Iterator[tuple[int, dict]]:
    installed.require_pyarrow()
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
        groups = [file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)]
        if file.metadata.num_rows > MAX_ROWS or sum(groups) > MAX_UNPACKED_BYTES:
            raise BadDataError(
                f"{name} has {file.metadata.num_rows:,} rows or is too large when unpacked: use a part of it."
            )
        known = {column for required in REQUIRED.values() for column in required}
        known |= {"input"}
        _require_once(file.schema_arrow.names)
        columns = [column for column in file.schema_arrow.names if column in known] or None
        for batch in file.iter_batches(batch_size=PARQUET_BATCH, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except TwiceError as column:
        raise BadDataError(f"{name} has the column {column} twice: rename one of the two.") from None
    except UnicodeDecodeError:
        raise BadDataError(f"{name} has texts that are not UTF-8, after row {number:,}: save it as UTF-8.") from None
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = quoted(str(error).partition("\n")[0])
        raise BadDataError(f"{name} cannot be read as Parquet ({reason}).") from None


def _decode(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise BadDataError(f"{name} is not UTF-8 (line {row}): save it as UTF-8.") from None


READERS = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
SUFFIXES = tuple(READERS)
"""Of the files that can be read."""
