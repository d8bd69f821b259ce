"""Reads training data as rows of prompt and completion: shipped samples, or a JSONL, JSON, CSV or Parquet file.
Errors name a row by its number: the line of a JSONL file, else its place among the rows. Nothing is guessed and no row
is skipped. Turns of a chat from which nothing can be learned are left out and counted."""

import codecs
import csv
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rankviz import installed
from rankviz.dataset.rows import NUMBER, REQUIRED, Example, Format, example_of, format_of, traits_of
from rankviz.errors import AssetError, BadDataError, json_place, quoted
from rankviz.paths import ASSETS, existing
from rankviz.units import counted

MAX_FILE_BYTES = 200 * 10**6
MAX_ARRAY_BYTES = 50 * 10**6
"""Most bytes of a JSON array. It is parsed at once, and takes ten times its size in memory."""
MAX_ROWS = 1_000_000
MAX_UNPACKED_BYTES = 10 * MAX_FILE_BYTES
PARQUET_BATCH = 1024


def _read_json(content: bytes, name: str) -> Iterator[tuple[int, Any]]:
    """Yield (row number, object) from a file with one JSON object per line, or from a JSON array."""
    is_array = content.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[") and not name.lower().endswith(".jsonl")
    if is_array and len(content) > MAX_ARRAY_BYTES:
        raise BadDataError(
            f"{name} is a JSON array of {len(content) / 1e6:,.0f} MB, more than the {MAX_ARRAY_BYTES / 1e6:,.0f} MB "
            "allowed: write one object per line (JSONL)."
        )
    text = _decode(content, name)
    for number, line in enumerate([text] if is_array else text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            what = name if is_array else f"Row {number} of {name}"
            raise BadDataError(f"{what} is not valid JSON{json_place(error)}.") from None
        yield from enumerate(value, start=1) if is_array else [(number, value)]


def _read_csv(content: bytes, name: str) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(MAX_FILE_BYTES)
    reader = csv.DictReader(io.StringIO(_decode(content, name), newline=""), strict=True)
    number = 0
    try:
        for number, row in enumerate(reader, start=1):
            if None in row:
                raise BadDataError(f"Row {number} of {name} has more cells than the header: check the quotes.")
            yield number, row
    except csv.Error:
        raise BadDataError(f"Row {number + 1} of {name} cannot be read as CSV: check quotes and line ends.") from None


def _read_parquet(content: bytes, name: str) -> Iterator[tuple[int, Any]]:
    installed.require("pyarrow", "Parquet")
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
        groups = [file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)]
        if file.metadata.num_rows > MAX_ROWS or sum(groups) > MAX_UNPACKED_BYTES:
            raise BadDataError(
                f"{name} has {file.metadata.num_rows:,} rows or is too large when unpacked: use a part of it."
            )
        columns = [name for name in file.schema_arrow.names if name in {"input", *chain(*REQUIRED.values())}]
        batches = file.iter_batches(batch_size=PARQUET_BATCH, columns=columns or None)
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError):
        raise BadDataError(f"{name} cannot be read as Parquet: it is damaged, or another kind of file.") from None


