"""Results that visitors add, as studies of their own: CSV tables of trained runs, and PEFT's method comparison.
The files come from anyone, so every cell that is used is checked. Their points are stored in the runs folder.

PEFT's format is huggingface/peft, method_comparison/*/results/*.json: run_info, train_info and meta_info in one object.
"""

import csv
import hashlib
import io
import json
import os
import re
import secrets
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import date
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from rankviz.catalog.models import ModelRow, find_model, is_known
from rankviz.core.bounds import MAX_NUMBER, UNPRINTABLE, printable, shown
from rankviz.core.from_json import build
from rankviz.core.studies.lines import FULL, LABEL_LENGTH, Evidence, QualityPoint, StudiedModel, Study, facet_of
from rankviz.errors import BadDataError, RankVizError

FOLDER = "evidence"
MAX_FILES = 500
MAX_STEM = 80
MAX_FILE_BYTES = 2_000_000
MAX_ROWS, MAX_POINTS = 5_000, 500  # most rows of one table, and most points of one file
MAX_RANK = 65_536
MAX_TEXT = 200
MAX_METRIC = 1e9  # largest absolute value of a metric, since figures have no room for longer numbers
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "out_proj", "query_key_value", "c_attn")
MLP = ("gate_proj", "up_proj", "down_proj", "gate_up_proj", "fc1", "fc2", "dense_h_to_4h", "dense_4h_to_h", "c_fc")
LOWER_IS_BETTER = {
    "loss", "nll", "perplexity", "ppl", "bits", "bpb", "bpc", "error", "forgetting", "drift", "wer", "cer", "ter",
    "eer", "mer", "der", "mae", "mse", "rmse", "rmsle", "mape", "fid", "kl",
    "entropy", "brier", "distance", "toxicity", "latency",
}  # fmt: skip
"""Words in names of metrics whose lower values are better."""
COUNTED = ("samples", "tokens", "time", "step", "mem ")
"""Starts and ends of names of PEFT's metrics that do not measure quality."""
UNKNOWN = {each.name: None for each in fields(QualityPoint) if each.type in (int | None, float | None)}


def _number(kind: type, low: float, high: float) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if not low <= (value := kind(text)) <= high:
            raise ValueError(text)
        return value

    return read


def _text(value: str) -> str:
    if not 0 < len(value) <= MAX_TEXT or UNPRINTABLE.search(value):
        raise ValueError(value)
    return value


PLAIN_TEXT = (_text, f"a text of 1 to {MAX_TEXT} characters")
VALUE = (_number(float, -MAX_METRIC, MAX_METRIC), "a number")
ABOVE_0 = (_number(float, 5e-324, MAX_NUMBER), "a number above 0")
RANK = (
    lambda text: FULL if text.lower() == FULL else _number(int, 1, MAX_RANK)(text),
    f"a whole number from 1 to {MAX_RANK:,}, or {FULL}",
)
YES_OR_NO = (lambda text: {"yes": True, "no": False}[text.lower()], "yes or no")
ERROR = (_number(float, 0, MAX_METRIC), "a number, 0 or more")
COLUMNS: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "model": ("the base model's id", *PLAIN_TEXT),
    "task": ("what it was trained for and tested on", *PLAIN_TEXT),
    "metric": ("the name of the score or loss", *PLAIN_TEXT),
    "rank": (f"the LoRA rank, or {FULL} for full fine-tuning", *RANK),
    "value": ("the run's result", *VALUE),
    "higher_is_better": ("yes or no (else the metric's name decides)", *YES_OR_NO),
    "seed": ("runs that differ in it alone are averaged", str, "a text"),
    "standard_error": ("of the value, where a row is a mean already", *ERROR),
    "base_value": ("the metric before training", *VALUE),
    "learning_rate": ("", *ABOVE_0),
    "lora_alpha": ("", *ABOVE_0),
    "method": ("lora, rslora, dora, ...", *PLAIN_TEXT),
    "target_modules": ('names with commas between them, or "all-linear"', *PLAIN_TEXT),
    "trainable_parameters": ("", _number(int, 1, MAX_NUMBER), "a whole number above 0"),
    "date": ("such as 2026-01-31", date.fromisoformat, "a date such as 2026-01-31"),
}
"""(meaning, parser of a cell, valid values in words) of each column of a table. The first five are required."""
NEEDED = tuple(COLUMNS)[:5]
COLUMNS_HELP = "; ".join(f"{name}: {meaning}" if meaning else name for name, (meaning, *_) in COLUMNS.items())
HEADER = f"its first line must name the columns {', '.join(NEEDED)}"


