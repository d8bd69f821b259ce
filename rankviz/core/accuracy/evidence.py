"""What the ranges of estimates rest on: how far off each kind of setting was. It is made in core.accuracy.bands.

Every estimate reads it, from cold too, so the rows that it is made of stand in report.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rankviz.core.cost.assumptions import Assumption
from rankviz.core.quantity import Range


@dataclass(frozen=True, kw_only=True, slots=True)
class KindAccuracy:
    """What the scored rows of one kind of setting say."""

    kind: str
    half_width: float
    """Memory: share of what is modelled, and bytes for what is counted. Time: natural logarithm."""
    groups: tuple[str, ...]
    """Sources, each with all its tables."""
    settings: int
    mean_abs_error: float
    """Share of the measured figure, with these very sources seen."""
    left_out_error: float | None = None
    """The same of each setting predicted without its source; None where that was not worked out."""
    left_out_inside: float | None = None
    """Share of settings inside the range that they have then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyByKind:
    """What each band rests on."""

    static: tuple[KindAccuracy, ...]
    memory: tuple[KindAccuracy, ...]
    lower: tuple[KindAccuracy, ...]
    """Of rows that are shown and not counted; no band rests on it."""
    time: tuple[KindAccuracy, ...]


def widths(evidence: AccuracyByKind, made: str) -> tuple[Assumption, ...]:
    """Half-widths of bands as rows of assumptions, one for each kind of setting. made: the day, ISO."""
    parts = (("", evidence.static), ("", evidence.memory), ("time-", evidence.time))
    return tuple(_width(f"{prefix}width-{each.kind}", each, made) for prefix, part in parts for each in part)


def _width(row_id: str, evidence: KindAccuracy, checked: str) -> Assumption:
    value = evidence.half_width
    return Assumption(
        id=row_id,
        value=Range(value, value, value),
        unit={"width-static": "bytes"}.get(row_id, "natural logarithm" if row_id.startswith("time-") else "share"),
        meaning=f"half-width from {evidence.settings} measured settings of {', '.join(evidence.groups)}",
        source="assets/validation.json",
        checked=checked,
    )


def evidence_from_json(value: Mapping[str, Sequence[Mapping[str, Any]]]) -> AccuracyByKind:
    """The evidence of a report's JSON; TypeError or KeyError where a field is missing or unknown."""
    return AccuracyByKind(**{name: tuple(map(_kind, each)) for name, each in value.items()})


def _kind(value: Mapping[str, Any]) -> KindAccuracy:
    return KindAccuracy(**{**value, "groups": tuple(value["groups"])})
