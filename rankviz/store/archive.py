"""Runs out as a zip: requests and journals, not adapters, with two CSV files for other tools. Into a store: imports."""

import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from rankviz.core.cells import csv_text
from rankviz.core.runs.record import RunRecord
from rankviz.errors import InvalidSettingError, RunNotFoundError
from rankviz.store.journal import line_of, parse_event, request_text, whole_lines
from rankviz.store.runs import RunStore

SUMMARY, LOSSES = "summary.csv", "losses.csv"
LOSS_COLUMNS = {
    "sweep_id": str,
    "rank": int,
    "learning_rate": float,
    "seed": int,
    "example": int,
    "loss": float,
    "target_tokens": int,
    "correct_tokens": int,
    "exact_match": int,
}
"""Of loss_rows, with what each holds; None is not known."""


def export_runs(
    stores: Sequence[RunStore],
    ids: Sequence[str],
    target: Path,
    shown: Callable[[Any], Any] | None = None,
) -> Path:
    """Write the named runs and sweeps, as far as they have ended, into the zip `target`. The first store that has a
    name is taken; RunNotFoundError where none has it.

    shown: a run's request or an event as whoever gets the zip may read it; None where that is all of it.
    """
    places = {run_id: store for name in ids for run_id, store in _located(stores, name).items()}
    records = [record for run_id, store in places.items() if (record := store.get(run_id)).state.ended]
    if shown:
        records = [replace(record, request=shown(record.request)) for record in records]
    if not records:
        raise InvalidSettingError("None of these runs has ended yet: export them when they have.")
    with _whole(target), zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(SUMMARY, csv_text([summary_row(record) for record in records]))
        _write_losses(archive, records)
        for record in records:
            folder, within = places[record.run_id].run_dir(record.run_id), f"runs/{record.run_id}"
            try:
                if shown:
                    archive.writestr(f"{within}/request.json", request_text(record.request))
                else:
                    archive.write(folder / "request.json", f"{within}/request.json")
                _write_journal(archive, folder / "events.jsonl", f"{within}/events.jsonl", shown)
            except FileNotFoundError:  # removed meanwhile
                raise RunNotFoundError(record.run_id) from None
    return target


def _write_journal(archive: zipfile.ZipFile, journal: Path, name: str, shown: Callable[[Any], Any] | None) -> None:
    """What is no event may hold anything, so it becomes an empty line where not all may be read."""
    if shown is None:
        return archive.write(journal, name)
    with journal.open("rb") as lines, archive.open(name, "w") as file:
        events = (parse_event(line) for _, line in whole_lines(lines))
        file.writelines(b"\n" if event is None else line_of(shown(event)) for event in events)


@contextmanager
def _whole(target: Path) -> Iterator[None]:
    """Around the writing of a file: of one that fails nothing stays."""
    try:
        yield
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _located(stores: Sequence[RunStore], name: str) -> dict[str, RunStore]:
    """The runs of a name, with the store that has them. To know its sweeps, a store reads the journals of all its runs,
    so a run is looked for in every store first."""
    for store in stores:
        if os.path.isdir(store.run_dir(name)):
            return {name: store}
    *others, last = stores
    for store in others:
        try:
            return dict.fromkeys(store.run_ids(name), store)
        except RunNotFoundError:
            continue
    return dict.fromkeys(last.run_ids(name), last)


def _write_losses(archive: zipfile.ZipFile, records: Sequence[RunRecord]) -> None:
    """Run by run: the examples of all may be millions."""
    has_header = False
    with archive.open(LOSSES, "w") as file:
        for record in records:
            rows = loss_rows(record)
            file.write(csv_text(rows, header=not has_header).encode())
            has_header = has_header or bool(rows)


class SummaryRow(TypedDict):
    """What was asked of a run and what was measured; None is not known. Losses are nats a token."""

    run_id: str
    sweep_id: str
    state: str
    base: str
    data: str
    r: int
    lora_alpha: float
    learning_rate: float
    seed: int
    max_steps: int
    steps_done: int
    loss_before: float | None
    loss_after: float | None
    gain: float | None
    token_accuracy_before: float | None
    token_accuracy_after: float | None
    exact_match_before: float | None
    exact_match_after: float | None
    exact_match_examples: int | None
    trainable_parameters: int | None
    adapter_bytes: int | None
    peak_memory_bytes: int | None
    peak_memory_kind: str | None
    train_seconds: float | None
    first_step_seconds: float | None
    step_seconds: float | None
    device: str | None


def summary_row(record: RunRecord) -> SummaryRow:
    request, completed = record.request, record.completed
    return {
        "run_id": record.run_id,
        "sweep_id": request.sweep_id,
        "state": record.state.value,
        "base": request.base,
        "data": request.data,
        "r": request.lora.r,
        "lora_alpha": request.lora.lora_alpha,
        "learning_rate": request.learning_rate,
        "seed": request.seed,
        "max_steps": request.max_steps,
        "steps_done": record.steps[-1].step if record.steps else 0,
        "loss_before": record.loss_before and record.loss_before.loss,
        "loss_after": record.loss_after and record.loss_after.loss,
        "gain": record.gain,
        "token_accuracy_before": record.loss_before and record.loss_before.token_accuracy,
        "token_accuracy_after": record.loss_after and record.loss_after.token_accuracy,
        "exact_match_before": record.loss_before and record.loss_before.exact_match,
        "exact_match_after": record.loss_after and record.loss_after.exact_match,
        "exact_match_examples": (record.loss_after and record.loss_after.answered) or None,
        "trainable_parameters": record.trainable_parameters,
        "adapter_bytes": record.adapter_bytes,
        "peak_memory_bytes": completed and completed.peak_memory_bytes,
        "peak_memory_kind": completed and completed.peak_memory_kind,
        "train_seconds": completed and completed.train_seconds,
        "first_step_seconds": record.first_step_seconds,
        "step_seconds": record.step_seconds,
        "device": record.environment.get("device_name"),
    }


def loss_rows(record: RunRecord) -> list[dict[str, object]]:
    """A row a held-out example, in nats a token, as `rankviz verdict` reads them; none where none were kept. Beside the
    loss: how many tokens it has and how many of them are correct, and whether its answer is the reference."""
    request, after = record.request, record.loss_after
    losses = after.example_losses if after else ()
    settings = {
        "sweep_id": request.sweep_id,
        "rank": request.lora.r,
        "learning_rate": request.learning_rate,
        "seed": request.seed,
    }
    counts = [after.example_tokens, after.example_correct_tokens, after.example_exact_matches] if after else []
    return [
        {**settings, "example": example, "loss": loss}
        | {"target_tokens": tokens, "correct_tokens": correct, "exact_match": match}
        for example, (loss, tokens, correct, match) in enumerate(_side_by_side(losses, *counts))
    ]


def _side_by_side(losses: Sequence[float], *counts: Sequence[int | None]) -> Iterator[tuple[float | int | None, ...]]:
    """Counts that were not kept, or not of each example, are None."""
    return zip(losses, *(each if len(each) == len(losses) else [None] * len(losses) for each in counts), strict=True)
