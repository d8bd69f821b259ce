"""How commands show runs: a sweep as tables and sentences or as JSON."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rankviz import units
from rankviz.api import Api
from rankviz.api.json import curve_points_json, run_json
from rankviz.cli.runs.decision import decision_keys, print_decision
from rankviz.cli.shared import table
from rankviz.core.runs.metric import LOSS, METRICS, Metric, measured_metrics
from rankviz.core.runs.timing.spent import device_time

if TYPE_CHECKING:
    from rankviz.core.runs.fast_curve import FastCurve
    from rankviz.core.runs.metric import Measured
    from rankviz.core.runs.record import RunRecord


def sweep_json(api: Api, sweep_id: str) -> dict[str, Any]:
    """A sweep's runs, fast curves and forecast, as `rankviz sweep --json` prints them."""
    sweep = api.runs.sweep(sweep_id)
    rows = [*map(run_json, api.runs.summaries(sweep.runs))]
    cuts = curve_points_json(api.runs.fast_curves(sweep_id))
    standing = {"cost": api.spending.of_sweep(sweep).as_json(), "waits": api.runs.why_sweep_waits(sweep) or None}
    return {"sweep_id": sweep_id, "runs": rows, "cuts": cuts, **decision_keys(api, sweep_id), **standing}


def print_sweep(api: Api, sweep_id: str) -> None:
    """A sweep's runs, fast curves and forecast as tables; what it has cost and why it waits, what to train and to ship,
    and its verdict, in sentences."""
    sweep = api.runs.sweep(sweep_id)
    runs_table(sweep.runs)
    if spent := api.spending.of_sweep(sweep).in_words:
        print(f"Cost so far: {spent}.")
    if waits := api.runs.why_sweep_waits(sweep):
        print(waits)
    _curves_table(api.runs.fast_curves(sweep_id))
    print_decision(api, sweep_id)
    for metric in api.verdicts.metrics(sweep_id):
        _print_verdict(api, sweep_id, metric)


def runs_table(records: Sequence["RunRecord"]) -> None:
    """A row for each run, with an accuracy's column where some run measured it, and where it is where that is known."""
    placed = any(record.place_in_words for record in records)
    accuracies = [metric for metric in measured_metrics(records) if metric is not LOSS]
    table(
        units.counted(len(records), "run"),
        [
            "Run",
            "State",
            *(["Place"] if placed else []),
            "r",
            "alpha",
            "lr",
            "seed",
            "Loss before",
            "Loss after",
            *(metric.label for metric in accuracies),
            "Adapter file",
            "Peak memory",
            "Time",
            "Cost so far",
        ],
        [_run_row(record, accuracies, placed=placed) for record in records],
    )


def _run_row(record: "RunRecord", accuracies: Sequence[Metric], *, placed: bool) -> list[str]:
    request, completed = record.request, record.completed
    return [
        record.run_id,
        str(record.state),
        *([record.place_in_words] if placed else []),
        str(request.r),
        f"{request.lora.lora_alpha:g}",
        f"{request.learning_rate:g}",
        str(request.seed),
        f"{record.loss_before.loss:.4f}" if record.loss_before else "",
        f"{record.loss_after.loss:.4f}" if record.loss_after else "",
        *_values(record.loss_after, accuracies),
        units.file_size(record.adapter_bytes) if record.adapter_bytes is not None else "",
        units.memory_size(completed.peak_memory_bytes) if completed else "",
        units.duration(completed.train_seconds) if completed else "",
        device_time([record], time.time()).in_words,
    ]


def _curves_table(curves: Sequence["FastCurve"]) -> None:
    if curves:
        shown = [m for m in METRICS.values() if any(m.of(p) is not None for curve in curves for p in curve.points)]
        table(
            "Fast curve: the adapter of the highest rank, truncated",
            ["Run", "r", *(metric.label for metric in shown), "Recovery steps"],
            [
                [curve.run_id, str(point.r), *_values(point, shown), str(point.recovery_steps)]
                for curve in curves
                for point in curve.points
            ],
        )


def _values(measured: "Measured | None", metrics: Sequence[Metric]) -> list[str]:
    """Empty cells for what is not known."""
    return ["" if (value := metric.of(measured)) is None else metric.text(value) for metric in metrics]


def _print_verdict(api: Api, sweep_id: str, metric: Metric) -> None:
    from rankviz.verdict import sentences

    result = api.verdicts.of_sweep(sweep_id, metric=metric.key)
    if result and len(result.verdict.ranks) > 1:
        if metric is not LOSS:
            print(f"\n{metric.label}, higher is better:")
        for sentence in sentences(result.verdict, result.borrowed):
            print(sentence)
