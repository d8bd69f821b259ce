"""Measured rows beside their predictions: of a file of one's own, and of those that ship."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz.api.models import Models
from rankviz.api.workspace import Workspace
from rankviz.catalog import hardware
from rankviz.core.cost.gpu import Gpu
from rankviz.errors import UnknownGpuError

if TYPE_CHECKING:
    from rankviz.core.accuracy.rows import MeasuredRow
    from rankviz.core.cost.assumptions import Assumptions


class Accuracy:
    """How far off the estimates have been."""

    def __init__(self, workspace: Workspace, models: Models):
        self._workspace = workspace
        self._models = models

    def of_file(self, file: Path) -> dict[str, Any]:
        """Measured rows of a CSV file beside their predictions, with errors by group."""
        from rankviz.catalog.accuracy import read_rows

        return self._validation_of(read_rows(Path(file)), self._workspace.assumptions)

    def shipped(self) -> dict[str, Any]:
        """The validation that ships: the one that bands rest on."""
        from rankviz.catalog.accuracy import load_validation

        return load_validation(self._workspace.assets)

    def remake(self) -> dict[str, Any]:
        """The same worked out anew. Bands rest on errors, and errors don't rest on bands: first the errors, then the
        rows again with the bands that these give."""
        from rankviz.catalog.accuracy import measured_widths, shipped_rows

        rows = shipped_rows(self._workspace.assets)
        constants = hardware.load_constants(self._workspace.assets)
        widths = measured_widths(self._validation_of(rows, constants))
        return self._validation_of(rows, constants.with_rows(widths))

    def fidelity(self) -> dict[str, Any] | None:
        """How near fast curves have been to independent runs, as `make fidelity` measured it; None before it has."""
        import json

        file = self._workspace.assets / "fidelity.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def _validation_of(self, rows: Sequence[MeasuredRow], assumptions: Assumptions) -> dict[str, Any]:
        from datetime import date

        from rankviz.core.accuracy.predicted import predict
        from rankviz.core.accuracy.report import report

        def card(name: str) -> Gpu | None:
            try:
                return hardware.find_gpu(self._workspace.gpus, name)
            except UnknownGpuError:
                return hardware.gpu_of_device(self._workspace.gpus, name)

        return report([predict(row, self._models.get, card, assumptions) for row in rows], date.today().isoformat())