def read_points(content: bytes, file: str, today: date) -> tuple[QualityPoint, ...]:
    """Return the points in a table or a file of PEFT; raise BadDataError, which names the file and what is wrong. file:
    Name of the file; ".json" at its end means PEFT's format. today: Date of rows without a date."""
    if file.lower().endswith(".json"):
        try:
            points = tuple(_points_of_run(json.loads(content), file, today))
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError):
            raise BadDataError(
                f"{file} is not a result file as PEFT's method comparison writes it: give one of a run that finished, "
                "with run_info, train_info and a quality metric such as 'test accuracy'."
            ) from None
    else:
        try:
            rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
        except (UnicodeDecodeError, csv.Error):
            raise BadDataError(f"{file} is not a CSV file in UTF-8: {HEADER}.") from None
        if missing := [name for name in NEEDED if not rows or name not in rows[0]]:
            raise BadDataError(f"{file} has no {', '.join(missing)}, or no row: {HEADER}, with commas between them.")
        if len(rows) > MAX_ROWS:
            raise BadDataError(f"{file} has {len(rows):,} rows, at most {MAX_ROWS:,} are read: divide it.")
        points = _averaged([_point(row, f"{file}, row {n}", file, today) for n, row in enumerate(rows, start=2)])
    if len(points) > MAX_POINTS:
        raise BadDataError(f"{file} has {len(points):,} settings, at most {MAX_POINTS:,} are read: divide it.")
    return points


def _point(cells: Mapping[str, Any], where: str, file: str, today: date) -> QualityPoint:
    given = {}
    for name, (_, parse, what) in COLUMNS.items():
        text = (cells.get(name) or "").strip()
        try:
            given[name] = parse(text) if text or name in NEEDED else None
        except (ValueError, KeyError, OverflowError):
            raise BadDataError(f"{where}, {name}: {shown(text)} is not {what}: correct it.") from None
    full, higher, targets = given["rank"] == FULL, given["higher_is_better"], given["target_modules"] or ""
    if higher is None:  # by whole words of the metric's name: "answer_accuracy" is not "wer"
        words = re.findall(r"[a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", given["metric"]).lower())
        higher = LOWER_IS_BETTER.isdisjoint(words) or "accuracy" in words
    parts = [name.rsplit(".", 1)[-1] for name in targets.split(",")]
    parts = ["attention" if name in ATTENTION else "mlp" if name in MLP else "other" for name in parts]
    facet = "attention and mlp" if targets == "all-linear" else facet_of(parts) if targets else "not stated"
    names = ("task", "metric", "value", "base_value", "standard_error", "learning_rate", "lora_alpha")
    return QualityPoint(
        **UNKNOWN
        | {name: given[name] for name in (*names, "trainable_parameters")}
        | {
            "study_id": "",
            "base_model": given["model"],
            "higher_is_better": higher,
            "role": "main",
            "method": FULL if full else (given["method"] or "lora").lower(),
            "target_modules": "all weights" if full else targets,
            "facet": "all weights" if full else facet,
            "rank": None if full else given["rank"],
            "duration": "",
            "table": "results",
            "experiment": file,
            "run_date": (given["date"] or today).isoformat(),
        }
    )


