"""What one estimate rests on: how far off settings of its kind were, as figures and in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from rankviz.core.cost.assumptions import Assumption
from rankviz.core.cost.stack import Stack
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


CHECKED_ON_ROWS = "The formulas stay the same, and they were checked against the same measurements."
"""What figures over unseen sources leave unsaid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Basis:
    """What the measured rows say of one kind of setting; None where no measured row is of this kind."""

    memory: KindAccuracy | None
    time: KindAccuracy | None


def basis_of(evidence: AccuracyByKind, stack: Stack) -> Basis:
    """What the measured rows say of this kind of setting, for memory and for time."""
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


def _of_kind(evidence: Sequence[KindAccuracy], kind: str) -> KindAccuracy | None:
    return next((each for each in evidence if each.kind == kind), None)
