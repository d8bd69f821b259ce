"""Result files of PEFT's method comparison, as points of a study: run_info, train_info, meta_info in one JSON object.

The format is that of huggingface/peft, method_comparison/*/results/*.json, in both spellings of its memory fields. Only
the needed fields must be there, and every field is checked, because the files come from anyone.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rankviz.core.bounds import MAX_NUMBER, UNPRINTABLE, printable
from rankviz.core.from_json import quoted
from rankviz.core.studies.lines import FULL, Facet, QualityPoint, facet_of
from rankviz.errors import BadDataError

MAX_FILE_BYTES = 2_000_000
USUAL_FILE_BYTES = 14_000
MAX_RANK = 65_536
QUOTED = 40
"""Characters of a file that an error quotes."""
MAX_TEXT = 200
MAX_METRICS = 50
"""Of one file that are kept as points."""
MAX_METRIC = 1e9
"""Of a quality, either way; a figure has no room for more."""
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "out_proj", "query_key_value", "c_attn")
MLP = ("gate_proj", "up_proj", "down_proj", "gate_up_proj", "fc1", "fc2", "dense_h_to_4h", "dense_4h_to_h", "c_fc")
LOWER_IS_BETTER = {
    "loss", "nll", "perplexity", "ppl", "bits", "bpb", "bpc", "error", "forgetting", "drift", "wer", "cer", "ter",
    "eer", "mer", "der", "mae", "mse", "rmse", "rmsle", "mape", "fid", "kl",
    "entropy", "brier", "distance", "toxicity", "latency",
}  # fmt: skip
"""Words of a metric's name: one of them makes less the better."""
FORGETTING = ("forgetting", "drift")
COUNTED = ("samples", "tokens", "time", "step", "mem ")
"""Metrics that are not qualities."""


def read_result(text: str | bytes, file: str) -> tuple[QualityPoint, ...]:
    """The points of one result file; BadDataError names the file and what is wrong with it."""
    size = len(text)
    if size > MAX_FILE_BYTES:
        raise BadDataError(
            f"{file} has {size:,} bytes, more than {MAX_FILE_BYTES:,}: a result file has about {USUAL_FILE_BYTES:,}."
        )
    try:
        result = json.loads(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError) as error:
        why = printable(str(error), 80)
        raise BadDataError(f"{file} is not JSON ({why}): give a result file as PEFT writes it.") from None
    run, train = _object(result, "run_info", file), _object(result, "train_info", file)
    if train.get("status") != "success":
        raise BadDataError(
            f"{file}: the run's status is {quoted(train.get('status'))}, not 'success': give the result of a "
            "run that succeeded."
        )
    config, setup = run.get("peft_config"), _object(run, "train_config", file)
    if config is not None and not isinstance(config, dict):
        raise BadDataError(f"{file}: peft_config is neither an object nor null: give a result file as PEFT writes it.")
    metrics = train.get("metrics")
    if not isinstance(metrics, list) or not metrics or not isinstance(metrics[-1], dict):
        raise BadDataError(f"{file}: train_info.metrics is empty: give the result of a run that finished.")
    shared = _shared(run, train, setup, config, file)
    points = tuple(
        QualityPoint(metric=name, value=value, **_kind(name), **shared)
        for name, value in metrics[-1].items()
        if _is_quality(name, value)
    )
    if len(points) > MAX_METRICS:
        raise BadDataError(f"{file} has {len(points):,} metrics, at most {MAX_METRICS} are read: leave some out.")
    if not points:
        raise BadDataError(f"{file}: the last of train_info.metrics has no quality metric, such as 'test accuracy'.")
    return points


def as_result(points: Sequence[QualityPoint]) -> str:
    """A result file of which `read_result` makes the same points: no more is kept of one that somebody gave."""
    point = points[0]
    steps, batch = point.duration.split(" steps x batch ") if point.duration else (0, 0)
    config = {
        "peft_type": point.method,
        "r": point.rank,
        "lora_alpha": point.lora_alpha,
        "target_modules": point.target_modules,
    }
    run = {
        "created_at": point.run_date,
        "experiment_name": point.experiment,
        "peft_config": None if point.facet == "all weights" else config,
        "train_config": {
            "model_id": point.base_model,
            "dataset_id": point.task,
            "max_steps": int(steps),
            "batch_size": int(batch),
            "optimizer_kwargs": {"lr": point.learning_rate},
        },
    }
    train = {
        "status": "success",
        "num_trainable_params": point.trainable_parameters,
        "file_size": point.adapter_bytes,
        "accelerator_memory_max": point.peak_memory_bytes,
        "train_time": point.train_seconds,
        "metrics": [{each.metric: each.value for each in points}],
    }
    return json.dumps({"run_info": run, "train_info": train}, ensure_ascii=False)


