"""Writes tables as CSV or Parquet: flat rows, each with the sources of its numbers.

CSV has no comments, so sources are columns; Parquet also has them in its metadata, under "rankviz".
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rankviz import __version__, installed
from rankviz.core.accuracy.report import Basis, in_words
from rankviz.core.cells import csv_text
from rankviz.core.cost.estimate import Estimate, estimate_as_json
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.core.runs.record import RunRecord
from rankviz.errors import InvalidSettingError

KINDS = ("csv", "parquet")
CSV_PART, PARQUET_PART = 500, 10_000
"""Number of rows written at a time, to a CSV and to a Parquet file."""
AT = "%Y-%m-%dT%H:%M:%SZ"
RANGES = ("seconds", "step_seconds", "load_seconds", "usd")
"""Ranges of an estimate that are None where they are unknown."""
LIBRARIES = ("torch", "transformers", "peft", "trl", "unsloth")


@dataclass(frozen=True)
class Table:
    """Rows with the same columns. None means unknown and becomes an empty cell."""

    name: str
    rows: Sequence[Mapping[str, Any]]
    sources: Mapping[str, Any] = field(default_factory=dict)
    """Sources of the whole table; they are also the last columns of every row."""


def ranks_table(estimate: Estimate, basis: Basis) -> Table:
    """Return an estimate as a table, one row per rank. basis: the measurements that the estimate rests on."""
    question, values = estimate.question, estimate_as_json(estimate)
    setup, lora = question.training, question.lora
    same = ("framework", "precision", "optim", "per_device_train_batch_size", "gradient_accumulation_steps")
    settings = {
        "model_id": values["model_id"],
        "moe_scheme": values["scheme"],
        "use_rslora": lora.use_rslora,
        "use_dora": lora.use_dora,
        **{name: getattr(setup, name) for name in (*same, "max_length", "gradient_checkpointing", "gpus", "strategy")},
        "method": "grpo" if setup.grpo else "sft",
        **(asdict(setup.grpo) if setup.grpo else {}),
        "steps": setup.total_steps,
        "gpu": values["gpu"],
        "usd_per_hour": values["usd_per_hour"],
    }
    sources = _made() | {
        "counted_by": f"the rules of PEFT {PEFT_VERSION} and Unsloth {UNSLOTH_VERSION}",
        "basis": in_words(basis),
        "price_source": values["price_source"],
    }
    unknown = dict.fromkeys(("low", "expected", "high"))
    rows = [row | {name: row[name] or unknown for name in RANGES} for row in values["ranks"]]
    for row in rows:
        if row["rollout"] is None:  # of GRPO alone
            del row["rollout"]
    return Table("ranks", [{**_flat(row), **settings, **sources} for row in rows], sources)


def runs_table(records: Iterable[tuple[RunRecord, Mapping[str, Any]]], name: str = "runs") -> Table:
    """Return measured runs as a table, one row per run, with time, RankViz and library versions of the measurement.
    records: each run with its row from api.runs.rows."""
    rows = []
    for record, summary in records:
        where, by = record.environment, record.environment.get("rankviz")
        versions = where.get("versions") or {}
        measured = {
            "basis": "measured" if where else None,
            "measured_at": record.started_at and time.strftime(AT, time.gmtime(record.started_at)),
            "measured_by": f"RankViz {by}" if by else None,
            **{f"{library}_version": versions.get(library) for library in LIBRARIES},
            "model_fingerprint": where.get("model_fingerprint"),
            "data_fingerprint": where.get("data_fingerprint"),
        }
        rows.append({**_flat(summary), **measured, **_made()})
    return Table(name, rows, _made())


def _made() -> dict[str, Any]:
    return {"made_by": f"RankViz {__version__}", "made_at": time.strftime(AT, time.gmtime())}


def _flat(row: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return {"usd": {"low": 1}} as {"usd_low": 1}, and a list as its items joined by commas."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{name}_")
        else:
            flat[before + name] = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return flat


def file_name(table: Table, kind: str) -> str:
    """Return the table's file name; raise InvalidSettingError for a table without rows or an unknown kind of file."""
    if kind not in KINDS:
        raise InvalidSettingError(f"No kind of table {kind[:20]!r}: choose {' or '.join(KINDS)}.")
    if not table.rows:
        raise InvalidSettingError("There is nothing in this table yet: a file of it would be empty.")
    return f"rankviz-{table.name}.{kind}"


def write_table(table: Table, kind: str, folder: Path) -> Path:
    """Write the table to a file in this folder; return its path."""
    path = folder / file_name(table, kind)
    columns = {}
    for name in dict.fromkeys(name for row in table.rows for name in row):
        # Whole numbers stay int also in a column with unknown values.
        kinds = {type(row[name]) for row in table.rows if row.get(name) is not None}
        columns[name] = float if kinds == {int, float} else kinds.pop() if len(kinds) == 1 else str
    write_rows(table.rows, columns, path, {"table": table.name, **table.sources})
    return path


def write_rows(
    rows: Iterable[Mapping[str, Any]],
    columns: Mapping[str, type],
    path: Path,
    about: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write rows as CSV or Parquet, by the ending of the path, without holding all of them in memory. columns: the
    type of each column; None is an unknown value. about: metadata of a Parquet file."""
    left, is_csv = iter(rows), path.suffix == ".csv"
    parts = iter(lambda: list(islice(left, CSV_PART if is_csv else PARQUET_PART)), [])
    if is_csv:
        with path.open("w", encoding="utf-8", newline="") as file:
            for number, part in enumerate(parts):
                file.write(csv_text(part, list(columns), header=not number))
        return
    installed.require("pyarrow", "Parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    metadata = {"rankviz": json.dumps(about, ensure_ascii=False)} if about else None
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()], metadata=metadata)
    with pq.ParquetWriter(path, schema) as writer:
        for part in parts:
            writer.write_table(pa.Table.from_pylist(part, schema))
