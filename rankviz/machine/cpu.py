"""What the kernel says of this machine's processor, and how much it has to do."""

import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def cpu_name() -> str:
    """The kernel's name for the processor, or the architecture if it has none."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_bf16() -> bool | None:
    """Whether the processor multiplies bf16 (avx512_bf16, amx_bf16, bf16 on Arm), or has AVX-512, with which PyTorch's
    kernels stand in for it; None where the kernel doesn't say."""
    flags = _cpuinfo("flags") or _cpuinfo("Features")
    return any("bf16" in flag or flag == "avx512f" for flag in flags.split()) if flags else None


def load_average() -> float | None:
    """Processes that ran or waited to run, over the last minute; None where the system does not count them."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):  # Windows has none
        return None


def _cpuinfo(name: str) -> str:
    """Of the first processor; nothing where the kernel has no such line."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return ""
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in fields if key.strip() == name), "")
