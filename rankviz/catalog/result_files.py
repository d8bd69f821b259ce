"""Result files that someone adds, as points of a study: tables of raw results, and files of PEFT's method comparison.
A table is CSV with the columns of COLUMNS. PEFT's format is huggingface/peft, method_comparison/*/results/*.json:
run_info, train_info and meta_info in one JSON object. The files come from anyone, so every field that is used is
checked."""

import csv
import io
import json
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import date
from typing import Any

from rankviz.core.bounds import MAX_NUMBER, UNPRINTABLE, printable
from rankviz.core.from_json import build, quoted
from rankviz.core.studies.lines import FULL, Facet, QualityPoint, facet_of
from rankviz.errors import BadDataError

MAX_FILE_BYTES = 2_000_000
MAX_ROWS, MAX_POINTS = 5_000, 500
"""Rows of one table, and points of one file."""
MAX_RANK = 65_536
MAX_TEXT = 200
MAX_METRIC = 1e9
"""Largest absolute value of a metric, since a figure has no room for more."""
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "out_proj", "query_key_value", "c_attn")
MLP = ("gate_proj", "up_proj", "down_proj", "gate_up_proj", "fc1", "fc2", "dense_h_to_4h", "dense_4h_to_h", "c_fc")
LOWER_IS_BETTER = {
    "loss", "nll", "perplexity", "ppl", "bits", "bpb", "bpc", "error", "forgetting", "drift", "wer", "cer", "ter",
    "eer", "mer", "der", "mae", "mse", "rmse", "rmsle", "mape", "fid", "kl",
    "entropy", "brier", "distance", "toxicity", "latency",
}  # fmt: skip
"""Words in the names of metrics of which lower values are better."""
FORGETTING = ("forgetting", "drift")
COUNTED = ("samples", "tokens", "time", "step", "mem ")
"""Beginnings and ends of the names of metrics that do not measure quality."""
UNKNOWN = {each.name: None for each in fields(QualityPoint) if each.type in (int | None, float | None)}


def _number(kind: type, low: float, high: float) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if not low <= (value := kind(text)) <= high:
            raise ValueError(text)
        return value

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value.strip()) <= len(value) <= MAX_TEXT or UNPRINTABLE.search(value):
        raise ValueError(value)
    return value.strip()


PLAIN_TEXT = (_text, f"a text of 1 to {MAX_TEXT} characters")
VALUE = (_number(float, -MAX_METRIC, MAX_METRIC), "a number")
ABOVE_0 = (_number(float, 5e-324, MAX_NUMBER), "a number above 0")
RANK = (
    lambda text: FULL if text.lower() == FULL else _number(int, 1, MAX_RANK)(text),
    f"a whole number from 1 to {MAX_RANK:,}, or {FULL}",
)
YES_OR_NO = (lambda text: {"yes": True, "no": False}[text.lower()], "yes or no")
COLUMNS: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "model": ("the base model's id", *PLAIN_TEXT),
    "task": ("what it was trained for and tested on", *PLAIN_TEXT),
    "metric": ("the name of the score or loss", *PLAIN_TEXT),
    "rank": (f"the LoRA rank, or {FULL} for full fine-tuning", *RANK),
    "value": ("the run's result", *VALUE),
    "higher_is_better": ("yes or no (else the metric's name decides)", *YES_OR_NO),
    "seed": ("runs that differ in it alone are averaged", str, "a text"),
    "standard_error": (
        "of the value, where a row is a mean already",
        _number(float, 0, MAX_METRIC),
        "a number, 0 or more",
    ),
    "base_value": ("the metric before training", *VALUE),
    "learning_rate": ("", *ABOVE_0),
    "lora_alpha": ("", *ABOVE_0),
    "method": ("lora, rslora, dora, ...", *PLAIN_TEXT),
    "target_modules": ('names with commas between them, or "all-linear"', *PLAIN_TEXT),
    "trainable_parameters": ("", _number(int, 1, MAX_NUMBER), "a whole number above 0"),
    "date": ("such as 2026-01-31", date.fromisoformat, "a date such as 2026-01-31"),
}
"""Columns of a table by name: (meaning, reader of a cell, what a cell must be). The first five are required."""
NEEDED = tuple(COLUMNS)[:5]
COLUMNS_HELP = "; ".join(f"{name}: {meaning}" if meaning else name for name, (meaning, *_) in COLUMNS.items())
HEADER = f"its first line must name the columns {', '.join(NEEDED)}"


