"""Results that someone added, as studies of their own: tables of raw results and PEFT's result files."""

import csv
import hashlib
import io
import os
import re
import secrets
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from rankviz.catalog.models import ModelRow, find_model
from rankviz.catalog.peft_results import (
    MAX_FILE_BYTES,
    MAX_METRIC,
    MAX_RANK,
    MAX_TEXT,
    USUAL_FILE_BYTES,
    as_result,
    facet_of_targets,
    is_text,
    lower_is_better,
    read_result,
)
from rankviz.core.bounds import MAX_NUMBER, printable
from rankviz.core.from_json import quoted
from rankviz.core.studies.lines import FULL, LABEL_LENGTH, Evidence, QualityPoint, StudiedModel, Study
from rankviz.errors import BadDataError, RankVizError, UnknownModelError

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


FOLDER = "evidence"
TABLE = ".csv"
MAX_FILES = 500
MAX_STEM = 80
DIGEST_DIGITS = 12
CAVEAT = (
    "Added here, not published, with the learning rates that the author of the file chose. Not included in counts over "
    "published studies."
)


class Result(NamedTuple):
    """What one given file holds."""

    name: str
    """To be shown."""
    kept_name: str = ""
    text: str = ""
    """The small file."""
    points: int = 0
    lower_is_better: Sequence[str] = ()
    """Metrics of which less is better, by their names or as the file says."""
    refused: str = ""
    """Why it cannot be read, as a sentence; empty where it can."""


class Added(NamedTuple):
    """The outcome for the given files. refused: one sentence per file. names: of the added ones, as remove takes
    them."""

    files: Sequence[str]
    points: int
    refused: Sequence[str]
    names: Sequence[str] = ()
    lower_is_better: Sequence[str] = ()
    """Metrics of these files of which less is better."""


def add(homes: Sequence[Path], files: Sequence[Path], most: int = MAX_FILES) -> Added:
    """Keep what the files hold that can be read; the same file again is kept once.

    homes: of whoever adds them; the first is that of what is new.
    """
    return keep(homes, read(files), most)


def read(files: Sequence[Path]) -> list[Result]:
    """Each file on its own."""
    return [_read(file) for file in files]


def _read(file: Path) -> Result:
    name = printable(file.name, MAX_STEM)
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise BadDataError(
                f"{name} has more than {MAX_FILE_BYTES:,} bytes: a result file has about {USUAL_FILE_BYTES:,}."
            )
        content = file.read_bytes()
        points = _points(content, name, date.today())
    except OSError as error:
        return Result(name, refused=f"{name} cannot be read ({error.strerror or error}): give a readable file.")
    except RankVizError as error:
        return Result(name, refused=str(error))
    is_table = name.lower().endswith(TABLE)
    text = as_table(points) if is_table else as_result(points)
    lower = sorted({point.metric for point in points if not point.higher_is_better})
    return Result(name, _kept_name(file.stem, content, TABLE if is_table else ".json"), text, len(points), lower)


def _points(content: bytes, name: str, today: date) -> tuple[QualityPoint, ...]:
    return read_table(content, name, today) if name.lower().endswith(TABLE) else read_result(content, name)


def keep(homes: Sequence[Path], results: Sequence[Result], most: int = MAX_FILES) -> Added:
    """Keep so many, with those that are there already."""
    kept, points, refused, given, lower = [], 0, [], [], set()
    names = set(kept_files(homes))
    for result in results:
        if result.refused:
            refused.append(result.refused)
        elif result.kept_name not in names and len(names) >= most:
            refused.append(
                f"{result.name}: there are {most:,} files already, the most that are kept. Remove some first."
            )
        else:
            if result.kept_name not in names:
                _write(homes[0] / FOLDER / result.kept_name, result.text)
            names.add(result.kept_name)
            kept.append(result.name)
            given.append(result.kept_name)
            points += result.points
            lower |= set(result.lower_is_better)
    return Added(kept, points, refused, given, sorted(lower))


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{secrets.token_hex(4)}")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def remove(homes: Sequence[Path], name: str) -> None:
    """A kept file by its name, as kept_files gives it."""
    if name not in kept_files(homes):
        raise BadDataError(
            f"There is no result file {name!r}: `rankviz evidence list` shows the files that were added."
        )
    for home in homes:
        (home / FOLDER / name).unlink(missing_ok=True)


def kept_files(homes: Sequence[Path]) -> list[str]:
    """Names of the kept files, which differ where what is in them does."""
    return sorted(_kept(homes))


def _kept(homes: Sequence[Path]) -> dict[str, Path]:
    paths = (path for home in homes for path in (home / FOLDER).glob("*"))
    return {path.name: path for path in paths if path.suffix in (".json", TABLE)}


def own_evidence(homes: Sequence[Path], catalogue: Sequence[ModelRow]) -> Evidence:
    """The points of all kept files: a study a task. A file that can no longer be read is left out."""
    points: list[QualityPoint] = []
    for name, path in sorted(_kept(homes).items()):
        try:
            result = _points(path.read_bytes(), name, date.today())
        except (BadDataError, OSError):
            continue
        points += _as_own(result)
    studies = {p.study_id: _study(p) for p in points}
    models = {p.base_model: _model(p, catalogue) for p in points}
    return Evidence(studies.values(), models.values(), _apart(points))


def _apart(points: Sequence[QualityPoint]) -> list[QualityPoint]:
    """Two runs of one rank that the format's fields do not distinguish get lines of their own."""

    def place(p: QualityPoint) -> tuple:
        return (p.study_id, p.base_model, p.metric, p.method, p.target_modules, p.duration, p.table, p.run_date, p.rank)

    counts = Counter(place(p) for p in points)
    return [replace(p, table=f"{p.table}, {p.experiment}") if counts[place(p)] > 1 else p for p in points]


def _as_own(points: Sequence[QualityPoint]) -> list[QualityPoint]:
    return [replace(p, study_id="added_" + re.sub(r"[^a-z0-9]+", "_", p.task.lower()).strip("_")) for p in points]


def _study(point: QualityPoint) -> Study:
    return Study(
        study_id=point.study_id,
        label=f"Added: {point.task.rsplit('/', 1)[-1]}"[:LABEL_LENGTH],
        citation=f"Result files added here: {point.task}",
        source=None,
        licence="yours",
        task_kind=None,
        examples=None,
        learning_rate_tuned_per_rank=False,
        learning_rate_tuned_per_method=False,
        learning_rate_and_alpha_policy="not stated",
        caveat=CAVEAT,
        checked=point.run_date,
        own=True,
    )


def _model(point: QualityPoint, catalogue: Sequence[ModelRow]) -> StudiedModel:
    try:
        row = find_model(catalogue, point.base_model)
    except UnknownModelError:
        row = None
    return StudiedModel(
        base_model=point.base_model,
        model_id=row.id if row else None,
        family=row.family if row else "",
        parameters=row.total_parameters if row else None,
        source="assets/models" if row else "not known",
        checked=point.run_date,
    )


def _kept_name(stem: str, content: bytes, ending: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip(".-")[:MAX_STEM] or "result"
    return f"{readable}--{hashlib.sha256(content).hexdigest()[:DIGEST_DIGITS]}{ending}"
