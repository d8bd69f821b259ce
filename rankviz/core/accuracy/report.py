"""How far off the estimates have been: every measured row beside its prediction, errors by group, what bands rest on.

The types, and their JSON as `rankviz validate --json` prints it and assets/validation.json keeps it. They are made in
core.accuracy.summarize.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What the scored rows of one kind of setting say."""

    kind: str
    half_width: float
    """Memory: share of what is modelled. Time: natural logarithm."""
    groups: tuple[str, ...]
    settings: int
    mean_abs_error: float
    """Share of the measured figure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """How far off a group of rows was, each setting weighed once."""

    group: str
    rows: int
    settings: int
    mean_abs_error: float
    worst_error: float
    inside_band: float
    mean_half_width: float
    """Of the band, as a share of the predicted figure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportRow:
    """One measured row beside its prediction. What was not measured or cannot be predicted is None."""

    row_id: str
    group: str
    """The source."""
    tier: str
    scored: bool
    reason: str | None
    """Why the row does not count, or has no prediction."""
    model_id: str
    kind: str | None
    """Of the setting: kernels, checkpointing and attention."""
    quantized: bool | None
    gpu: str
    setting: str
    """In words."""
    measured_kind: str
    measured_bytes: int | None
    predicted_bytes: int | None
    low: int | None
    high: int | None
    two_depth_bytes: int | None
    """Peak extrapolated from two shallow depths."""
    measured_seconds_per_step: float | None
    seconds_low: float | None
    seconds_expected: float | None
    seconds_high: float | None
    two_depth_seconds: float | None
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TotalScore:
    """Torch's reserved memory, or nvidia-smi's figure."""

    total: str
    rows: int
    mean_abs_error: float
    inside_band: float
    mean_half_width: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeScore:
    """Seconds per step."""

    rows: int
    mean_abs_error: float
    inside_range: float
    widest_high_over_low: float


@dataclass(frozen=True, kw_only=True, slots=True)
class UnseenGroup:
    """A source against the bands that the other sources alone give."""

    group: str
    rows: int
    inside_band: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceByKind:
    """What each band rests on."""

    static: tuple[Evidence, ...]
    memory: tuple[Evidence, ...]
    lower: tuple[Evidence, ...]
    """Of rows that are shown and not counted; no band rests on it."""
    time: tuple[Evidence, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyReport:
    """Predicted against measured. Errors are shares of the measured figure."""

    made: str
    """Day, ISO."""
    rows: tuple[ReportRow, ...]
    groups: tuple[Score, ...]
    overall: Score | None
    settings: tuple[Score, ...]
    not_scored: tuple[Score, ...]
    totals: tuple[TotalScore, ...]
    time: TimeScore | None
    evidence: EvidenceByKind
    unseen_groups: tuple[UnseenGroup, ...]


def as_json(report: AccuracyReport) -> dict[str, Any]:
    return asdict(report)


def from_json(value: Mapping[str, Any]) -> AccuracyReport:
    """The report that `as_json` wrote; TypeError or KeyError where a field is missing or unknown."""
    return AccuracyReport(
        **{
            **value,
            "rows": tuple(ReportRow(**row) for row in value["rows"]),
            "groups": _scores(value["groups"]),
            "overall": Score(**value["overall"]) if value["overall"] else None,
            "settings": _scores(value["settings"]),
            "not_scored": _scores(value["not_scored"]),
            "totals": tuple(TotalScore(**each) for each in value["totals"]),
            "time": TimeScore(**value["time"]) if value["time"] else None,
            "evidence": EvidenceByKind(**{name: _evidence(each) for name, each in value["evidence"].items()}),
            "unseen_groups": tuple(UnseenGroup(**each) for each in value["unseen_groups"]),
        }
    )


def _scores(values: list[Mapping[str, Any]]) -> tuple[Score, ...]:
    return tuple(Score(**each) for each in values)


def _evidence(values: list[Mapping[str, Any]]) -> tuple[Evidence, ...]:
    return tuple(Evidence(**{**each, "groups": tuple(each["groups"])}) for each in values)
