"""What a row of gpus.json and assumptions.json must look like. For builds and tests: see schema.py."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from rankviz.catalog.hardware import ASSUMPTIONS_FILE, GPUS_FILE, in_one_form, read_rows
from rankviz.catalog.schema import Day, Rate, Slug, Text, check_sorted, strict
from rankviz.core.cost.assumptions import Assumption
from rankviz.core.cost.gpu import Gpu, Price
from rankviz.core.quantity import Range

CardBytes = Annotated[int, Field(ge=10**9, le=10**12)]
Capability = Annotated[float, Field(ge=3.0, lt=20.0)]
PRICE = strict(Price, usd_per_hour=Rate, provider=Text, source=Text, checked=Day)
GPU = strict(
    Gpu,
    id=Slug,
    name=Text,
    device_names=tuple[Text, ...],
    memory_bytes=CardBytes,
    usable_bytes=CardBytes | None,
    usable_source=Text,
    bf16_flops_per_second=Rate | None,
    fp16_flops_per_second=Rate | None,
    fp32_flops_per_second=Rate | None,
    flops_source=Text,
    bandwidth_bytes_per_second=Rate | None,
    bandwidth_source=Text,
    compute_capability=Capability,
    prices=tuple[PRICE, ...],
    source=Text,
    checked=Day,
)
ASSUMPTION = Annotated[
    strict(Assumption, optional=("without",), id=Slug, value=Range, unit=Text, meaning=Text, source=Text, checked=Day),
    BeforeValidator(in_one_form),
]


def check(assets: Path) -> None:
    """Raise AssetError with file, row, field and remedy unless both files are as they must be."""
    check_sorted(GPUS_FILE, read_rows(assets / GPUS_FILE, "gpus"), GPU, "id")
    check_sorted(ASSUMPTIONS_FILE, read_rows(assets / ASSUMPTIONS_FILE, "assumptions"), ASSUMPTION, "id")
