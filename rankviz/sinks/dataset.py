"""A sweep as a dataset: tables of its runs and losses, requests and environments as JSON, and a card."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rankviz import installed
from rankviz.export.tables import Table, write_table
from rankviz.sinks.cards import dataset_card
from rankviz.sinks.facts import RunFacts, SweepFacts, data_label, public_environment, public_request
from rankviz.store.archive import loss_rows, summary_row

RUNS, STEPS, HELD_OUT = "runs", "losses_by_step", "held_out_losses"


def write_dataset(sweep: SweepFacts, folder: Path) -> Sequence[str]:
    """Write the files of a sweep's dataset into a folder; returns their names. Tables are Parquet, or CSV where pyarrow
    is not installed."""
    kind = "parquet" if installed.has_pyarrow() else "csv"
    tables = {
        RUNS: [_run_row(run) for run in sweep.runs],
        STEPS: [row for run in sweep.runs for row in _step_rows(run)],
        HELD_OUT: [{"run_id": run.record.run_id, **row} for run in sweep.runs for row in loss_rows(run.record)],
    }
    names = {name: _written(name, rows, kind, folder) for name, rows in tables.items() if rows}
    details = {run.record.run_id: _details(run) for run in sweep.runs}
    (folder / "requests.json").write_text(json.dumps(details, indent=1), encoding="utf-8")
    (folder / "README.md").write_text(dataset_card(sweep, names), encoding="utf-8")
    return [*names.values(), "requests.json", "README.md"]


def _written(name: str, rows: Sequence[Mapping[str, Any]], kind: str, folder: Path) -> str:
    written = write_table(Table(name=name, rows=rows), kind, folder)
    return written.rename(folder / f"{name}.{kind}").name


def _run_row(run: RunFacts) -> Mapping[str, Any]:
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
