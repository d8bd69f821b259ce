"""Training data as rows of prompt and completion: the shipped samples, or a JSONL, CSV or Parquet file of one's own.

Reads and checks; tokenizing is the worker's. A row that cannot be used is named by its number: the line of a JSONL
file, the record under the header of a CSV file, the row of a Parquet file. Nothing is guessed and no row is skipped.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from rankviz import installed
from rankviz.errors import AssetError, BadDataError, quoted
from rankviz.paths import ASSETS, existing

MAX_FILE_BYTES = 200 * 10**6
MAX_ROWS = 1_000_000
MAX_UNPACKED_BYTES = 10 * MAX_FILE_BYTES
PARQUET_BATCH = 1024
PREVIEW_ROWS = 3
SHOWN_COLUMNS = 10
SHOWN_CHARACTERS = 40
HALVES = re.compile("[\ud800-\udfff]")
"""What no file can hold."""

Format = Literal["messages", "prompt-completion", "instruction", "text"]
_REQUIRED: dict[Format, tuple[str, ...]] = {
    "messages": ("messages",),
    "prompt-completion": ("prompt", "completion"),
    "instruction": ("instruction", "output"),
    "text": ("text",),
}
"""The columns of each format, in the order in which the first row is tested for them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One row. With messages, a chat: the model's chat template writes it, and the assistant's turns are learned.
    Otherwise prompt and completion stand next to each other as they are, and the completion is learned."""

    prompt: str = ""
    completion: str = ""
    messages: tuple[tuple[str, str], ...] = ()
    """(role, content), the last one the assistant's."""

    @property
    def has_prompt(self) -> bool:
        """Whether something is given before the last text that is learned."""
        return len(self.messages) > 1 if self.messages else bool(self.prompt.strip())

    def as_pair(self) -> tuple[str, str]:
        """(prompt, answer): what the model is given and what it learns."""
        if not self.messages:
            return self.prompt, self.completion
        return "\n".join(f"{role}: {content}" for role, content in self.messages[:-1]), self.messages[-1][1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    title: str
    format: Format
    examples: tuple[Example, ...]
    fingerprint: str
    """The first 16 digits of the file's SHA-256."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """A first look at data before training on it."""

    title: str
    format: Format
    rows: int
    examples: tuple[tuple[str, str], ...]
    """The first three rows as (prompt, completion)."""
    mean_characters: float
    longest_characters: int
    rows_with_prompt: int
    """Rows that can be answered, for exact match."""
    mean_answer_characters: float
    longest_answer_characters: int
    """Of what is learned after the prompt."""

    def require_prompts(self) -> None:
        """BadDataError where no row has a prompt to answer."""
        if not self.rows_with_prompt:
            raise BadDataError(
                f"Exact match needs prompts, and no row of {self.title} has one. Set exact match to 0, or give rows of "
                "prompt and completion, instruction and output, or messages."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Data shipped with RankViz, from assets/data/index.json."""

    id: str
    title: str
    description: str
    file: str
    rows: int
    licence: str
    source: str
    checked: str


def samples(assets: Path = ASSETS) -> list[Sample]:
    index = Path(assets) / "data" / "index.json"
    try:
        return [Sample(**row) for row in json.loads(index.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise AssetError(f"{index} cannot be read ({error}): run `make assets`.") from error


def is_sample(data: str, assets: Path = ASSETS) -> bool:
    """Whether this names a shipped sample, not a file."""
    return any(sample.id == data for sample in samples(assets))


def preview(data: str, assets: Path = ASSETS) -> Preview:
    return preview_of(read(data, assets))


def preview_of(dataset: Dataset) -> Preview:
    lengths = [sum(map(len, example.as_pair())) for example in dataset.examples]
    answers = [len(example.as_pair()[1]) for example in dataset.examples]
    return Preview(
        title=dataset.title,
        format=dataset.format,
        rows=len(dataset.examples),
        examples=tuple(example.as_pair() for example in dataset.examples[:PREVIEW_ROWS]),
        mean_characters=sum(lengths) / len(lengths),
        longest_characters=max(lengths),
        rows_with_prompt=sum(example.has_prompt for example in dataset.examples),
        mean_answer_characters=sum(answers) / len(answers),
        longest_answer_characters=max(answers),
    )


def read(data: str, assets: Path = ASSETS) -> Dataset:
    """Read a sample by its id or a file by its path; BadDataError names what to correct."""
    for sample in samples(assets):
        if sample.id == data:
            return _read_file(Path(assets) / "data" / sample.file, title=sample.title)
    path = existing(data)
    if path is None or path.suffix.lower() not in _READERS:
        raise unknown(data, assets, exists=path is not None)
    return _read_file(path, title=path.name)


def unknown(data: str, assets: Path = ASSETS, *, exists: bool = False) -> BadDataError:
    """The error for what is neither a sample nor a file that can be read."""
    if not exists and Path(data).suffix.lower() in _READERS:
        return BadDataError(f"There is no file {quoted(data)}.")
    known = ", ".join(sample.id for sample in samples(assets))
    return BadDataError(f"{quoted(data)} is neither a sample ({known}) nor a .jsonl, .csv or .parquet file.")


def _read_file(path: Path, title: str) -> Dataset:
    if not path.is_file():
        raise BadDataError(f"There is no file {str(path)!r}.")
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise BadDataError(
            f"{path.name} has {size / 1e6:,.0f} MB, more than the {MAX_FILE_BYTES / 1e6:,.0f} MB allowed."
        )
    content = path.read_bytes()
    rows = _READERS[path.suffix.lower()](content, path.name)
    format_, examples = _examples(rows, path.name)
    return Dataset(title=title, format=format_, examples=examples, fingerprint=hashlib.sha256(content).hexdigest()[:16])


def _examples(rows: Iterator[tuple[int, dict]], name: str) -> tuple[Format, tuple[Example, ...]]:
    first = next(rows, None)
    if first is None:
        raise BadDataError(f"{name} has no rows.")
    format_ = _format_of(first[1], name)
    examples = [_example(format_, first[1], f"Row {first[0]} of {name}")]
    for number, row in islice(rows, MAX_ROWS):
        examples.append(_example(format_, row, f"Row {number} of {name}"))
    if len(examples) > MAX_ROWS:
        raise BadDataError(f"{name} has more than {MAX_ROWS:,} rows: use a part of it.")
    if len(examples) < 2:
        raise BadDataError(f"{name} has a single row: training needs at least two, because one is held out.")
    return format_, tuple(examples)


def _format_of(row: dict, name: str) -> Format:
    for format_, required in _REQUIRED.items():
        if all(column in row for column in required):
            return format_
    columns = "; or ".join(" and ".join(required) for required in _REQUIRED.values())
    known = ", ".join(str(column)[:SHOWN_CHARACTERS] for column in islice(row, SHOWN_COLUMNS)) or "none"
    more = f" and {len(row) - SHOWN_COLUMNS:,} more" if len(row) > SHOWN_COLUMNS else ""
    raise BadDataError(f"{name} has the columns {known}{more}; RankViz needs {columns}.")


def _example(format_: Format, row: dict, where: str) -> Example:
    for column in _REQUIRED[format_]:
        if row.get(column) is None:
            raise BadDataError(f"{where} has no {column!r}, which the first row has.")
    match format_:
        case "messages":
            return Example(messages=_messages(row["messages"], where))
        case "prompt-completion" if isinstance(row["prompt"], list):
            return Example(messages=_messages([*row["prompt"], *_list(row["completion"], "completion", where)], where))
        case "prompt-completion":
            return Example(
                prompt=_text(row, "prompt", where, may_be_empty=True), completion=_text(row, "completion", where)
            )
        case "instruction":
            given = "\n\n".join(filter(None, [_text(row, "instruction", where), _optional_text(row, "input", where)]))
            return Example(messages=(("user", given), ("assistant", _text(row, "output", where))))
        case "text":
            return Example(completion=_text(row, "text", where))


def _messages(value: object, where: str) -> tuple[tuple[str, str], ...]:
    if isinstance(value, str):  # CSV has no lists: the cell holds JSON
        try:
            value = json.loads(value)
        except ValueError:
            raise BadDataError(f"{where}: messages must be a JSON list.") from None
    messages = []
    for message in _list(value, "messages", where):
        if not (isinstance(message, dict) and isinstance(message.get("role"), str)):
            raise BadDataError(f"{where}: each message must be an object with a role and a content.")
        messages.append((_text(message, "role", where), _text(message, "content", where, may_be_empty=True)))
    if not messages or messages[-1][0] != "assistant" or not messages[-1][1]:
        raise BadDataError(
            f"{where}: the last message must be the assistant's, and not empty, because training learns it."
        )
    return tuple(messages)


def _list(value: object, column: str, where: str) -> Sequence:
    if not isinstance(value, list):
        raise BadDataError(f"{where}: {column!r} must be a list of messages.")
    return value


def _text(row: dict, column: str, where: str, may_be_empty: bool = False) -> str:
    value = row.get(column)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise BadDataError(f"{where}: {column!r} must be text, not {type(value).__name__}.")
    if HALVES.search(value):
        raise BadDataError(f"{where}: {column!r} has half of a character: write it as UTF-8.")
    if not value.strip() and not may_be_empty:
        raise BadDataError(f"{where}: {column!r} is empty.")
    return value


def _optional_text(row: dict, column: str, where: str) -> str:
    return "" if row.get(column) is None else _text(row, column, where, may_be_empty=True)


def _read_jsonl(content: bytes, name: str) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(_decode(content, name).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            hint = " The file seems to hold one JSON array: write one object per line." if line.strip() == "[" else ""
            raise BadDataError(f"Row {number} of {name} is not a JSON object ({error}).{hint}") from None
        if not isinstance(row, dict):
            raise BadDataError(f"Row {number} of {name} is not a JSON object but a {type(row).__name__}.")
        yield number, row


def _read_csv(content: bytes, name: str) -> Iterator[tuple[int, dict]]:
    csv.field_size_limit(MAX_FILE_BYTES)
    reader = csv.DictReader(io.StringIO(_decode(content, name), newline=""), strict=True)
    number = 0
    try:
        for number, row in enumerate(reader, start=1):
            if None in row:
                raise BadDataError(f"Row {number} of {name} has more cells than the header: check the quotes.")
            yield number, row
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
        known = {column for required in _REQUIRED.values() for column in required} | {"input"}
        columns = [column for column in file.schema_arrow.names if column in known] or None
        for batch in file.iter_batches(batch_size=PARQUET_BATCH, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield number, row
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


_READERS = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
SUFFIXES = tuple(_READERS)
"""Of the files that can be read."""
