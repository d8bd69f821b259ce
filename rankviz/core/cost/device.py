"""Describes the device that trains: a GPU or this machine."""

from dataclasses import dataclass

from rankviz.core.cost.gpu import Gpu


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
        """Of the GPU's memory: what torch can use of it, else what the driver reports; None is not known."""
        return self.gpu.usable_bytes if self.gpu and self.gpu.usable_bytes else self.memory_bytes


def card(gpu: Gpu | None) -> Device:
    """A machine with this GPU; None is a GPU that is not in the table."""
    return Device(cuda=True, gpu=gpu)