def read_points(content: bytes, file: str, today: date) -> tuple[QualityPoint, ...]:
    """Read a file of either format, or one that `stored` made; raise BadDataError with the file and what is wrong.
    file: the file's name, which ends in .csv for a table. today: the date of rows without one."""
    if len(content) > MAX_FILE_BYTES:
        raise BadDataError(f"{file} has {len(content):,} bytes, more than the {MAX_FILE_BYTES:,} allowed: divide it.")
    read = _read_table if file.lower().endswith(".csv") else _read_json
    points = read(content, file, today)
    if len(points) > MAX_POINTS:
        raise BadDataError(f"{file} has {len(points):,} settings, at most {MAX_POINTS:,} are read: divide it.")
    return points


def stored(points: Sequence[QualityPoint]) -> str:
    """Return a file from which `read_points` reads the same points; nothing else of an added file is stored."""
    return json.dumps({"points": [asdict(point) for point in points]}, ensure_ascii=False)


def _read_table(content: bytes, file: str, today: date) -> tuple[QualityPoint, ...]:
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadDataError(f"{file} is no CSV in UTF-8 ({printable(str(error), 80)}): {HEADER}.") from None
    if missing := [name for name in NEEDED if not rows or name not in rows[0]]:
        raise BadDataError(f"{file} has no {', '.join(missing)}, or no row: {HEADER}, with commas between them.")
    if len(rows) > MAX_ROWS:
        raise BadDataError(f"{file} has {len(rows):,} rows, at most {MAX_ROWS:,} are read: divide it.")
    return _averaged([_point(cells, f"{file}, row {row}", file, today) for row, cells in enumerate(rows, start=2)])


def _point(cells: Mapping[str, Any], where: str, file: str, today: date) -> QualityPoint:
    given = {}
    for name, (_, parse, what) in COLUMNS.items():
        text = (cells.get(name) or "").strip()
        try:
            given[name] = parse(text) if text or name in NEEDED else None
        except (ValueError, KeyError, OverflowError):
            raise BadDataError(f"{where}, {name}: {quoted(text)} is not {what}: correct it.") from None
    full, higher, targets = given["rank"] == FULL, given["higher_is_better"], given["target_modules"] or ""
    names = ("task", "metric", "value", "base_value", "standard_error", "learning_rate", "lora_alpha")
    return QualityPoint(
        **UNKNOWN
        | {name: given[name] for name in (*names, "trainable_parameters")}
        | {
            "study_id": "",
            "base_model": given["model"],
            "higher_is_better": not lower_is_better(given["metric"]) if higher is None else higher,
            "role": "main",
            "method": FULL if full else (given["method"] or "lora").lower(),
            "target_modules": "all weights" if full else targets,
            "facet": "all weights" if full else facet_of_targets(targets),
            "rank": None if full else given["rank"],
            "duration": "",
            "table": "results",
            "experiment": file,
            "run_date": (given["date"] or today).isoformat(),
        }
    )


def _averaged(points: Sequence[QualityPoint]) -> tuple[QualityPoint, ...]:
    """Replace the runs of one setting by their mean with its standard error. Where a rank was run with several
    learning rates, each rate becomes a line of its own."""
    runs: dict[tuple, list[dict[str, Any]]] = {}
    rates: dict[tuple, set[float | None]] = {}
    for point in points:
        row = asdict(point)
        setting = tuple(value for name, value in row.items() if name not in ("value", "standard_error"))
        runs.setdefault(setting, []).append(row)
        rates.setdefault((*_line_of(row), point.rank), set()).add(point.learning_rate)
    several = {cell[:-1] for cell, tried in rates.items() if len(tried) > 1}
    averaged = []
    for same in runs.values():
        first, values = same[0], [row["value"] for row in same]
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else first["standard_error"]
        rate = f", learning rate {first['learning_rate'] or 0:g}" if _line_of(first) in several else ""
        changed = {"value": statistics.fmean(values), "standard_error": error, "table": f"results{rate}"}
        averaged.append(QualityPoint(**first | changed))
    return tuple(averaged)


