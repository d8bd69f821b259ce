"""What the command line prints of a sweep: tables, what to train and to ship, the verdict; or all of it as JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rankviz import units
from rankviz.api import Api
from rankviz.api.json import curve_points_json, run_json
from rankviz.cli.forecast import print_bent
from rankviz.cli.shared import table

if TYPE_CHECKING:
    from rankviz.core.runs.fast_curve import FastCurve
    from rankviz.core.runs.record import RunRecord


def sweep_json(api: Api, sweep_id: str) -> dict[str, Any]:
    """Runs and fast curves; forecast and decision are None as long as fewer than two ranks have finished runs."""
    from rankviz.core.forecast.decision import decision_json
    from rankviz.core.forecast.json import bent_json

    rows = [run_json(api.runs.summary(run.run_id)) for run in api.runs.sweep(sweep_id).runs]
    decision = api.decisions.of(sweep_id)
    return {
        "sweep_id": sweep_id,
        "runs": rows,
        "cuts": curve_points_json(api.runs.fast_curves(sweep_id)),
        "forecast": bent_json(decision.forecast) if decision else None,
        "decision": decision_json(decision) if decision else None,
    }


def print_sweep(api: Api, sweep_id: str) -> None:
    """A sweep's runs, fast curves and forecast as tables; what to train and to ship, and its verdict, in sentences."""
    runs_table(api.runs.sweep(sweep_id).runs)
    _curves_table(api.runs.fast_curves(sweep_id))
    _print_decision(api, sweep_id)
    _print_verdict(api, sweep_id)


def _print_decision(api: Api, sweep_id: str) -> None:
    decision = api.decisions.of(sweep_id)
    if decision is None:
        return
    print_bent(decision.forecast)
    print(*decision.train_sentences, sep="\n")
    if decision.forecast.third_run and not api.runs.sweep(sweep_id).recorded:
        print(f"Add that run: rankviz runs add {sweep_id} -r {decision.forecast.third_run}")
    print()
    print(*decision.ship_sentences, sep="\n")
    print()


def _curves_table(curves: Sequence["FastCurve"]) -> None:
    if curves:
        table(
            "Fast curve: the adapter of the highest rank, truncated",
            ["Run", "r", "Held-out loss", "Recovery steps"],
            [
                [curve.run_id, str(point.r), f"{point.loss:.4f}", str(point.recovery_steps)]
                for curve in curves
                for point in curve.points
            ],
        )


def _print_verdict(api: Api, sweep_id: str) -> None:
    from rankviz.verdict import sentences

    result = api.verdicts.of_sweep(sweep_id)
    if result and len(result.verdict.ranks) > 1:
        for sentence in sentences(result.verdict, result.borrowed):
            print(sentence)


def runs_table(records: Sequence["RunRecord"]) -> None:
    """A row a run."""
    table(
        units.counted(len(records), "run"),
        [
            "Run",
            "State",
            "r",
            "alpha",
            "lr",
            "seed",
            "Loss before",
            "Loss after",
            "Adapter file",
            "Peak memory",
            "Time",
        ],
        [_run_row(record) for record in records],
    )


def _run_row(record: "RunRecord") -> list[str]:
    request, completed = record.request, record.completed
    return [
        record.run_id,
        str(record.state),
        str(request.r),
        f"{request.lora.lora_alpha:g}",
        f"{request.learning_rate:g}",
        str(request.seed),
        f"{record.loss_before.loss:.4f}" if record.loss_before else "",
        f"{record.loss_after.loss:.4f}" if record.loss_after else "",
        units.file_size(record.adapter_bytes) if record.adapter_bytes is not None else "",
        units.memory_size(completed.peak_memory_bytes) if completed else "",
        units.duration(completed.train_seconds) if completed else "",
    ]
