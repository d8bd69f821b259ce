"""Measured rows beside their predictions: of a file of one's own, and of those that ship."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz.api.workspace import Workspace
from rankviz.catalog import hardware
from rankviz.core.cost.gpu import Gpu
from rankviz.errors import UnknownGpuError

if TYPE_CHECKING:
    from rankviz.core.accuracy.rows import MeasuredRow
    from rankviz.core.cost.assumptions import Assumptions


class Validation(Workspace):
    """How far off the estimates have been."""

    def validate(self, file: Path) -> dict[str, Any]:
        """Measured rows of a CSV file beside their predictions, with errors by group."""
        from rankviz.catalog.accuracy import read_rows

        return self._validation_of(read_rows(Path(file)), self._assumptions)

    def validation(self) -> dict[str, Any]:
        """The validation that ships: the one that bands rest on."""
        from rankviz.catalog.accuracy import load_validation

        return load_validation(self.assets)

    def validate_shipped(self) -> dict[str, Any]:
        """The same worked out anew. Bands rest on errors, and errors don't rest on bands: first the errors, then the
        rows again with the bands that these give."""
        from rankviz.catalog.accuracy import measured_widths, shipped_rows

        rows = shipped_rows(self.assets)
        constants = hardware.load_constants(self.assets)
        widths = measured_widths(self._validation_of(rows, constants))
        return self._validation_of(rows, constants.with_rows(widths))

    def _validation_of(self, rows: Sequence[MeasuredRow], assumptions: Assumptions) -> dict[str, Any]:
        from datetime import date

        from rankviz.core.accuracy.predicted import predict_row
        from rankviz.core.accuracy.report import report

        def card(name: str) -> Gpu | None:
            try:
                return hardware.find_gpu(self._gpus, name)
            except UnknownGpuError:
                return hardware.gpu_of_device(self._gpus, name)

        return report([predict_row(row, self.model, card, assumptions) for row in rows], date.today().isoformat())
