"""How commands show runs: a sweep as tables and sentences or as JSON."""

import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from rankviz import units
from rankviz.api import Api
from rankviz.api.json.runs import curve_points_json, run_json
from rankviz.cli.runs.decision import decision_keys, print_decision
from rankviz.cli.runs.tables import Column, one_line, print_rows, terminal_width
from rankviz.cli.runs.watch import standing
from rankviz.core.runs.events import LOCAL
from rankviz.core.runs.metric import LOSS, METRICS, Metric, measured_metrics
from rankviz.core.runs.run_time import device_time
from rankviz.core.runs.words import run_label, still_training, sweep_title, title

if TYPE_CHECKING:
    from rankviz.core.runs.fast_curve import FastCurve
    from rankviz.core.runs.metric import Measured
    from rankviz.core.runs.record import RunRecord, Sweep

MOST_NAMED = 4
"""Runs that failed alike."""


def sweep_json(api: Api, sweep_id: str) -> dict[str, Any]:
    """A sweep's runs, fast curves and forecast, as `rankviz sweep --json` prints them."""
    sweep = api.runs.sweep(sweep_id)
    waits = api.runs.why_each_waits(sweep)
    rows = [
        run_json(summary) | {"waits": waits.get(summary.record.run_id)} for summary in api.runs.summaries(sweep.runs)
    ]
    cuts = curve_points_json(api.runs.fast_curves(sweep_id))
    standing = {"cost": api.spending.of_sweep(sweep).as_json(), "waits": api.runs.why_sweep_waits(sweep) or None}
    return {"sweep_id": sweep_id, "runs": rows, "cuts": cuts, **decision_keys(api, sweep_id), **standing}


def print_sweep(api: Api, sweep_id: str) -> None:
    """A sweep's runs, fast curves and forecast as tables; why runs failed, what it has cost and why it waits, what to
    train and to ship, and its verdict, in sentences."""
    sweep = api.runs.sweep(sweep_id)
    runs_table(api, [sweep])
    for line in errors_in_words(sweep):
        print(line)
    for sentence in (*standing(api, sweep), *filter(None, [still_training(sweep)])):
        print(sentence)
    _curves_table(api.runs.fast_curves(sweep_id))
    print_decision(api, sweep_id)
    for metric in api.verdicts.metrics(sweep_id):
        _print_verdict(api, sweep_id, metric)


def runs_table(api: Api, sweeps: Sequence["Sweep"]) -> None:
    """A row for each run under the title of its sweep, with an accuracy's column where some run measured it, and where
    it is where that tells something."""
    records = [run for sweep in sweeps for run in sweep.runs]
    firsts = accumulate((len(sweep.runs) for sweep in sweeps), initial=0)
    places = [api.whereabouts.in_words(record) for record in records]
    placed = any(place not in ("", title(LOCAL)) for place in places)
    accuracies = [metric for metric in measured_metrics(records) if metric is not LOSS]

    def column(name: str, order: int, cell: Callable[["RunRecord"], str], is_text: bool = False) -> Column:
        return Column(name, [cell(record) for record in records], order, is_text)

    columns = [
        column("Run", 0, lambda run: run.run_id, True),
        column("State", 0, lambda run: str(run.state), True),
        *([Column("Place", places, 3, True)] if placed else []),
        column("r", 1, lambda run: str(run.request.r)),
        column("alpha", 9, lambda run: f"{run.request.lora.lora_alpha:g}"),
        column("lr", 4, lambda run: f"{run.request.learning_rate:g}"),
        column("seed", 5, lambda run: str(run.request.seed)),
        column("Loss before", 10, lambda run: f"{run.loss_before.loss:.4f}" if run.loss_before else ""),
        column("Loss after", 2, lambda run: f"{run.loss_after.loss:.4f}" if run.loss_after else ""),
        *(column(each.label, 8, lambda run, each=each: _value(run.loss_after, each)) for each in accuracies),
        column("Adapter file", 11, lambda run: "" if run.adapter_bytes is None else units.file_size(run.adapter_bytes)),
        column(
            "Peak memory", 12, lambda run: units.memory_size(run.completed.peak_memory_bytes) if run.completed else ""
        ),
        column("Training time", 6, lambda run: units.duration(run.completed.train_seconds) if run.completed else ""),
        column("Machine time", 7, lambda run: device_time([run], time.time()).in_words),
    ]
    titles = dict(zip(firsts, map(sweep_title, sweeps), strict=False))
    print_rows(units.counted(len(records), "run"), columns, terminal_width(), titles)


def errors_in_words(sweep: "Sweep") -> Sequence[str]:
    """A line for each error of its failed runs, the same one once."""
    labels: dict[str, list[str]] = {}
    for run in sweep.runs:
        if run.state == "failed":
            labels.setdefault(run.error, []).append(run_label(run, sweep))
    return [f"{_failed(runs, len(sweep.runs))}: {one_line(' '.join(error.split()))}" for error, runs in labels.items()]


def _failed(labels: Sequence[str], runs: int) -> str:
    """ "2 runs failed (r = 4, seed 0; r = 4, seed 1)"; without their names where these are all, or many."""
    named = f" ({'; '.join(labels)})" if len(labels) < runs and len(labels) <= MOST_NAMED else ""
    return f"{units.counted(len(labels), 'run')} failed{named}"


def _curves_table(curves: Sequence["FastCurve"]) -> None:
    if not curves:
        return
    shown = [m for m in METRICS.values() if any(m.of(p) is not None for curve in curves for p in curve.points)]
    points = [(curve.run_id, point) for curve in curves for point in curve.points]
    columns = [
        Column("Run", [run_id for run_id, _ in points], 0, True),
        Column("r", [str(point.r) for _, point in points]),
        *(
            Column(metric.label, [_value(point, metric) for _, point in points], at)
            for at, metric in enumerate(shown, 1)
        ),
        Column("Recovery steps", [str(point.recovery_steps) for _, point in points], len(METRICS) + 1),
    ]
    print_rows("Fast curve: the adapter of the highest rank, truncated", columns, terminal_width())


def _value(measured: "Measured | None", metric: Metric) -> str:
    """Empty where it is not known."""
    return "" if (value := metric.of(measured)) is None else metric.text(value)


def _print_verdict(api: Api, sweep_id: str, metric: Metric) -> None:
    from rankviz.verdict import sentences

    result = api.verdicts.of_sweep(sweep_id, metric=metric.key)
    if result and len(result.verdict.ranks) > 1:
        if metric is not LOSS:
            print(f"\n{metric.label}, higher is better:")
            if score := api.decisions.score(sweep_id, metric):
                print(*score.sentences, sep="\n")
        for sentence in sentences(result.verdict, result.borrowed):
            print(sentence)
