"""Reads training data as rows of prompt and completion: shipped samples, or a JSONL, JSON, CSV or Parquet file.
Errors name a row by its number: the line of a JSONL file, else its place among the rows. No row is skipped, and what is
guessed of a file (its columns, its encoding) is said. Turns of a chat that teach nothing are left out and counted."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rankviz import installed
from rankviz.core.cost.setup import DELIMITERS, Trait
from rankviz.dataset.rows import (
    NUMBER,
    REQUIRED,
    Example,
    Format,
    columns_in,
    columns_of,
    columns_text,
    example_of,
    format_of,
    prompt_of,
    traits_of,
)
from rankviz.errors import AssetError, BadDataError, json_place, quoted
from rankviz.paths import ASSETS, existing
from rankviz.units import counted

MAX_FILE_BYTES = 200 * 10**6
MAX_ARRAY_BYTES = 50 * 10**6
"""Most bytes of a JSON array. It is parsed at once, and takes ten times its size in memory."""
MAX_ROWS = 1_000_000
MAX_UNPACKED_BYTES = 10 * MAX_FILE_BYTES
PARQUET_BATCH = 1024
MARKS: dict[bytes, Trait] = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Encoding by the byte order mark with which a file begins."""
UTF_8_CHARACTER = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
PART = re.compile(r"-\d+-of-(\d{1,9})\b")
"""Pattern in the name of a file that is one of several, as train-00000-of-00010.parquet."""


def _read_json(text: str, name: str) -> Iterator[tuple[int, Any]]:
    """Yield (row number, object) from a file with one JSON object per line, or from a JSON array."""
    is_array = text.lstrip().startswith("[") and not name.lower().endswith(".jsonl")
    if is_array and len(text) > MAX_ARRAY_BYTES:
        raise BadDataError(
            f"{name} is a JSON array of {len(text) / 1e6:,.0f} MB, more than the {MAX_ARRAY_BYTES / 1e6:,.0f} MB "
            "allowed: write one object per line (JSONL)."
        )
    for number, line in enumerate([text] if is_array else text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            what = name if is_array else f"Row {number} of {name}"
            raise BadDataError(f"{what} is not valid JSON{json_place(error)}.") from None
        yield from enumerate(value, start=1) if is_array else [(number, value)]


def _delimiter(text: str) -> str:
    """Return the trait of a CSV file whose first line has more cells with another sign than a comma, else ""."""
    csv.field_size_limit(MAX_FILE_BYTES)

    def cells(trait: str) -> int:
        return len(next(csv.reader(io.StringIO(text, newline=""), delimiter=DELIMITERS.get(trait, ",")), ()))

    return max(("", *DELIMITERS), key=cells)


def _read_csv(text: str, name: str) -> Iterator[tuple[int, Any]]:
    delimiter = DELIMITERS.get(_delimiter(text), ",")
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 0
    try:
        for number, row in enumerate(reader, start=1):
            if None in row:
                raise BadDataError(f"Row {number} of {name} has more cells than the header: check the quotes.")
            yield number, row
    except csv.Error:
        raise BadDataError(f"Row {number + 1} of {name} cannot be read as CSV: check quotes and line ends.") from None


def _read_parquet(content: bytes, name: str, chosen: Mapping[str, str], prompts: bool) -> Iterator[tuple[int, Any]]:
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
        known = file.schema_arrow.names
        columns = {*columns_in(known, chosen, prompts).values()}.intersection(known)
        batches = file.iter_batches(batch_size=PARQUET_BATCH, columns=sorted(columns) or None)
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError):
        raise BadDataError(f"{name} cannot be read as Parquet: it is damaged, or another kind of file.") from None


def _decode(content: bytes, name: str) -> tuple[str, str]:
    """Return a file's text and its encoding, empty for UTF-8: by its mark, or UTF-16 by its zeros; cp1252 where
    no character is written as in UTF-8."""
    encoding = next((encoding for mark, encoding in MARKS.items() if content.startswith(mark)), "")
    head = content[:2000]
    if not encoding and head.count(0) * 10 > len(head):
        encoding = "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
    if not encoding and not UTF_8_CHARACTER.search(content) and not content.isascii():
        encoding = "cp1252"
    try:
        return content.decode(encoding or "utf-8"), encoding
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise BadDataError(f"{name} is not {(encoding or 'utf-8').upper()} (line {row}): save it as UTF-8.") from None