def _line_of(row: Mapping[str, Any]) -> tuple:
    return tuple(row[name] for name in ("base_model", "task", "metric", "method", "target_modules"))


def _read_json(content: bytes, file: str, today: date) -> tuple[QualityPoint, ...]:
    try:
        result = json.loads(content)
        if isinstance(result, dict) and isinstance(result.get("points"), list):
            return tuple(build(QualityPoint, row) for row in result["points"])
        return tuple(_points_of_run(result["run_info"], result["train_info"], file, today))
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        why = printable(f"{type(error).__name__}: {error}", 80)
        raise BadDataError(
            f"{file} is not a result file as PEFT's method comparison writes it ({why}): give one of a run that "
            "finished, with run_info, train_info and a quality metric such as 'test accuracy'."
        ) from None


def _points_of_run(run: Mapping, train: Mapping, file: str, today: date) -> Iterator[QualityPoint]:
    """Yield a point for each of a run's last metrics, read like the cells of a table."""
    if train["status"] != "success":
        raise BadDataError(f"{file}: the run's status is {quoted(train['status'])}: give a run with 'success'.")
    setup, lora = run["train_config"], run.get("peft_config")
    config = lora or {}
    rank = next((config[name] for name in ("r", "init_r", "rank") if config.get(name) is not None), "")
    method = str(config.get("peft_type", "?")).lower()
    if method == "lora":
        method = next((flag[4:] for flag in ("use_dora", "use_rslora", "use_bdlora") if config.get(flag)), method)
    targets = config.get("target_modules")
    targets = ",".join(sorted(targets)) if isinstance(targets, list) else targets or ""
    rate = (setup.get("optimizer_kwargs") or {}).get("lr")
    steps, batch = (_known(setup.get(name)) for name in ("max_steps", "batch_size"))
    # The format does not name its task: the dataset if it is given, otherwise the kind of comparison.
    task = setup.get("dataset_id") or ("MetaMathQA" if "query_template" in setup else "result files")
    cells = {
        "model": setup["model_id"],
        "task": task,
        "rank": FULL if lora is None else rank,
        "learning_rate": rate,
        "lora_alpha": config.get("lora_alpha"),
        "method": method,
        "target_modules": targets,
        "trainable_parameters": train.get("num_trainable_params"),
        "date": str(run["created_at"])[:10],
    }
    more = {
        "adapter_bytes": _known(train.get("file_size")),
        "peak_memory_bytes": _known(train.get("accelerator_memory_max", train.get("cuda_memory_max"))),
        "train_seconds": train.get("train_time"),
        "duration": f"{steps} steps x batch {batch}" if steps and batch else "",
        "table": f"result files, learning rate {rate:g}" if rate else "result files",
        "experiment": _text(run["experiment_name"]),
    }
    metrics = {
        name: value
        for name, value in train["metrics"][-1].items()
        if type(value) in (int, float)
        and value == value
        and not name.startswith(COUNTED)
        and not name.endswith(COUNTED)
    }
    if not metrics:
        raise ValueError("no quality metric")
    for name, value in metrics.items():
        lower = name.lower()
        role = "forgetting" if any(word in lower for word in FORGETTING) else "main" if "test" in lower else "detail"
        row = {
            key: "" if each is None else str(each) for key, each in (cells | {"metric": name, "value": value}).items()
        }
        yield build(QualityPoint, asdict(_point(row, file, file, today)) | more | {"role": role})


def facet_of_targets(targets: str) -> Facet:
    """Return the facet of comma-separated module names, "all-linear" or an empty text."""
    if targets == "all-linear":
        return "attention and mlp"
    names = [name.rsplit(".", 1)[-1] for name in targets.split(",")]
    parts = ["attention" if name in ATTENTION else "mlp" if name in MLP else "other" for name in names]
    return facet_of(parts) if targets else "not stated"


def lower_is_better(metric: str) -> bool:
    """Tell whether lower values are better, by the whole words of a metric's name: "answer_accuracy" is no WER."""
    words = set(re.findall(r"[a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", metric).lower()))
    return bool(words & LOWER_IS_BETTER) and "accuracy" not in words


def _known(value: Any) -> int | None:
    return value if type(value) is int and 0 < value <= MAX_NUMBER else None
