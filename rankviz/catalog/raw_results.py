"""Raw results of one's own, as points of a study: a CSV with one trained run a row, scores or losses.

Runs that differ in their seed alone become one point with their mean and its standard error. The first row that cannot
be read is named with its column and what to do.
"""

import csv
import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import date
from typing import Any

from rankviz.catalog.peft_results import (
    MAX_FILE_BYTES,
    MAX_METRIC,
    MAX_RANK,
    MAX_TEXT,
    facet_of_targets,
    is_text,
    lower_is_better,
)
from rankviz.core.bounds import MAX_NUMBER, printable
from rankviz.core.from_json import quoted
from rankviz.core.studies.lines import FULL, QualityPoint
from rankviz.errors import BadDataError

NEEDED = {
    "model": "the base model's id",
    "task": "what it was trained for and tested on",
    "metric": "the name of the score or loss",
    "rank": f"the LoRA rank, or {FULL} for full fine-tuning",
    "value": "the run's result",
}
OPTIONAL = {
    "higher_is_better": "yes or no (else the metric's name decides)",
    "seed": "runs that differ in it alone are averaged",
    "standard_error": "of the value, where a row is a mean already",
    "base_value": "the metric before training",
    "learning_rate": "",
    "lora_alpha": "",
    "method": "lora, rslora, dora, ...",
    "target_modules": 'names with commas between them, or "all-linear"',
    "trainable_parameters": "",
    "date": "such as 2026-01-31",
}
COLUMNS = {**NEEDED, **OPTIONAL}
COLUMNS_HELP = "; ".join(f"{name}: {meaning}" if meaning else name for name, meaning in COLUMNS.items())
MAX_ROWS, MAX_POINTS = 5_000, 500
"""Of one file: its runs, and those that are more than another seed."""
HEADER = f"its first line must name the columns {', '.join(NEEDED)}"


def read_table(content: bytes, file: str, today: date) -> tuple[QualityPoint, ...]:
    """The points of one table; BadDataError names the file, the row and what is wrong with it.

    Args:
        today: The date of rows that have none.
    """
    if len(content) > MAX_FILE_BYTES:
        raise BadDataError(f"{file} has {len(content):,} bytes, at most {MAX_FILE_BYTES:,} are read: divide it.")
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadDataError(f"{file} is no CSV in UTF-8 ({printable(str(error), 80)}): {HEADER}.") from None
    if missing := [name for name in NEEDED if not rows or name not in rows[0]]:
        raise BadDataError(f"{file} has no {', '.join(missing)}, or no row: {HEADER}, with commas between them.")
    if len(rows) > MAX_ROWS:
        raise BadDataError(f"{file} has {len(rows):,} rows, at most {MAX_ROWS:,} are read: divide it.")
    points = [_point(cells, f"{file}, row {row}", file, today) for row, cells in enumerate(rows, start=2)]
    averaged = _averaged(points)
    if len(averaged) > MAX_POINTS:
        raise BadDataError(f"{file} has {len(averaged):,} settings, at most {MAX_POINTS:,} are read: divide it.")
    return averaged


