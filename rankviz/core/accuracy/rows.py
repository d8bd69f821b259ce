"""A measured training run from elsewhere: its settings, and what was seen of memory and time.

The form is that of assets/validation/*.csv, one row a measurement; an empty cell is not known. What makes a row
useless is said in words, never skipped in silence.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rankviz.core.bounds import MAX_NUMBER
from rankviz.errors import BadDataError, quoted

KINDS = ("allocated", "reserved", "device", "capacity", "unknown", "resident above baseline")
"""Which counter a figure is: torch's two, nvidia-smi's, a card's size at the longest length that fitted, not stated,
or a process's resident set less what it had before the base was loaded."""

ORIGINS = {
    "fms-": "fms-acceleration",
    "litgpt-": "litgpt",
    "raschka-": "litgpt",
    "unsloth-": "unsloth",
    "fitcheck-": "fitcheck",
}
"""By how a group's name begins. Raschka's runs are litgpt's scripts on litgpt's data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredRow:
    """One row. None is "not known"."""

    row_id: str
    group: str
    """Rows from one table, whose errors hang together."""
    tier: str
    """A: every setting stated, exact length. B: the length is the longest sample or a cap that is reached. C: the
    length is a cap that rows need not reach. D: something is not stated. E: an extrapolated line."""
    use_peak: bool
    use_time: bool
    model_id: str
    precision: str
    compute_dtype: str
    raised: str
    """"yes", "no" or "norms only": what k-bit preparation left in fp32."""
    framework: str
    framework_version: str
    r: int
    targets: tuple[str, ...]
    batch: int
    grad_accum: int
    seq_len: int
    seq_kind: str
    checkpointing: str
    attn: str
    loss_path: str
    optimizer: str
    adapter_dtype: str
    gpu: str
    measured_bytes: int | None
    measured_kind: str
    reserved_bytes: int | None
    device_bytes: int | None
    """The other totals, where they were read too: torch's reserved and nvidia-smi's."""
    loaded_bytes: int | None
    """Allocated before the first step: weights, adapter and, where the source says so, optimizer states."""
    measured_seconds_per_step: float | None
    source: str
    notes: str
    trainable_parameters: int | None = None
    """As the program printed them, where the row's targets can be said with names."""
    date: str = ""
    """Of the measurement, as the source has it."""
    two_depth_bytes: int | None = None
    """For a probe's row: what two small depths made of the whole model."""
    two_depth_seconds: float | None = None

    @property
    def origin(self) -> str:
        """The source: who measured with which program. Tables of one source share mistakes, so that only another
        source says what happens on one that has not been seen."""
        return next((name for start, name in ORIGINS.items() if self.group.startswith(start)), self.group)

    @property
    def is_bound(self) -> bool:
        """The length is only a cap: at the cap the run would have taken at least what was measured."""
        return self.seq_kind == "cap"

    @property
    def setting(self) -> tuple:
        """Rows with the same setting repeat one measurement."""
        return (
            self.group,
            self.model_id,
            self.precision,
            self.raised,
            self.framework,
            self.r,
            self.targets,
            self.batch,
            self.seq_len,
            self.checkpointing,
            self.attn,
            self.loss_path,
            self.optimizer,
            self.gpu,
            self.measured_kind,
        )


def parse_row(cells: Mapping[str, str], line: int) -> MeasuredRow:
    """One line of a CSV file; BadDataError names the line and the column that can't be read."""

    def text(name: str) -> str:
        return (cells.get(name) or "").strip()

    def number(name: str, kind: type, default=None):
        if not text(name):
            return default
        try:
            value = float(text(name))
        except ValueError:
            raise BadDataError(f"Line {line}, column {name}: {quoted(text(name))} is not a number.") from None
        if not abs(value) <= MAX_NUMBER:
            raise BadDataError(f"Line {line}, column {name}: give a finite number of at most 10^18.")
        return kind(value)

    def needed(name: str) -> int:
        value = number(name, int)
        if value is None or value < 1:
            raise BadDataError(f"Line {line}, column {name}: give a whole number of 1 or more.")
        return value

    return MeasuredRow(
        row_id=text("row_id") or f"line {line}",
        group=text("independent_group") or "not stated",
        tier=text("tier") or "D",
        use_peak=text("use_peak") == "yes",
        use_time=text("use_time") == "yes",
        model_id=text("model_id"),
        precision=text("precision"),
        compute_dtype=text("compute_dtype"),
        raised=text("kbit_fp32_upcast") or "no",
        framework=text("framework"),
        framework_version=text("framework_version"),
        r=needed("r"),
        targets=tuple(part.strip() for part in text("targets").split(",") if part.strip()),
        batch=needed("batch"),
        grad_accum=number("grad_accum", int, 1),
        seq_len=needed("seq_len"),
        seq_kind=text("seq_kind"),
        checkpointing=text("checkpointing"),
        attn=text("attn") or "sdpa",
        loss_path=text("loss_path") or "unknown",
        optimizer=text("optimizer") or "adamw_torch",
        adapter_dtype=text("adapter_dtype"),
        gpu=text("gpu"),
        measured_bytes=number("measured_bytes", int),
        measured_kind=text("measured_kind") or "unknown",
        reserved_bytes=number("measured_reserved_bytes", int),
        device_bytes=number("measured_device_bytes", int),
        loaded_bytes=number("measured_load_bytes", int),
        measured_seconds_per_step=number("measured_seconds_per_step", float),
        source=text("source"),
        notes=text("notes"),
        trainable_parameters=number("trainable_params", int) if text("use_count") == "yes" else None,
        date=text("date"),
        two_depth_bytes=number("predicted_two_depth_bytes", int),
        two_depth_seconds=number("predicted_two_depth_seconds", float),
    )
