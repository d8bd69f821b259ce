"""Result files that someone added, kept under RANKVIZ_HOME/evidence/ as they came, and read as studies of their own."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rankviz.catalog.models import ModelRow, find_model
from rankviz.catalog.peft_results import MAX_FILE_BYTES, USUAL_FILE_BYTES, read_result
from rankviz.core.bounds import printable
from rankviz.core.studies.lines import LABEL_LENGTH, BaseModel, Evidence, QualityPoint, Study
from rankviz.errors import BadDataError, RankVizError, UnknownModelError

FOLDER = "evidence"
MAX_FILES = 500
MAX_STEM = 80
DIGEST_DIGITS = 12
CAVEAT = (
    "Added here, not published: one run per file, with the learning rate that its author chose. Not included in counts "
    "over published studies."
)


class Added(NamedTuple):
    """The outcome for the given files. refused: one sentence per file."""

    files: Sequence[str]
    points: int
    refused: Sequence[str]


def add(home: Path, files: Sequence[Path]) -> Added:
    """Keep the files that can be read; the same file again is kept once."""
    folder = home / FOLDER
    kept, points, refused = [], 0, []
    for file in files:
        name = printable(file.name, MAX_STEM)
        try:
            if file.stat().st_size > MAX_FILE_BYTES:
                raise BadDataError(
                    f"{name} has more than {MAX_FILE_BYTES:,} bytes: a result file has about {USUAL_FILE_BYTES:,}."
                )
            content = file.read_bytes()
            points += len(read_result(content, name))
            if len(list(folder.glob("*.json"))) >= MAX_FILES:
                raise BadDataError(f"{name}: there are {MAX_FILES} files already: remove some first.")
        except OSError as error:
            refused.append(f"{name} cannot be read ({error.strerror or error}): give a readable file.")
        except RankVizError as error:
            refused.append(str(error))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _kept_name(file.stem, content)).write_bytes(content)
            kept.append(name)
    return Added(kept, points, refused)


def remove(home: Path, name: str) -> None:
    """A kept file by its name, as kept_files gives it."""
    if name not in kept_files(home):
        raise BadDataError(
            f"There is no result file {name!r}: `rankviz evidence list` shows the files that were added."
        )
    (home / FOLDER / name).unlink()


def kept_files(home: Path) -> list[str]:
    """Names of the kept files."""
    return sorted(path.name for path in (home / FOLDER).glob("*.json"))


def stamp(home: Path) -> tuple:
    """A value that changes whenever the files change."""
    folder = home / FOLDER
    return tuple((path.name, path.stat().st_mtime_ns) for path in sorted(folder.glob("*.json")))


def own_evidence(home: Path, catalogue: Sequence[ModelRow]) -> Evidence:
    """The points of all kept files: a study a task. A file that can no longer be read is left out."""
    points: list[QualityPoint] = []
    for name in kept_files(home):
        path = home / FOLDER / name
        try:
            result = read_result(path.read_bytes(), name)
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
        citation=f"Result files added here, in the format of PEFT's method comparison: {point.task}",
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


def _kept_name(stem: str, content: bytes) -> str:
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip(".-")[:MAX_STEM] or "result"
    return f"{readable}--{hashlib.sha256(content).hexdigest()[:DIGEST_DIGITS]}.json"
