"""Ranges of figures that are not known exactly (low, expected, high), constants of all formulas, and notes by level.

Constants are rows of assets/assumptions.json with their sources: the code of core/ holds no measured, quoted or guessed
number. A constant without a range has three equal values.
"""

import math
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass, fields, replace
from typing import Any

from rankviz.errors import AssetError

ROUNDING = 1e-9
"""Relative difference up to which ends in the wrong order count as rounding and are swapped."""
BRIEF = 80
"""Most characters of a field in a brief repr."""


def brief(answer: Any) -> str:
    """Return a repr of a dataclass that fits a screen: of long fields only the type or the number of items."""
    texts = []
    for each in fields(answer):
        text = repr(value := getattr(answer, each.name))
        if len(text) > BRIEF:
            text = f"<{len(value)} items>" if isinstance(value, Sized) else f"{type(value).__name__}(…)"
        texts.append(f"{each.name}={text}")
    return f"{type(answer).__name__}({', '.join(texts)})"


_set = object.__setattr__


@dataclass(frozen=True, slots=True, init=False)
class Range:
    """A figure that is not known exactly: low ≤ expected ≤ high. The name of the field that holds it says the unit."""

    low: float
    expected: float
    high: float

    def __init__(self, low: float, expected: float, high: float):
        if not low <= expected <= high:
            rounding = ROUNDING * abs(expected)
            if not low - rounding <= expected <= high + rounding:
                raise ValueError(f"a range must rise: {low}, {expected}, {high}")
            low, high = min(low, expected), max(high, expected)
        # Written out: an answer makes thousands of these.
        _set(self, "low", low)
        _set(self, "expected", expected)
        _set(self, "high", high)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def times(self, factor: float) -> "Range":
        return Range(self.low * factor, self.expected * factor, self.high * factor)

    def reached_by(self, other: "Range") -> "Range":
        """Return the larger of two ranges, at each of low, expected and high."""
        return Range(max(self.low, other.low), max(self.expected, other.expected), max(self.high, other.high))

    def multiplied(self, other: "Range") -> "Range":
        """Return the product of two ranges above zero, at each of low, expected and high."""
        return Range(self.low * other.low, self.expected * other.expected, self.high * other.high)

    def plus(self, other: "Range") -> "Range":
        """Return the sum of two ranges, at each of low, expected and high."""
        return Range(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def plus_independent(self, other: "Range") -> "Range":
        """Return the sum of two figures with independent errors: the distances of the ends are added in quadrature."""
        expected = self.expected + other.expected
        below = math.hypot(self.expected - self.low, other.expected - other.low)
        above = math.hypot(self.high - self.expected, other.high - other.expected)
        return Range(expected - below, expected, expected + above)

    def over(self, divisor: "Range") -> "Range":
        """Return the quotient of two ranges: low by the divisor's high, expected by expected, high by its low."""
        return Range(self.low / divisor.high, self.expected / divisor.expected, self.high / divisor.low)

    def as_json(self) -> dict[str, float]:
        return {"low": self.low, "expected": self.expected, "high": self.high}

    def whole_json(self) -> dict[str, int]:
        return {"low": round(self.low), "expected": round(self.expected), "high": round(self.high)}


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

    def range(self, *row_ids: str) -> Range:
        """Return the low, expected and high value of a constant; raise AssetError where no id exists."""
        for row_id in row_ids:
            if row_id in self._rows:
                return self._rows[row_id].value
        raise AssetError(f"assumptions.json: no row {row_ids[-1]!r}; add it with a value, a unit and a source.")

    def value(self, *row_ids: str) -> float:
        """Return the expected value of a constant; raise AssetError where no id exists."""
        return self.range(*row_ids).expected

    def without(self, origin: str) -> "Assumptions":
        """Return the constants as fitted without one source of measured rows (see core.accuracy.predicted)."""
        return self.with_rows(
            replace(row, value=value) for row in self for name, value in row.without if name == origin
        )

    def with_rows(self, rows: Iterable[Assumption]) -> "Assumptions":
        """Return a copy with these rows added, in place of rows with the same ids."""
        return Assumptions({**self._rows, **{row.id: row for row in rows}}, self.serving)


class Caution(str):
    """A note of level "warning". Other notes are plain strings."""

    __slots__ = ()


def by_level(notes: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (warnings, other notes), each in the given order."""
    notes = tuple(notes)
    return tuple(n for n in notes if isinstance(n, Caution)), tuple(n for n in notes if not isinstance(n, Caution))
