"""Describes a GPU: its memory, its speed and its price per hour."""

from dataclasses import dataclass
from typing import Literal

UtilisationGroup = Literal["turing", "a100", "hopper", "workstation", "geforce"]
"""Cards that reach a similar share of their dense FLOP/s when training; the shares are rows of assumptions.json."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    usd_per_hour: float
    provider: str
    source: str
    checked: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One card. None is "not known", never zero."""

    id: str
    name: str
    device_names: tuple[str, ...] = ()
    """What the driver calls this card, and no other one (NVIDIA's list: open-gpu-kernel-modules,
    g_nv_name_released.h)."""
    memory_bytes: int
    """Nominal, as sold (10^9 bytes a GB)."""
    usable_bytes: int | None
    """What torch reports as total_memory, the lowest seen."""
    usable_source: str
    bf16_flops_per_second: float | None
    """Dense, fp32 accumulate."""
    fp16_flops_per_second: float | None
    fp32_flops_per_second: float | None = None
    """Of the CUDA cores, for products of fp32 operands."""
    flops_source: str
    bandwidth_bytes_per_second: float | None
    bandwidth_source: str = ""
    supports_bf16: bool
    compute_capability: float | None = None
    """As NVIDIA lists it (developer.nvidia.com/cuda-gpus): 7.5 is Turing, 8.0 to 8.9 Ampere and Ada, 9.0 Hopper."""
    utilisation_group: UtilisationGroup = "workstation"
    prices: tuple[Price, ...] = ()
    """The first is `price`; the rest are what others ask."""
    source: str = ""
    checked: str = ""
    note: str = ""

    @property
    def price(self) -> Price | None:
        """The one price that lists, estimates and orders use; None where none is known."""
        return self.prices[0] if self.prices else None
