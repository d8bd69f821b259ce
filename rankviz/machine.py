"""This machine, as far as it can be known without torch: its first GPU, or its CPUs."""

import os
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")


@cache
def here() -> dict[str, Any]:
    """device "cuda" or "cpu", device_name, cpu_count, cpu_bf16: the keys that a run's environment has too."""
    gpu = _first_gpu()
    return {
        "device": "cuda" if gpu else "cpu",
        "device_name": gpu or cpu_name(),
        "cpu_count": os.cpu_count() or 1,
        "cpu_bf16": cpu_bf16(),
    }


def cpu_name() -> str:
    """The kernel's name for the processor, or the architecture if it has none."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_bf16() -> bool | None:
    """Whether the processor multiplies bf16 (avx512_bf16, amx_bf16, bf16 on Arm), or has AVX-512, with which PyTorch's
    kernels stand in for it; None where the kernel doesn't say."""
    flags = _cpuinfo("flags") or _cpuinfo("Features")
    return any("bf16" in flag or flag == "avx512f" for flag in flags.split()) if flags else None


def _cpuinfo(name: str) -> str:
    """Of the first processor; nothing where the kernel has no such line."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return ""
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in fields if key.strip() == name), "")


def _first_gpu() -> str | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            if not pynvml.nvmlDeviceGetCount():
                return None
            return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None


@cache
def versions(names: Sequence[str]) -> dict[str, str]:
    """Installed versions of these libraries, without those that are not installed; nothing is imported."""
    from importlib.metadata import PackageNotFoundError, version

    installed = {}
    for name in names:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed
