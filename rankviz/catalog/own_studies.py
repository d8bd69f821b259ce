"""Files of results that someone added, as studies of their own: tables of raw results and PEFT's result files.

What is shown of one is kept in RANKVIZ_HOME/evidence/ as a small file of the same format, so that the page never reads
what somebody else wrote.
"""

import hashlib
import os
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

from rankviz.catalog.models import ModelRow, find_model
from rankviz.catalog.peft_results import MAX_FILE_BYTES, USUAL_FILE_BYTES, as_result, read_result
from rankviz.catalog.raw_results import as_table, read_table
from rankviz.core.bounds import printable
from rankviz.core.studies.lines import LABEL_LENGTH, BaseModel, Evidence, QualityPoint, Study
from rankviz.errors import BadDataError, RankVizError, UnknownModelError

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
    refused: str = ""
    """Why it cannot be read, as a sentence; empty where it can."""


class Added(NamedTuple):
    """The outcome for the given files. refused: one sentence per file. names: of the added ones, as remove takes
    them."""

    files: Sequence[str]
    points: int
    refused: Sequence[str]
    names: Sequence[str] = ()


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
    return Result(name, _kept_name(file.stem, content, TABLE if is_table else ".json"), text, len(points))


def _points(content: bytes, name: str, today: date) -> tuple[QualityPoint, ...]:
    return read_table(content, name, today) if name.lower().endswith(TABLE) else read_result(content, name)


def keep(homes: Sequence[Path], results: Sequence[Result], most: int = MAX_FILES) -> Added:
    """Keep so many, with those that are there already."""
    kept, points, refused, given = [], 0, [], []
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
    return Added(kept, points, refused, given)


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


def _model(point: QualityPoint, catalogue: Sequence[ModelRow]) -> BaseModel:
    try:
        row = find_model(catalogue, point.base_model)
    except UnknownModelError:
        row = None
    return BaseModel(
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
