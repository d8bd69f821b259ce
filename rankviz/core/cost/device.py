"""Describes the device that trains: a GPU or this machine."""

from dataclasses import dataclass

from rankviz.core.cost.gpu import Gpu


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A GPU, or the CPUs of a machine without one."""

    cuda: bool = False
    gpu: Gpu | None = None
    """Its row of the table, where it has one."""
    cpu_count: int = 1
    cpu_bf16: bool | None = None
    """Whether the processor is made for bf16; None is not known."""


def card(gpu: Gpu | None) -> Device:
    """A machine with this GPU; None is a GPU that is not in the table."""
    return Device(cuda=True, gpu=gpu)