def _decode(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise BadDataError(f"{name} is not UTF-8 (line {row}): save it as UTF-8.") from None


READERS = {".jsonl": _read_json, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
SUFFIXES = tuple(READERS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """The rows of one data file."""

    title: str
    format: Format
    examples: tuple[Example, ...]
    fingerprint: str
    """First 16 hexadecimal digits of the file's SHA-256."""
    traits: tuple[str, ...] = ()
    """Features of the rows on which exports depend, sorted (Trait in core/cost/setup.py)."""
    notes: tuple[str, ...] = ()
    """Sentences on values that were converted or left out while reading."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A data set that ships with RankViz, as listed in assets/data/index.json."""

    id: str
    title: str
    description: str
    file: str
    rows: int
    licence: str
    source: str
    checked: str


def samples(assets: Path = ASSETS) -> list[Sample]:
    """Return the samples that RankViz ships."""
    index = Path(assets) / "data" / "index.json"
    try:
        return [Sample(**row) for row in json.loads(index.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise AssetError(f"{index} cannot be read: run `make assets`.") from error


def is_sample(data: str, assets: Path = ASSETS) -> bool:
    """Tell whether this is the id of a shipped sample."""
    return any(sample.id == data for sample in samples(assets))


def read(data: str, assets: Path = ASSETS) -> Dataset:
    """Read a sample by its id or a file by its path; raise BadDataError, which says what to correct."""
    sample = next((sample for sample in samples(assets) if sample.id == data), None)
    path = Path(assets) / "data" / sample.file if sample else existing(data)
    if path is None or path.suffix.lower() not in READERS or not path.is_file():
        raise unknown(data, assets, exists=path is not None and path.is_file())
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise BadDataError(
            f"{path.name} has {size / 1e6:,.0f} MB, more than the {MAX_FILE_BYTES / 1e6:,.0f} MB allowed."
        )
    content = path.read_bytes()
    format_, examples, traits = _examples(READERS[path.suffix.lower()](content, path.name), path.name)
    if path.suffix.lower() == ".csv" and all(NUMBER.fullmatch(example.as_pair()[1]) for example in examples):
        traits.add("numbers")  # to programs that take a column of digits for numbers
    notes = ["The column conversations (ShareGPT) is read as messages."] if format_ == "conversations" else []
    if ended := sum(example.turns_left_out > 0 for example in examples):
        notes.append(
            f"In {ended:,} of {counted(len(examples), 'row')}, the turns after the assistant's last answer are left "
            "out, because nothing is learned from them."
        )
    return Dataset(
        title=sample.title if sample else path.name,
        format=format_,
        examples=examples,
        fingerprint=hashlib.sha256(content).hexdigest()[:16],
        traits=tuple(sorted(traits)),
        notes=tuple(notes),
    )


def unknown(data: str, assets: Path = ASSETS, *, exists: bool = False) -> BadDataError:
    """Return the error for a text that names no sample and no readable file. exists: True if there is such a file."""
    if not exists and Path(data).suffix.lower() in READERS:
        return BadDataError(f"There is no file {quoted(data)}.")
    known = ", ".join(sample.id for sample in samples(assets))
    return BadDataError(f"{quoted(data)} is neither a sample ({known}) nor a .jsonl, .json, .csv or .parquet file.")


def _examples(rows: Iterator[tuple[int, Any]], name: str) -> tuple[Format, tuple[Example, ...], set[str]]:
    format_, examples, unanswered, traits = None, [], [], set()
    for number, row in islice(rows, MAX_ROWS + 1):
        if not isinstance(row, dict):
            raise BadDataError(f"Row {number} of {name} is not a JSON object but a {type(row).__name__}.")
        format_ = format_ or format_of(row, name)
        if example := example_of(format_, row, f"Row {number} of {name}"):
            examples.append(example)
            traits.update(traits_of(format_, row))
        else:
            unanswered.append(number)
    count = len(examples) + len(unanswered)
    if not format_:
        raise BadDataError(f"{name} has no rows.")
    if count > MAX_ROWS:
        raise BadDataError(f"{name} has more than {MAX_ROWS:,} rows: use a part of it.")
    if unanswered:
        raise BadDataError(
            f"{len(unanswered):,} of {counted(count, 'row')} of {name} have no answer of the assistant, so there is "
            f"nothing to learn from them. Remove them; the first is row {unanswered[0]:,}."
        )
    if len(examples) < 2:
        raise BadDataError(f"{name} has a single row: training needs at least two, because one is held out.")
    if format_ == "instruction":
        traits ^= {"input"} if "input" in traits else {"no-input"}
    return format_, tuple(examples), traits
