"""Which measured rows an estimate rests on: those of its kind of setting, the most similar first."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rankviz.core.accuracy.report import CHECKED_ON_ROWS, AccuracyReport, KindAccuracy, ReportRow
from rankviz.core.cost.stack import Stack

SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Basis:
    """What the report says of one kind of setting; None where no measured row is of this kind."""

    memory: KindAccuracy | None
    time: KindAccuracy | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SimilarRows:
    """The measured rows that an estimate rests on."""

    basis: Basis
    count: int
    """Rows of this kind of setting."""
    rows: tuple[ReportRow, ...]
    """The most similar ones, at most SHOWN."""


def rests_on(report: AccuracyReport, stack: Stack, predicted_bytes: float, gpu: str | None) -> SimilarRows:
    """The rows of this kind of setting, and the most similar of them.

    Similar: the same kernels, checkpointing and attention; then the same width of the base, the same card, and a
    prediction of nearly the same size.
    """
    rows = [row for row in report.rows if row.predicted_bytes and _speaks_for(row, stack)]
    rows.sort(key=lambda row: _distance(row, stack, predicted_bytes, gpu))
    settings = {(row.model_id, row.setting): row for row in reversed(rows)}  # repeats of one setting once
    nearest = tuple(row for row in rows if settings[row.model_id, row.setting] is row)
    return SimilarRows(basis=basis_of(report, stack), count=len(rows), rows=nearest[:SHOWN])


def basis_of(report: AccuracyReport, stack: Stack) -> Basis:
    """What the report says of this kind of setting, for memory and for time."""
    evidence = report.evidence
    return Basis(
        memory=_of_kind(evidence.memory, stack.kind),
        time=_of_kind(evidence.time, stack.time_kind),
    )


def in_words(basis: Basis) -> str:
    """What an estimate's memory range rests on: how far off settings like this one were without their own source."""
    memory = basis.memory
    if memory is None:
        return (
            "There is no measurement of this kind of setup (kernels, checkpointing, attention), so the range is wider. "
            "The memory formula comes from reading the code, and the width of the range is an assumption."
        )
    sources = len(memory.groups)
    rests = (
        f"The memory range rests on {memory.settings} measured setups from {sources} source"
        f"{'s' if sources > 1 else ''} with the same kernels, checkpointing and attention."
    )
    if memory.left_out_error is None:
        return f"{rests} The estimate was {100 * memory.mean_abs_error:.1f} % off on average."
    return (
        f"{rests} Predicted without the measurements of its own source, a setup was "
        f"{100 * memory.left_out_error:.1f} % off on average, and {100 * memory.left_out_inside:.0f} % of them were "
        f"inside the range. {CHECKED_ON_ROWS}"
    )


def _speaks_for(row: ReportRow, stack: Stack) -> bool:
    return row.kind == stack.kind and row.measured_kind != "resident above baseline"


def _distance(row: ReportRow, stack: Stack, predicted_bytes: float, gpu: str | None) -> tuple:
    size = abs(math.log(row.predicted_bytes / predicted_bytes)) if predicted_bytes else 0.0
    return (
        not row.scored,
        row.quantized != stack.setup.quantized,
        (0.0 if gpu and row.gpu == gpu else 0.5) + size,
    )


def _of_kind(evidence: Sequence[KindAccuracy], kind: str) -> KindAccuracy | None:
    return next((each for each in evidence if each.kind == kind), None)
