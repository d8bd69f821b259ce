"""The constants of all formulas, as rows with their sources.

No formula of core/ holds a number that was measured, read in a library or guessed: it asks here by id. Rows come from
assets/assumptions.json; a plain value is a Range whose three ends are equal.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from rankviz.core.quantity import Range
from rankviz.errors import AssetError


@dataclass(frozen=True, kw_only=True, slots=True)
class Assumption:
    """One row."""

    id: str
    value: Range
    unit: str
    meaning: str
    source: str
    checked: str
    without: tuple[tuple[str, Range], ...] = ()
    """For each source of measured rows that taught this value: what it is without that source."""


class Assumptions:
    """Rows by id."""

    def __init__(self, rows: Mapping[str, Assumption]):
        self._rows = dict(rows)

    def __iter__(self):
        return iter(self._rows.values())

    def __contains__(self, row_id: str) -> bool:
        return row_id in self._rows

    def row(self, row_id: str) -> Assumption:
        if row_id not in self._rows:
            raise AssetError(f"assumptions.json: no row {row_id!r}; add it with a value, a unit and a source.")
        return self._rows[row_id]

    def first(self, *row_ids: str) -> float:
        """The expected value of the first of these rows that exists."""
        return self.range_of(*row_ids).expected

    def range_of(self, *row_ids: str) -> Range:
        """The range of the first of these rows that exists."""
        return self.range(next((row_id for row_id in row_ids if row_id in self), row_ids[-1]))

    def without(self, origin: str) -> "Assumptions":
        """The constants as they are where a source of measured rows (core.accuracy.predicted) has not been seen."""
        changed = (replace(row, value=value) for row in self for name, value in row.without if name == origin)
        return self.with_rows(changed)

    def with_rows(self, rows: Iterable[Assumption]) -> "Assumptions":
        return Assumptions({**self._rows, **{row.id: row for row in rows}})

    def range(self, row_id: str) -> Range:
        return self.row(row_id).value

    def value(self, row_id: str) -> float:
        """The expected end."""
        return self.row(row_id).value.expected
