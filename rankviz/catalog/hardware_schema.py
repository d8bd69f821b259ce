"""What a row of gpus.json and assumptions.json must look like. Strict: nothing unknown, nothing missing.

pydantic is imported in such modules only, and they only where assets are built or tested: reading an asset stays fast.
"""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from rankviz.catalog.hardware import ASSUMPTIONS_FILE, GPUS_FILE, read_rows
from rankviz.catalog.row_check import check_sorted

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Day = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]
Rate = Annotated[float, Field(gt=0)]


class Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    checked: Day

    @model_validator(mode="after")
    def _the_day_exists(self):
        date.fromisoformat(self.checked)
        return self


class PriceRow(Row):
    usd_per_hour: Rate
    provider: Text
    source: Text


class GpuRow(Row):
    id: Slug
    name: Text
    memory_bytes: Annotated[int, Field(ge=10**9, le=10**12)]
    usable_bytes: Annotated[int, Field(ge=10**9, le=10**12)] | None
    usable_source: Text
    bf16_flops_per_second: Rate | None
    fp16_flops_per_second: Rate | None
    fp32_flops_per_second: Rate | None
    flops_source: Text
    bandwidth_bytes_per_second: Rate | None
    bandwidth_source: Text
    supports_bf16: bool
    utilisation_group: Literal["turing", "a100", "hopper", "workstation", "geforce"]
    prices: list[PriceRow]
    source: Text
    note: str


class AssumptionRow(Row):
    id: Slug
    value: float | None = None
    low: float | None = None
    expected: float | None = None
    high: float | None = None
    unit: Text
    meaning: Text
    source: Text

    @model_validator(mode="after")
    def _one_value_or_a_rising_range(self):
        ends = (self.low, self.expected, self.high)
        if (self.value is None) == (None in ends) or (self.value is not None and ends != (None, None, None)):
            raise ValueError("give either value, or low, expected and high")
        if self.value is None and not self.low <= self.expected <= self.high:
            raise ValueError("low, expected and high must rise")
        return self


def check(assets: Path) -> None:
    """Raise AssetError with file, row, field and remedy unless both files are as they must be."""
    check_sorted(GPUS_FILE, read_rows(assets / GPUS_FILE, "gpus"), GpuRow, "id")
    check_sorted(ASSUMPTIONS_FILE, read_rows(assets / ASSUMPTIONS_FILE, "assumptions"), AssumptionRow, "id")
