"""What a row of gpus.json and assumptions.json must look like. Strict: nothing unknown, nothing missing.

pydantic is imported here only, and this module only where assets are built or tested: reading an asset stays fast.
"""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from rankviz.catalog.hardware import ASSUMPTIONS_FILE, GPUS_FILE, read_rows
from rankviz.errors import AssetError

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
    _check(GPUS_FILE, read_rows(assets / GPUS_FILE, "gpus"), GpuRow)
    _check(ASSUMPTIONS_FILE, read_rows(assets / ASSUMPTIONS_FILE, "assumptions"), AssumptionRow)


def _check(file: str, rows: list[dict], schema: type[Row]) -> None:
    before = ""
    for row in rows:
        name = row.get("id", "?") if isinstance(row, dict) else row
        try:
            schema.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "the row"
            raise AssetError(f"{file}: row {name!r}, {field}: {remedy(first)}.") from None
        if name == before:
            raise AssetError(f"{file}: row {name!r} is there twice: keep one.")
        if name < before:
            raise AssetError(f"{file}: row {name!r} is out of order: move it above {before!r}.")
        before = name


def remedy(error: dict) -> str:
    match error["type"]:
        case "missing":
            return "missing; add it"
        case "extra_forbidden":
            return "not a field of this file; remove or rename it"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}; got {error['input']!r:.80}"
