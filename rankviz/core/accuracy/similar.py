"""Which measured rows an estimate rests on: those of its kind of setting, the most similar first."""

import math
from dataclasses import dataclass

from rankviz.core.accuracy.basis import Basis, basis_of
from rankviz.core.accuracy.report import AccuracyReport, ReportRow
from rankviz.core.cost.stack import Stack

SHOWN = 5


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
    return SimilarRows(basis=basis_of(report.evidence, stack), count=len(rows), rows=nearest[:SHOWN])


def _speaks_for(row: ReportRow, stack: Stack) -> bool:
    return row.kind == stack.kind and row.measured_kind != "resident above baseline"


def _distance(row: ReportRow, stack: Stack, predicted_bytes: float, gpu: str | None) -> tuple:
    size = abs(math.log(row.predicted_bytes / predicted_bytes)) if predicted_bytes else 0.0
    return (
        not row.scored,
        row.quantized != stack.setup.quantized,
        (0.0 if gpu and row.gpu == gpu else 0.5) + size,
    )