def _points_of_run(result: Mapping, file: str, today: date) -> Iterator[QualityPoint]:
    """Yield a point for each final metric of a run in PEFT's file, checked like the cells of a table."""
    run, train = result["run_info"], result["train_info"]
    if train["status"] != "success":
        raise BadDataError(f"{file}: the run's status is {shown(train['status'])}: give a run with 'success'.")
    setup, lora = run["train_config"], run.get("peft_config")
    config = lora or {}
    method = str(config.get("peft_type", "?")).lower()
    if method == "lora":
        method = next((flag[4:] for flag in ("use_dora", "use_rslora", "use_bdlora") if config.get(flag)), method)
    targets = config.get("target_modules")
    rate = (setup.get("optimizer_kwargs") or {}).get("lr")
    steps, batch = setup.get("max_steps"), setup.get("batch_size")
    cells = {
        "model": setup["model_id"],
        # The format does not name its task: the dataset if it is given, otherwise the kind of comparison.
        "task": setup.get("dataset_id") or ("MetaMathQA" if "query_template" in setup else "result files"),
        "rank": FULL if lora is None else next((config[key] for key in ("r", "init_r", "rank") if config.get(key)), ""),
        "learning_rate": rate,
        "lora_alpha": config.get("lora_alpha"),
        "method": method,
        "target_modules": ",".join(sorted(targets)) if isinstance(targets, list) else targets,
        "trainable_parameters": train.get("num_trainable_params"),
        "date": str(run["created_at"])[:10],
    }
    more = {
        "adapter_bytes": train.get("file_size") or None,
        "peak_memory_bytes": train.get("accelerator_memory_max", train.get("cuda_memory_max")) or None,
        "train_seconds": train.get("train_time"),
        "duration": f"{steps:d} steps x batch {batch:d}" if steps and batch else "",
        "table": f"result files, learning rate {rate:g}" if rate else "result files",
        "experiment": _text(run["experiment_name"].strip()),
    }
    quality = {
        name: value
        for name, value in train["metrics"][-1].items()
        if type(value) in (int, float) and not name.startswith(COUNTED) and not name.endswith(COUNTED)
    }
    if not quality:
        raise ValueError("no quality metric")
    for name, value in quality.items():
        forgot = any(word in name.lower() for word in ("forgetting", "drift"))
        role = "forgetting" if forgot else "main" if "test" in name.lower() else "detail"
        row = cells | {"metric": name, "value": value}
        point = _point({key: "" if each is None else str(each) for key, each in row.items()}, file, file, today)
        yield build(QualityPoint, asdict(point) | more | {"role": role})


def _averaged(points: Sequence[QualityPoint]) -> tuple[QualityPoint, ...]:
    """Return the points with the runs of each setting replaced by their mean and its standard error. Where a rank was
    run with several learning rates, each rate becomes a line of its own."""
    line_of = attrgetter("base_model", "task", "metric", "method", "target_modules")
    runs: dict[QualityPoint, list[QualityPoint]] = {}
    rates: dict[tuple, set[float | None]] = {}
    for point in points:
        runs.setdefault(replace(point, value=0.0, standard_error=None), []).append(point)
        rates.setdefault((*line_of(point), point.rank), set()).add(point.learning_rate)
    several = {cell[:-1] for cell, tried in rates.items() if len(tried) > 1}
    averaged = []
    for same in runs.values():
        first, values = same[0], [point.value for point in same]
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else first.standard_error
        rate = f", learning rate {first.learning_rate or 0:g}" if line_of(first) in several else ""
        changed = {"value": statistics.fmean(values), "standard_error": error, "table": f"results{rate}"}
        averaged.append(replace(first, **changed))
    return tuple(averaged)


class Result(NamedTuple):
    """Content of one added file. text: Its points as JSON. lower_is_better: Metrics of which lower values are better.
    refused: Why the file cannot be read; empty for a valid file."""

    name: str
    kept_name: str = ""
    text: str = ""
    points: int = 0
    lower_is_better: Sequence[str] = ()
    refused: str = ""


