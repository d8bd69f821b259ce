"""The schema of the measured rows that RankViz ships, assets/validation/*.csv. For builds and tests.

A CSV file of one's own may leave cells out, which then are not known; a shipped row says everything that it can.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from rankviz.catalog.measurements import shipped_rows
from rankviz.catalog.schema import Positive, Rate, Text, strict, validate
from rankviz.core.accuracy.rows import KINDS, MeasuredRow
from rankviz.core.lora.config import MAX_RANK
from rankviz.errors import AssetError

Bytes = Annotated[int, Field(ge=10**6, le=10**12)]


def _consistent(row: MeasuredRow) -> None:
    if row.use_peak and row.measured_bytes is None:
        raise ValueError("give measured_bytes, or set use_peak to no")
    if row.use_time and row.measured_seconds_per_step is None:
        raise ValueError("give measured_seconds_per_step, or set use_time to no")


MEASURED_ROW = strict(
    MeasuredRow,
    laws=_consistent,
    row_id=Text,
    group=Text,
    tier=Literal["A", "B", "C", "D", "E"],
    model_id=Text,
    precision=Literal["bf16", "fp16", "fp32", "nf4", "nf4-dq", "nf4-dq-dynamic", "gptq-int4", "fp4", "int8"],
    compute_dtype=Literal["bf16", "fp16", "fp32"],
    raised=Literal["yes", "no", "norms only"],
    framework=Text,
    r=Annotated[int, Field(ge=1, le=MAX_RANK)],
    targets=Annotated[tuple[Text, ...], Field(min_length=1)],
    batch=Positive,
    grad_accum=Positive,
    seq_len=Positive,
    seq_kind=Literal["exact", "cap", "longest", "mean"],
    checkpointing=Literal["none", "hf", "unsloth"],
    attn=Literal["flash", "sdpa", "eager"],
    loss_path=Literal["full", "triton", "fused", "unknown"],
    optimizer=Text,
    adapter_dtype=Literal["fp32", "bf16", "fp16"],
    gpu=Text,
    measured_bytes=Bytes | None,
    measured_kind=Literal[KINDS],
    reserved_bytes=Bytes | None,
    device_bytes=Bytes | None,
    loaded_bytes=Bytes | None,
    measured_seconds_per_step=Rate | None,
    source=Text,
    trainable_parameters=Positive | None,
    two_depth_bytes=Bytes | None,
    two_depth_seconds=Rate | None,
)


def check_measurements(assets: Path) -> int:
    """How many rows there are; AssetError with row, field and remedy unless all are as they must be."""
    adapter, seen = TypeAdapter(MEASURED_ROW), set()
    for row in shipped_rows(assets):
        validate(adapter, asdict(row), f"validation row {row.row_id}")
        if row.row_id in seen:
            raise AssetError(f"validation row {row.row_id} stands twice: give each row an id of its own.")
        seen.add(row.row_id)
    return len(seen)