def as_table(points: Sequence[QualityPoint]) -> str:
    """A table of which `read_table` makes the same points: no more is kept of one that somebody gave."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, [name for name in COLUMNS if name != "seed"], lineterminator="\n")
    writer.writeheader()
    for point in points:
        cells = asdict(point) | {
            "model": point.base_model,
            "rank": point.rank or FULL,
            "higher_is_better": "yes" if point.higher_is_better else "no",
            "date": point.run_date,
        }
        writer.writerow({name: "" if cells[name] is None else cells[name] for name in writer.fieldnames})
    return out.getvalue()


def _point(cells: Mapping[str, Any], where: str, file: str, today: date) -> QualityPoint:
    def cell(name: str, convert: Callable[[str], Any], what: str) -> Any:
        text = (cells.get(name) or "").strip()
        if not text and name in OPTIONAL:
            return None
        try:
            return convert(text)
        except (ValueError, KeyError, OverflowError):
            raise BadDataError(f"{where}, {name}: {quoted(text)} is not {what}: correct it.") from None

    text = f"a text of 1 to {MAX_TEXT} characters"
    model, task, metric = (cell(name, _text, text) for name in ("model", "task", "metric"))
    rank = cell("rank", _rank, f"a whole number from 1 to {MAX_RANK:,}, or {FULL}")
    value, base_value = (
        cell(name, _number(float, -MAX_METRIC, MAX_METRIC), "a number") for name in ("value", "base_value")
    )
    higher = cell("higher_is_better", lambda text: {"yes": True, "no": False}[text.lower()], "yes or no")
    targets = "all weights" if rank is None else (cell("target_modules", _text, text) or "")
    above_0 = _number(float, 0, MAX_NUMBER, above=True)
    rate, alpha = (cell(name, above_0, "a number above 0") for name in ("learning_rate", "lora_alpha"))
    return QualityPoint(
        study_id="",
        base_model=model,
        task=task,
        metric=metric,
        higher_is_better=not lower_is_better(metric) if higher is None else higher,
        role="main",
        method=FULL if rank is None else (cell("method", _text, text) or "lora").lower(),
        target_modules=targets,
        facet="all weights" if rank is None else facet_of_targets(targets),
        rank=rank,
        lora_alpha=alpha,
        learning_rate=rate,
        learning_rates_tried=None,
        value=value,
        standard_error=cell("standard_error", _number(float, 0, MAX_METRIC), "a number, 0 or more"),
        base_value=base_value,
        reference_learning_rate=None,
        value_at_reference_rate=None,
        trainable_parameters=cell("trainable_parameters", _number(int, 1, MAX_NUMBER), "a whole number above 0"),
        adapter_bytes=None,
        peak_memory_bytes=None,
        train_seconds=None,
        duration="",
        table="results",
        experiment=file,
        run_date=(cell("date", date.fromisoformat, "a date such as 2026-01-31") or today).isoformat(),
    )


def _averaged(points: Sequence[QualityPoint]) -> tuple[QualityPoint, ...]:
    """Runs of one setting as their mean with its standard error. Where a rank was run at several learning rates, each
    rate is a line of its own."""
    spread = {"value", "standard_error"}
    settings = [each.name for each in fields(QualityPoint) if each.name not in spread]
    runs: dict[tuple, list[QualityPoint]] = {}
    rates: dict[tuple, set[float | None]] = {}
    for point in points:
        runs.setdefault(tuple(getattr(point, name) for name in settings), []).append(point)
        rates.setdefault(_cell_of(point), set()).add(point.learning_rate)
    several = {cell[:-1] for cell, tried in rates.items() if len(tried) > 1}
    averaged = []
    for same in runs.values():
        first, values = same[0], [point.value for point in same]
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else first.standard_error
        table = f"results, learning rate {first.learning_rate or 0:g}" if _cell_of(first)[:-1] in several else "results"
        changed = {"value": statistics.fmean(values), "standard_error": error, "table": table}
        averaged.append(QualityPoint(**{name: getattr(first, name) for name in settings} | changed))
    return tuple(averaged)


def _cell_of(point: QualityPoint) -> tuple:
    return (point.base_model, point.task, point.metric, point.method, point.target_modules, point.rank)


def _text(text: str) -> str:
    if not is_text(text):
        raise ValueError(text)
    return text


def _rank(text: str) -> int | None:
    return None if text.lower() == FULL else _number(int, 1, MAX_RANK)(text)


def _number(kind: type, low: float, high: float, *, above: bool = False) -> Callable[[str], Any]:
    """What reads a number of this range; above: low itself is out of it. ValueError where it is none."""

    def read(text: str) -> Any:
        value = kind(text)
        if not low <= value <= high or (above and value == low):
            raise ValueError(text)
        return value

    return read
