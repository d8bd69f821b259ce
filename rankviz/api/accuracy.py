"""Measured rows beside their predictions: of a file of one's own, and of those that ship."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rankviz.api.models import Models
from rankviz.api.workspace import Workspace
from rankviz.catalog import hardware
from rankviz.catalog.measurements import load_range_evidence
from rankviz.core.cost.setup import Gpu
from rankviz.errors import UnknownGpuError

if TYPE_CHECKING:
    from rankviz.core.accuracy.predicted import MeasuredRow, PredictedRow
    from rankviz.core.accuracy.report import AccuracyByKind, AccuracyReport
    from rankviz.core.cost.assumptions import Assumptions
    from rankviz.core.runs.fast_curve import Fidelity


class Accuracy:
    """Errors of the estimates against measured runs."""

    def __init__(self, workspace: Workspace, models: Models):
        self._workspace = workspace
        self._models = models

    def of_file(self, file: Path) -> AccuracyReport:
        """Measured rows of a CSV file beside their predictions, with errors by group."""
        from rankviz.catalog.measurements import read_rows

        return self._report(read_rows(Path(file)), self._workspace.assumptions)

    def shipped(self) -> AccuracyReport:
        """The report that RankViz ships: the one that ranges rest on."""
        from rankviz.catalog.measurements import load_validation

        return load_validation(self._workspace.assets)

    def by_kind(self) -> AccuracyByKind:
        """What the ranges of estimates rest on: of that report, how far off each kind of setting was."""
        return load_range_evidence(self._workspace.assets).by_kind

    def remake(self) -> AccuracyReport:
        """The shipped report, computed again. Ranges rest on errors, and errors do not rest on ranges: first the
        errors, then the rows again with the ranges that these give, and each once more without its source."""
        from rankviz.catalog.measurements import shipped_rows
        from rankviz.core.accuracy.report import widths
        from rankviz.core.accuracy.summarize import left_out_predictions

        rows, made = shipped_rows(self._workspace.assets), _today()
        constants = hardware.load_constants(self._workspace.assets)
        report = self._report(rows, constants)
        measured = constants.with_rows(widths(report.evidence, report.made))
        unseen = left_out_predictions(rows, self._predict, constants, made)
        return self._report(rows, measured, unseen)

    def fidelity(self) -> Fidelity | None:
        """Return how near fast curves were to independent runs, by `make fidelity`; None before it has run."""
        import json

        from rankviz.core.runs.fast_curve import from_json

        file = self._workspace.assets / "fidelity.json"
        return from_json(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None

    def _report(
        self, rows: Sequence[MeasuredRow], assumptions: Assumptions, unseen: Sequence[PredictedRow] | None = None
    ) -> AccuracyReport:
        from rankviz.core.accuracy.summarize import summarize

        predictions = [self._predict(row, assumptions) for row in rows]
        return summarize(predictions, _today(), unseen)

    def _predict(self, row: MeasuredRow, assumptions: Assumptions) -> PredictedRow:
        from rankviz.core.accuracy.predicted import predict_row

        return predict_row(row, self._models.get, self._card, assumptions)

    def _card(self, name: str) -> Gpu | None:
        try:
            return hardware.find_gpu(self._workspace.gpus, name)
        except UnknownGpuError:
            return hardware.gpu_of_device(self._workspace.gpus, name)


def _today() -> str:
    from datetime import date

    return date.today().isoformat()
