"""The constants of all formulas, as rows of assets/assumptions.json with their sources.

The code of core/ holds no measured, quoted or guessed number. A constant without a range has three equal values.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rankviz.core.quantity import Range
from rankviz.errors import AssetError


@dataclass(frozen=True, kw_only=True, slots=True)
class Assumption:
    """One constant of the formulas, with its source."""

    id: str
    value: Range
    unit: str
    meaning: str
    source: str
    checked: str
    without: tuple[tuple[str, Range], ...] = ()
    """(source of measured rows, value of the constant fitted without that source) pairs."""


class Assumptions:
    """Constants by id. Methods with several ids use the first id that exists. serving: Content of serving.json."""

    def __init__(self, rows: Mapping[str, Assumption], serving: Mapping[str, Any]):
        self._rows, self.serving = dict(rows), serving

    def __iter__(self):
        return iter(self._rows.values())

    def __contains__(self, row_id: str) -> bool:
        return row_id in self._rows

    def row(self, row_id: str) -> Assumption:
        """Return the row with this id; raise AssetError where there is none."""
        if row_id not in self._rows:
            raise AssetError(f"assumptions.json: no row {row_id!r}; add it with a value, a unit and a source.")
        return self._rows[row_id]

    def range(self, *row_ids: str) -> Range:
        """Return the low, expected and high value of a constant. row_ids: The first that exists is used."""
        for row_id in row_ids:
            if row_id in self._rows:
                return self._rows[row_id].value
        return self.row(row_ids[-1]).value

    def value(self, *row_ids: str) -> float:
        """Return the expected value of a constant. row_ids: The first that exists is used."""
        return self.range(*row_ids).expected

    def without(self, origin: str) -> "Assumptions":
        """Return the constants as fitted without one source of measured rows (see core.accuracy.predicted)."""
        return self.with_rows(
            replace(row, value=value) for row in self for name, value in row.without if name == origin
        )

    def with_rows(self, rows: Iterable[Assumption]) -> "Assumptions":
        """Return a copy with these rows added, in place of rows with the same ids."""
        return Assumptions({**self._rows, **{row.id: row for row in rows}}, self.serving)