WRONG_CHARACTERS = " If characters are wrong in the first rows, save the file as UTF-8."
READERS = {".jsonl": _read_json, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
SUFFIXES = tuple(READERS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """The rows of one data file."""

    title: str
    format: Format
    examples: tuple[Example, ...]
    fingerprint: str  # first 16 hexadecimal digits of the file's SHA-256
    traits: tuple[str, ...] = ()  # features of the rows on which exports depend, sorted (Trait in core/cost/setup.py)
    notes: tuple[str, ...] = ()  # sentences on values that were converted or left out while reading
    columns: str = ""  # columns of the file by RankViz's names (rows.columns_of); empty where they are the same


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


def read(data: str, assets: Path = ASSETS, columns: str = "", *, prompts: bool = False) -> Dataset:
    """Read a sample by its id or a file by its path; raise BadDataError, which says what to correct. columns: The
    chosen columns (rows.columns_of); empty for those that the file's names tell. prompts: True to read rows of prompts
    for rewards (GRPO), whose answers may be missing."""
    sample = next((sample for sample in samples(assets) if sample.id == data), None)
    path = Path(assets) / "data" / sample.file if sample else existing(data)
    if path is None or path.suffix.lower() not in READERS or not path.is_file():
        raise unknown(data, assets, exists=path is not None and path.is_file())
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise BadDataError(
            f"{path.name} has {size / 1e6:,.0f} MB, more than the {MAX_FILE_BYTES / 1e6:,.0f} MB allowed."
        )
    content, suffix = path.read_bytes(), path.suffix.lower()
    chosen, name = columns_of(columns), path.name
    if suffix == ".parquet":
        encoding, rows = "", _read_parquet(content, name, chosen, prompts)
    else:
        text, encoding = _decode(content, name)
        rows = READERS[suffix](text, name)
    format_, examples, traits, found = _examples(rows, name, chosen, prompts)
    if suffix == ".csv" and all(NUMBER.fullmatch(example.as_pair()[1]) for example in examples):
        traits.add("numbers")  # to programs that take a column of digits for numbers
    notes = ["The column conversations (ShareGPT) is read as messages."] if format_ == "conversations" else []
    columns = _mapped(found)
    if columns:
        notes.append(f"Columns: {columns}.")
    if (part := PART.search(name)) and int(part[1]) > 1:
        notes.append(f"{name} is one of {int(part[1]):,} parts of the data; the others are not read.")
    if suffix == ".csv" and (delimiter := _delimiter(text)):
        traits.add(delimiter)
        notes.append(f"Read with {delimiter} between the cells.")
    if prompts and not any(example.as_pair()[1] for example in examples):
        notes.append("No prompt has an answer: an exported script's reward needs one, so write your own there.")
    traits.update([encoding] if encoding else ())
    if encoding and encoding != "utf-8-sig":
        notes.append(f"Read as {encoding.upper()}." + WRONG_CHARACTERS * (encoding == "cp1252"))
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
        columns=columns_text(found) if columns or prompts else "",
        notes=tuple(notes),
    )


def unknown(data: str, assets: Path = ASSETS, *, exists: bool = False) -> BadDataError:
    """Return the error for a text that names no sample and no readable file. exists: True if there is such a file."""
    if not exists and Path(data).suffix.lower() in READERS:
        return BadDataError(f"There is no file {quoted(data)}.")
    known = ", ".join(sample.id for sample in samples(assets))
    return BadDataError(
        f"{quoted(data)} is neither a sample ({known}), a .jsonl, .json, .csv or .parquet file, nor a "
        "data set on the Hub (owner/name)."
    )


def _mapped(columns: Mapping[str, str]) -> str:
    """Return which columns are read by other names, in words; empty where they have RankViz's own."""
    return ", ".join(f"{column} as {role}" for role, column in columns.items() if role != column)


def _examples(
    rows: Iterator[tuple[int, Any]], name: str, chosen: Mapping[str, str], prompts: bool
) -> tuple[Format, tuple[Example, ...], set[str], Mapping[str, str]]:
    """Return format, examples, features of the rows, and the file's columns by RankViz's names."""
    format_, examples, unanswered, traits, columns = None, [], [], set(), {}
    for number, row in islice(rows, MAX_ROWS + 1):
        if not isinstance(row, dict):
            raise BadDataError(f"Row {number} of {name} is not a JSON object but a {type(row).__name__}.")
        if not format_:
            columns = columns_in(row, chosen, prompts)
            format_, mapped = format_of(columns, row, name, prompts), _mapped(columns)
            of = f"of {name} ({mapped})" if mapped else f"of {name}"
        row = {role: row.get(column) for role, column in columns.items()}
        if prompts:
            examples.append(prompt_of(row, f"Row {number} {of}"))
        elif example := example_of(format_, row, f"Row {number} {of}"):
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
    if prompts:
        return format_, tuple(examples), traits, columns
    if len(examples) < 2:
        raise BadDataError(f"{name} has a single row: training needs at least two, because one is held out.")
    if format_ == "instruction":
        traits ^= {"input"} if "input" in traits else {"no-input"}
    used = {role: column for role, column in columns.items() if role != column or role in REQUIRED[format_]}
    return format_, tuple(examples), traits, used
