"""A sweep as a dataset: tables of its runs and losses, requests and environments as JSON, and a card."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from rankviz import installed
from rankviz.export.tables import Table, write_rows, write_table
from rankviz.sinks.cards import dataset_card
from rankviz.sinks.facts import RunFacts, SweepFacts, data_label, public_environment, public_request
from rankviz.store.archive import LOSS_COLUMNS, loss_rows, summary_row

RUNS, STEPS, HELD_OUT = "runs", "losses_by_step", "held_out_losses"


STEP_COLUMNS = {
    "run_id": str,
    "r": int,
    "learning_rate": float,
    "seed": int,
    "step": int,
    "loss": float,
    "step_learning_rate": float,
    "tokens": int,
    "seconds": float,
    "memory_bytes": int,
}
HELD_OUT_COLUMNS = {"run_id": str, **LOSS_COLUMNS}


def write_dataset(sweep: SweepFacts, folder: Path) -> Sequence[str]:
    """Write the files of a sweep's dataset into a folder; returns their names. Tables are Parquet, or CSV where pyarrow
    is not installed. The steps and the examples of one run at a time are in memory."""
    kind = "parquet" if installed.has_pyarrow() else "csv"
    runs = write_table(Table(name=RUNS, rows=[_run_row(run) | sweep.cost for run in sweep.runs]), kind, folder)
    names = {RUNS: runs.rename(folder / f"{RUNS}.{kind}").name}
    steps = (row for run in sweep.runs for row in _step_rows(run))
    held_out = ({"run_id": run.record.run_id, **row} for run in sweep.runs for row in loss_rows(run.record))
    for name, rows, columns in ((STEPS, steps, STEP_COLUMNS), (HELD_OUT, held_out, HELD_OUT_COLUMNS)):
        if first := next(rows, None):
            names[name] = f"{name}.{kind}"
            write_rows(chain([first], rows), columns, folder / names[name])
    details = {run.record.run_id: _details(run) for run in sweep.runs}
    (folder / "requests.json").write_text(json.dumps(details, indent=1), encoding="utf-8")
    (folder / "README.md").write_text(dataset_card(sweep, names), encoding="utf-8")
    return [*names.values(), "requests.json", "README.md"]


def _run_row(run: RunFacts) -> dict[str, Any]:
    estimate = run.estimate
    return summary_row(run.record) | {
        "base": run.base_model,
        "data": data_label(run.record.request),
        "estimated_memory_bytes": estimate and estimate.memory_bytes.expected,
        "estimated_train_seconds": estimate.seconds.expected if estimate and estimate.seconds else None,
    }


def _step_rows(run: RunFacts) -> Iterator[Mapping[str, Any]]:
    record = run.record
    for step in record.steps:
        yield {
            "run_id": record.run_id,
            "r": record.request.r,
            "learning_rate": record.request.learning_rate,
            "seed": record.request.seed,
            "step": step.step,
            "loss": step.loss,
            "step_learning_rate": step.learning_rate,
            "tokens": step.tokens,
            "seconds": step.seconds,
            "memory_bytes": step.memory_bytes,
        }


def _details(run: RunFacts) -> Mapping[str, Any]:
    return {"request": public_request(run), "environment": public_environment(run.record)}
