"""Results that someone added, stored in the runs folder and read as studies of their own."""

import hashlib
import os
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from rankviz.catalog.models import ModelRow, find_model, is_known
from rankviz.catalog.result_files import MAX_FILE_BYTES, read_points, stored
from rankviz.core.bounds import printable
from rankviz.core.studies.lines import LABEL_LENGTH, Evidence, QualityPoint, StudiedModel, Study
from rankviz.errors import BadDataError, RankVizError

FOLDER = "evidence"
MAX_FILES = 500
MAX_STEM = 80
DIGEST_DIGITS = 12
CAVEAT = (
    "Added here, not published, with the learning rates that the author of the file chose. Not included in counts over "
    "published studies."
)


class Result(NamedTuple):
    """The content of one added file."""

    name: str
    kept_name: str = ""
    text: str = ""
    points: int = 0
    lower_is_better: Sequence[str] = ()
    """Metrics of which lower values are better, by their names or by the file."""
    refused: str = ""
    """Reason why the file cannot be read, as a sentence; empty where it can."""


class Added(NamedTuple):
    """The outcome for added files. refused: one sentence per file. names: stored names, as `remove` takes them."""

    files: Sequence[str]
    points: int
    refused: Sequence[str]
    names: Sequence[str] = ()
    lower_is_better: Sequence[str] = ()


def read(file: Path) -> Result:
    """Read one file; an error becomes `refused` of the result."""
    name = printable(file.name, MAX_STEM)
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise BadDataError(f"{name} has more than {MAX_FILE_BYTES:,} bytes: divide it.")
        content = file.read_bytes()
        points = read_points(content, name, date.today())
    except OSError as error:
        return Result(name, refused=f"{name} cannot be read ({error.strerror or error}): give a readable file.")
    except RankVizError as error:
        return Result(name, refused=str(error))
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip(".-")[:MAX_STEM] or "result"
    kept_name = f"{stem}--{hashlib.sha256(content).hexdigest()[:DIGEST_DIGITS]}.json"
    lower = sorted({point.metric for point in points if not point.higher_is_better})
    return Result(name, kept_name, stored(points), len(points), lower)


def keep(homes: Sequence[Path], results: Sequence[Result], most: int = MAX_FILES) -> Added:
    """Store files until there are `most`; a file that is there already is stored once. homes: folders of the visitor
    who adds the files; the first one gets new files."""
    names, added, refused = set(kept_files(homes)), [], []
    for result in results:
        if result.refused:
            refused.append(result.refused)
        elif result.kept_name not in names and len(names) >= most:
            refused.append(f"{result.name}: there are {most:,} files already, the most that are kept.")
        else:
            if result.kept_name not in names:
                path = homes[0] / FOLDER / result.kept_name
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_name(f".{secrets.token_hex(4)}")
                temporary.write_text(result.text, encoding="utf-8")
                os.replace(temporary, path)
            names.add(result.kept_name)
            added.append(result)
    return Added(
        files=[each.name for each in added],
        points=sum(each.points for each in added),
        refused=refused,
        names=[each.kept_name for each in added],
        lower_is_better=sorted({metric for each in added for metric in each.lower_is_better}),
    )


def remove(homes: Sequence[Path], name: str) -> None:
    """Remove a stored file by its name in `kept_files`."""
    if name not in kept_files(homes):
        raise BadDataError(f"There is no result file {name!r}: `rankviz evidence list` shows those that were added.")
    for home in homes:
        (home / FOLDER / name).unlink(missing_ok=True)


def kept_files(homes: Sequence[Path]) -> list[str]:
    """Return the names of the stored files; files with different content have different names."""
    return sorted(_paths(homes))


def _paths(homes: Sequence[Path]) -> dict[str, Path]:
    paths = (path for home in homes for path in (home / FOLDER).glob("*"))
    return {path.name: path for path in paths if path.suffix in (".json", ".csv")}


def own_evidence(homes: Sequence[Path], catalogue: Sequence[ModelRow]) -> Evidence:
    """Return the points of all stored files, with one study per task. Files that can no longer be read are left out."""
    points: list[QualityPoint] = []
    for name, path in sorted(_paths(homes).items()):
        try:
            own = read_points(path.read_bytes(), name, date.today())
        except (BadDataError, OSError):
            continue
        points += [replace(p, study_id="added_" + re.sub(r"[^a-z0-9]+", "_", p.task.lower()).strip("_")) for p in own]
    studies = {p.study_id: _study(p) for p in points}
    models = {p.base_model: _model(p, catalogue) for p in points}
    # Two runs of one rank that the format's fields do not distinguish get lines of their own.
    names = ("study_id", "base_model", "metric", "method", "target_modules", "duration", "table", "run_date", "rank")
    settings = [attrgetter(*names)(p) for p in points]
    counts = Counter(settings)
    apart = [
        replace(p, table=f"{p.table}, {p.experiment}") if counts[setting] > 1 else p
        for p, setting in zip(points, settings, strict=True)
    ]
    return Evidence(studies.values(), models.values(), apart)


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
    row = find_model(catalogue, point.base_model) if is_known(catalogue, point.base_model) else None
    return StudiedModel(
        base_model=point.base_model,
        model_id=row.id if row else None,
        family=row.family if row else "",
        parameters=row.total_parameters if row else None,
        source="assets/models" if row else "not known",
        checked=point.run_date,
    )