class Added(NamedTuple):
    """Outcome of adding files. refused: One sentence per refused file. names: Stored names, for `remove`."""

    files: Sequence[str]
    points: int
    refused: Sequence[str]
    names: Sequence[str] = ()
    lower_is_better: Sequence[str] = ()


def read(file: Path) -> Result:
    """Read one file. An error is returned as `refused` of the result."""
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
    kept_name = f"{stem}--{hashlib.sha256(content).hexdigest()[:12]}.json"
    lower = sorted({point.metric for point in points if not point.higher_is_better})
    text = json.dumps({"points": [asdict(point) for point in points]}, ensure_ascii=False)
    return Result(name, kept_name, text, len(points), lower)


def keep(homes: Sequence[Path], results: Sequence[Result], most: int = MAX_FILES) -> Added:
    """Store the points of files until there are `most` files; equal content is stored once. homes: Folders of the
    visitor who adds the files; new files go to the first."""
    names, added, refused = set(kept_files(homes)), [], []
    for result in results:
        if result.refused:
            refused.append(result.refused)
        elif result.kept_name not in names and len(names) >= most:
            refused.append(f"{result.name}: there are {most:,} files already, the most that are kept.")
        else:
            path = homes[0] / FOLDER / result.kept_name  # written also where it is: an early version's had no points
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
    """Delete a stored file by its name in `kept_files`."""
    if name not in kept_files(homes):
        raise BadDataError(f"There is no result file {name!r}: `rankviz evidence list` shows those that were added.")
    for home in homes:
        (home / FOLDER / name).unlink(missing_ok=True)


def kept_files(homes: Sequence[Path]) -> dict[str, Path]:
    """Return the stored files by name, sorted. Files with different content have different names."""
    return dict(sorted((path.name, path) for home in homes for path in (home / FOLDER).glob("*.json")))


def own_evidence(homes: Sequence[Path], catalogue: Sequence[ModelRow]) -> Evidence:
    """Return the points of all stored files, with one study per task. Files that can no longer be read are left out."""
    points: list[QualityPoint] = []
    for path in kept_files(homes).values():
        try:
            own = [build(QualityPoint, row) for row in json.loads(path.read_bytes())["points"]]
        except (ValueError, LookupError, TypeError, RecursionError, OSError):
            continue
        points += [replace(p, study_id="added_" + re.sub(r"[^a-z0-9]+", "_", p.task.lower()).strip("_")) for p in own]
    caveat = "Added here, not published, with its author's learning rates, and not in counts over published studies."
    studies = {
        p.study_id: Study(
            study_id=p.study_id,
            label=f"Added: {p.task.rsplit('/', 1)[-1]}"[:LABEL_LENGTH],
            citation=f"Result files added here: {p.task}",
            licence="yours",
            **dict.fromkeys(("source", "task_kind", "examples")),
            **dict.fromkeys(("learning_rate_tuned_per_rank", "learning_rate_tuned_per_method"), False),
            learning_rate_and_alpha_policy="not stated",
            caveat=caveat,
            checked=p.run_date,
            own=True,
        )
        for p in points
    }
    models = {}
    for p in points:
        row = find_model(catalogue, p.base_model) if is_known(catalogue, p.base_model) else None
        models[p.base_model] = StudiedModel(
            base_model=p.base_model,
            model_id=row.id if row else None,
            family=row.family if row else "",
            parameters=row.total_parameters if row else None,
            source="assets/models" if row else "not known",
            checked=p.run_date,
        )
    # Two runs of one rank that the columns do not distinguish get lines of their own.
    names = ("study_id", "base_model", "metric", "method", "target_modules", "duration", "table", "run_date", "rank")
    settings = [attrgetter(*names)(p) for p in points]
    counts = Counter(settings)
    apart = [
        replace(p, table=f"{p.table}, {p.experiment}") if counts[setting] > 1 else p
        for p, setting in zip(points, settings, strict=True)
    ]
    return Evidence(studies.values(), models.values(), apart)