def _shared(
    run: Mapping[str, Any], train: Mapping[str, Any], setup: Mapping[str, Any], config: Mapping | None, file: str
) -> dict[str, Any]:
    """What all points of one run have in common."""
    rank, targets = _rank_of(config, file), _targets(config)
    optimizer = setup.get("optimizer_kwargs")
    rate = _number(optimizer.get("lr")) if isinstance(optimizer, dict) else None
    steps, batch = (_whole(setup.get(name)) for name in ("max_steps", "batch_size"))
    return {
        "study_id": "",
        "base_model": _text(setup.get("model_id"), "run_info.train_config.model_id", file),
        "task": _task(run, file),
        "method": _method(config),
        "target_modules": targets,
        "facet": "all weights" if config is None else facet_of_targets(targets),
        "rank": rank,
        "lora_alpha": _number(config.get("lora_alpha")) if config else None,
        "learning_rate": rate,
        "learning_rates_tried": None,
        "standard_error": None,
        "reference_learning_rate": None,
        "value_at_reference_rate": None,
        "trainable_parameters": _whole(train.get("num_trainable_params")),
        "adapter_bytes": _whole(train.get("file_size")),
        "peak_memory_bytes": _whole(train.get("accelerator_memory_max", train.get("cuda_memory_max"))),
        "train_seconds": _number(train.get("train_time")),
        "duration": f"{steps} steps x batch {batch}" if steps and batch else "",
        "table": f"result files, learning rate {rate:g}" if rate else "result files",
        "experiment": _text(run.get("experiment_name"), "run_info.experiment_name", file),
        "run_date": _date(run, file),
    }


def _object(result: Any, key: str, file: str) -> Mapping[str, Any]:
    part = result.get(key) if isinstance(result, dict) else None
    if not isinstance(part, dict):
        raise BadDataError(f"{file} has no object {key!r}: give a result file as PEFT's method comparison writes it.")
    return part


def _text(value: Any, field: str, file: str) -> str:
    if not is_text(value):
        raise BadDataError(f"{file}: {field} is not a text of 1 to {MAX_TEXT} characters: correct it.")
    return value.strip()


def is_text(value: Any) -> bool:
    """Whether it is a printable text of a bounded length."""
    return isinstance(value, str) and 0 < len(value.strip()) <= len(value) <= MAX_TEXT and not UNPRINTABLE.search(value)


def _date(run: Mapping[str, Any], file: str) -> str:
    created = _text(run.get("created_at"), "run_info.created_at", file)
    if not DATE.match(created):
        raise BadDataError(f"{file}: run_info.created_at is not a date such as 2026-01-31: correct it.")
    return created[:10]


def _rank_of(config: Mapping[str, Any] | None, file: str) -> int | None:
    """LoRA's r; methods without one have no rank to be drawn by."""
    if config is None:
        return None
    rank = next((config[name] for name in ("r", "init_r", "rank") if config.get(name) is not None), None)
    if _whole(rank) is None or not 1 <= rank <= MAX_RANK:
        kind = quoted(config.get("peft_type")).strip("'")
        raise BadDataError(f"{file}: peft_config ({kind}) has no rank r: only methods with a rank can be shown.")
    return rank


def _method(config: Mapping[str, Any] | None) -> str:
    if config is None:
        return FULL
    kind = config.get("peft_type")
    kind = kind.lower()[:QUOTED] if is_text(kind) else "?"
    for flag, name in (("use_dora", "dora"), ("use_rslora", "rslora"), ("use_bdlora", "bd-lora")):
        if kind == "lora" and config.get(flag):
            return name
    return kind


def _targets(config: Mapping[str, Any] | None) -> str:
    if config is None:
        return "all weights"
    targets = config.get("target_modules")
    if isinstance(targets, str):
        return printable(targets, MAX_TEXT)
    if isinstance(targets, list) and all(is_text(name) for name in targets):
        return ",".join(sorted(targets))[:MAX_TEXT]
    return ""


def facet_of_targets(targets: str) -> Facet:
    """The facet of module names with commas between them, "all-linear" or nothing."""
    if targets == "all-linear":
        return "attention and mlp"
    if not targets:
        return "not stated"
    names = [name.rsplit(".", 1)[-1] for name in targets.split(",")]
    return facet_of(["attention" if n in ATTENTION else "mlp" if n in MLP else "other" for n in names])


def _task(run: Mapping[str, Any], file: str) -> str:
    """The format does not name its task: the dataset if it is given, otherwise the kind of comparison."""
    setup = run["train_config"]
    if is_text(setup.get("dataset_id")):
        return setup["dataset_id"]
    return "MetaMathQA" if "query_template" in setup else "result files"


def _is_quality(name: Any, value: Any) -> bool:
    if not is_text(name) or not _is_number(value) or not -MAX_METRIC <= value <= MAX_METRIC:
        return False
    return not any(name.endswith(word) or name.startswith(word) for word in COUNTED)


def _kind(name: str) -> dict[str, Any]:
    lower = name.lower()
    role = "forgetting" if any(word in lower for word in FORGETTING) else "main" if "test" in lower else "detail"
    return {"role": role, "higher_is_better": not lower_is_better(name)}


def lower_is_better(metric: str) -> bool:
    """By the words of the metric's name: "answer_accuracy" is no WER."""
    words = set(re.findall(r"[a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", metric).lower()))
    return bool(words & LOWER_IS_BETTER) and "accuracy" not in words


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> float | None:
    """Above 0 and finite; a very large whole number is compared, since it cannot be converted."""
    return float(value) if _is_number(value) and 0 < value <= MAX_NUMBER else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and _number(value) is not None else None
