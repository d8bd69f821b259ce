"""Describes the device that trains: a GPU with its memory, speed and price per hour, or this machine."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A GPU, or the CPUs of a machine without one."""

    cuda: bool = False
    gpu: Gpu | None = None
    """Its row of the table, where it has one."""
    memory_bytes: int | None = None
    """Of the GPU, as its driver reports it; None is not known. A card without a row has this alone."""
    cpu_count: int = 1
    cpu_bf16: bool | None = None
    """Whether the processor is made for bf16; None is not known."""

    @property
    def has_bf16(self) -> bool:
        """The GPU multiplies bf16; one that is not in the table is taken for one that does."""
        return self.gpu is None or self.gpu.supports_bf16

    @property
    def usable_bytes(self) -> int | None:
        """GPU memory that torch can use, else what the driver reports; None is not known."""
        return self.gpu.usable_bytes if self.gpu and self.gpu.usable_bytes else self.memory_bytes


def card(gpu: Gpu | None) -> Device:
    """A machine with this GPU; None is a GPU that is not in the table."""
    return Device(cuda=True, gpu=gpu)
