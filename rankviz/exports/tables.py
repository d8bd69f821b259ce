"""Writes tables as CSV or Parquet: flat rows, each with the sources of its numbers.

CSV has no comments, so sources are columns; Parquet has them in its metadata too, under "rankviz".
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rankviz import __version__, installed
from rankviz.core.accuracy.report import Basis, in_words
from rankviz.core.cells import csv_text
from rankviz.core.cost.estimate import Estimate, estimate_as_json
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.core.runs.record import RunRecord
from rankviz.errors import InvalidSettingError

KINDS = ("csv", "parquet")
PART, PARQUET_PART = 500, 10_000
"""Rows that are written at once: of a CSV file, and of a Parquet file."""
LIBRARIES = ("torch", "transformers", "peft", "trl", "unsloth")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows with the same columns. None is not known, and an empty cell."""

    name: str
    rows: Sequence[Mapping[str, Any]]
    sources: Mapping[str, Any] = field(default_factory=dict)
    """Of the whole table; also the last columns of every row."""


class Rows(Sequence[Mapping[str, Any]]):
    """Many rows in little room: those with the same columns share their names."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]):
        shared: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._rows = [(shared.setdefault(names := tuple(row), names), tuple(row.values())) for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> Mapping[str, Any]:
        return dict(zip(*self._rows[place], strict=True))


def ranks_table(estimate: Estimate, basis: Basis) -> Table:
    """An estimate, one row per rank. basis: what it rests on."""
    question, values = estimate.question, estimate_as_json(estimate)
    setup = question.training
    settings = {
        "model_id": values["model_id"],
        "framework": setup.framework,
        "moe_scheme": values["scheme"],
        "use_rslora": question.lora.use_rslora,
        "use_dora": question.lora.use_dora,
        "precision": setup.precision,
        "optim": setup.optim,
        "per_device_train_batch_size": setup.per_device_train_batch_size,
        "gradient_accumulation_steps": setup.gradient_accumulation_steps,
        "max_length": setup.max_length,
        "gradient_checkpointing": setup.gradient_checkpointing,
        "steps": setup.total_steps,
        "gpu": values["gpu"],
        "usd_per_hour": values["usd_per_hour"],
    }
    sources = _made() | {
        "counted_by": f"the rules of PEFT {PEFT_VERSION} and Unsloth {UNSLOTH_VERSION}",
        "basis": in_words(basis),
        "price_source": values["price_source"],
    }
    return Table(name="ranks", rows=[{**_flat(row), **settings, **sources} for row in values["ranks"]], sources=sources)


def runs_table(records: Iterable[tuple[RunRecord, Mapping[str, Any]]], name: str = "runs") -> Table:
    """Measured runs, a row a run, with where and by which versions it was measured.

    records: each with its summary, as api.runs.summary has it.
    """
    sources = _made()
    return Table(
        name=name,
        rows=Rows({**_flat(summary), **_measured(record), **sources} for record, summary in records),
        sources=sources,
    )


def _measured(record: RunRecord) -> dict[str, Any]:
    where = record.environment
    versions = where.get("versions") or {}
    return {
        "basis": "measured" if where else None,
        "measured_at": _day(record.started_at) if record.started_at else None,
        "measured_by": f"RankViz {where['rankviz']}" if where.get("rankviz") else None,
        **{f"{library}_version": versions.get(library) for library in LIBRARIES},
        "model_fingerprint": where.get("model_fingerprint"),
        "data_fingerprint": where.get("data_fingerprint"),
    }


def _made() -> dict[str, Any]:
    return {"made_by": f"RankViz {__version__}", "made_at": _day(time.time())}


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _flat(row: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """{"usd": {"low": 1}} as {"usd_low": 1}; a list as its items with commas between."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{name}_")
        else:
            flat[before + name] = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return flat


def file_name(table: Table, kind: str) -> str:
    """The table's file name. InvalidSettingError for a table without rows, and for a kind of file that is none."""
    if kind not in KINDS:
        raise InvalidSettingError(f"No kind of table {kind[:20]!r}: choose {' or '.join(KINDS)}.")
    if not table.rows:
        raise InvalidSettingError("There is nothing in this table yet: a file of it would be empty.")
    return f"rankviz-{table.name}.{kind}"


def write_table(table: Table, kind: str, folder: Path) -> Path:
    """The table as a file in this folder; returns its path."""
    path = folder / file_name(table, kind)
    columns = dict.fromkeys(name for row in table.rows for name in row)
    if kind == "csv":
        _write_csv(table.rows, list(columns), path)
        return path
    installed.require_pyarrow()
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = pd.DataFrame({name: _column([row.get(name) for row in table.rows]) for name in columns})
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    about = json.dumps({"table": table.name, **table.sources}, ensure_ascii=False).encode()
    pq.write_table(arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), b"rankviz": about}), path)
    return path


def write_rows(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, type], path: Path) -> None:
    """Any number of rows as a CSV or a Parquet file, by its name: never all in memory. columns: with what each holds;
    None is not known."""
    if path.suffix == ".csv":
        return _write_csv(rows, list(columns), path)
    installed.require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    with pq.ParquetWriter(path, schema) as writer:
        for part in _parts(rows, PARQUET_PART):
            writer.write_table(pa.Table.from_pylist(part, schema))


def _write_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for at, part in enumerate(_parts(rows, PART)):
            file.write(csv_text(part, columns, header=not at))


def _parts(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[Sequence[Mapping[str, Any]]]:
    left = iter(rows)
    while part := list(islice(left, size)):
        yield part


def _column(values: Sequence[Any]) -> Any:
    """A column whose type is that of what is known in it: whole numbers stay whole beside what is not known."""
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    names = ((bool, "boolean"), (int, "Int64"), (float, "Float64"), (str, "string"))
    dtype = next((name for kind, name in names if kinds == {kind}), "Float64" if kinds == {int, float} else "object")
    return pd.Series(values, dtype=dtype)
