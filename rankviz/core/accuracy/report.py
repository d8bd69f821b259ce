"""Report on the errors of estimates: by kind of setting, by source and by row."""

from collections.abc import Sequence
from dataclasses import dataclass

from rankviz.core.cost.stack import Stack
from rankviz.core.quantity import Assumption, Range, brief
from rankviz.units import rounded_percent


@dataclass(frozen=True, kw_only=True, slots=True)
class KindAccuracy:
    """Errors of the scored rows of one kind of setting."""

    kind: str
    half_width: float
    """Half-width of the band. Memory: share of the modelled part, of all where several GPUs share the base, or bytes
    (counted parts). Time: natural log."""
    groups: tuple[str, ...]
    settings: int
    mean_abs_error: float
    """Mean absolute error as a share of the measured figure, with constants that these rows contributed to."""
    left_out_error: float | None = None
    """Mean absolute error with constants that the row's source did not contribute to; None where not computed."""
    left_out_inside: float | None = None
    """Share of settings inside their range, with each source left out in turn; None where not computed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyByKind:
    """Errors behind each band, by kind of setting."""

    static: tuple[KindAccuracy, ...]
    memory: tuple[KindAccuracy, ...]
    time: tuple[KindAccuracy, ...]


def widths(evidence: AccuracyByKind, made: str) -> tuple[Assumption, ...]:
    """Return the half-widths of bands as assumptions, one for each kind of setting. made: ISO date."""
    parts = (("", evidence.static, "bytes"), ("", evidence.memory, "share"), ("time-", evidence.time, "logarithm"))
    return tuple(
        Assumption(
            id=f"{prefix}width-{each.kind}",
            value=Range(each.half_width, each.half_width, each.half_width),
            unit=f"{'natural ' if prefix else ''}{unit}",
            meaning=f"half-width from {each.settings} measured settings of {', '.join(each.groups)}",
            source="assets/validation.json",
            checked=made,
        )
        for prefix, part, unit in parts
        for each in part
    )


CHECKED_ON_ROWS = "The formulas stay the same, and they were checked against the same measurements."
"""Sentence on a limit of the errors of left-out sources."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Basis:
    """Measured errors for one kind of setting; None where no measured row is of this kind."""

    memory: KindAccuracy | None
    time: KindAccuracy | None


def basis_of(evidence: AccuracyByKind, stack: Stack) -> Basis:
    """Return the measured errors for the kind of setting of this stack."""
    memory = next((each for each in evidence.memory if each.kind == stack.kind), None)
    return Basis(memory=memory, time=next((each for each in evidence.time if each.kind == stack.time_kind), None))


def in_words(basis: Basis) -> str:
    """Return a sentence on the errors behind a memory range: of similar settings, each without its source."""
    memory = basis.memory
    if memory is None:
        return "No measured run matches this setup (kernels, checkpointing, attention), so the range is wider: a guess."
    error, inside = memory.left_out_error or memory.mean_abs_error, memory.left_out_inside or 0.0
    alike, (*others, last) = "kernels, checkpointing and attention", memory.groups
    groups = f"{', '.join(others)} and {last}" if others else last
    if memory.kind == "grpo":
        return (
            f"The memory range rests on {memory.settings} published runs of GRPO ({groups.removeprefix('GRPO, ')}): "
            f"memory at the longest length was {100 * error:.0f} % off on average; {100 * inside:.0f} % were inside. "
            "They set the width of the range. Time is not checked."
        )
    if memory.kind.startswith("several"):
        alike = "division of the base over several GPUs"
    return (
        f"The memory range rests on {memory.settings} measured setups of {groups} with the same {alike}. Predicted "
        f"without its own source, a setup was {100 * error:.1f} % off on average; {100 * inside:.0f} % were inside the "
        f"range. {CHECKED_ON_ROWS}"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Errors of a group of rows; every setting counts once."""

    group: str
    rows: int
    settings: int
    mean_abs_error: float
    worst_error: float
    inside_band: float
    mean_half_width: float

    def texts(self) -> dict[str, str]:
        """Return the cells of a table's row, by heading."""
        return {
            "Source": self.group,
            "Rows": f"{self.rows:,}",
            "Setups": f"{self.settings:,}",
            "Mean error": rounded_percent(self.mean_abs_error),
            "Largest error": f"{100 * self.worst_error:+.1f} %",
            "Inside the range": rounded_percent(self.inside_band),
            "Range": f"±{rounded_percent(self.mean_half_width)}",
        }


def basis_of_grpo(scores: Sequence[Score]) -> Basis:
    """Return the errors of GRPO's own rows, which no constant but the width of the range was taken from."""
    settings = sum(each.settings for each in scores)
    errors = {
        name: sum(each.settings * getattr(each, name) for each in scores) / settings
        for name in ("mean_abs_error", "inside_band", "mean_half_width")
    }
    memory = KindAccuracy(
        kind="grpo",
        half_width=errors["mean_half_width"],
        groups=tuple(each.group for each in scores),
        settings=settings,
        mean_abs_error=errors["mean_abs_error"],
        left_out_error=errors["mean_abs_error"],
        left_out_inside=errors["inside_band"],
    )
    return Basis(memory=memory, time=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeScore:
    """Errors of predicted seconds per step."""

    rows: int
    mean_abs_error: float
    inside_range: float
    widest_high_over_low: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Errors of predictions without measurements of the row's source."""

    origins: tuple[Score, ...]
    """Errors of memory, by source."""
    overall: Score
    """Errors of memory over all counted rows that a GPU's own counters measured; every setting counts once."""
    time: TimeScore | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportRow:
    """One measured row and its prediction. None means "not measured" or "no prediction possible"."""

    row_id: str
    group: str
    origin: str
    """Name of the source: who measured, with which program. A source may have several tables."""
    scored: bool
    bound: bool
    """True where the row's length is only a limit, so that the measured memory is at most the predicted one."""
    reason: str | None
    model_id: str
    kind: str | None
    """Kind of setting: kernels, checkpointing and attention."""
    quantized: bool | None
    gpu: str
    setting: str
    measured_kind: str
    measured_bytes: int | None
    predicted_bytes: int | None
    """Predicted bytes, followed by their range; from constants without the row's source, if the report says so."""
    low: int | None
    high: int | None
    measured_seconds_per_step: float | None
    predicted_seconds_per_step: float | None
    two_depth_bytes: int | None
    """Peak bytes extrapolated from two small depths."""
    two_depth_seconds: float | None
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyReport:
    """Predicted and measured figures of all rows. Errors are shares of the measured figure."""

    __repr__ = brief

    made: str
    rows: tuple[ReportRow, ...]
    groups: tuple[Score, ...]
    overall: Score | None
    not_scored: tuple[Score, ...]
    """Errors of rows that are shown but not counted; no band is based on them."""
    bounds: tuple[Score, ...]
    """Results of rows whose length is only a limit: share whose measured memory is at most the high end."""
    time: TimeScore | None
    evidence: AccuracyByKind
    left_out: LeftOut | None = None
    """Errors with each source left out in turn; None for a user's own file, which no constant was fitted to."""
    grpo: tuple[Score, ...] = ()
    """Errors of the trainer's memory in GRPO runs, by source; no constant was fitted to them, so all are left out."""
    grpo_rows: tuple[ReportRow, ...] = ()
    several_rows: tuple[ReportRow, ...] = ()
    """Rows of several GPUs, which all other fields but `evidence` leave out."""
    several: LeftOut | None = None
    """Errors of these rows, with each source left out in turn except for a user's own file."""
