"""Where a run or a probe runs."""

from dataclasses import dataclass

from rankviz.core.cost.gpu import Gpu


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """Where a run runs."""

    cpu_count: int
    cpu_bf16: bool | None = None
    """Whether the processor is made for bf16; None is not known."""
    cuda: bool = False
    gpu: Gpu | None = None
    """Its row of the table, where it has one."""
