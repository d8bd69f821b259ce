"""Describes this machine without torch: its GPU or CPUs, its memory, and what is installed for training."""

import contextlib
import os
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rankviz.machine import cards, software

CPUINFO = Path("/proc/cpuinfo")


def cpu_name() -> str:
    """Return the kernel's name for the processor, or the architecture where the kernel has no name."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_bf16() -> bool | None:
    """Tell whether the processor multiplies bf16 (avx512_bf16, amx_bf16, bf16 on Arm), or has AVX-512, with which
    PyTorch's kernels emulate bf16; None where the kernel does not say."""
    flags = _cpuinfo("flags") or _cpuinfo("Features")
    return any("bf16" in flag or flag == "avx512f" for flag in flags.split()) if flags else None


def _cpuinfo(name: str) -> str:
    """Return a value of the first processor in /proc/cpuinfo; empty where the kernel has no such line."""
    with contextlib.suppress(OSError):
        for line in CPUINFO.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""


CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files with the memory limit of a container: cgroups of version 2, and of version 1."""


@cache
def here() -> dict[str, Any]:
    """Return device, device_name, device_memory_bytes (of a GPU whose driver reports it), cpu_count and cpu_bf16, with
    the keys of a run's environment. device is "cuda" where training would use the GPU that `cards.chosen` names, with
    a torch that is built for it (or none installed yet), else "cpu"."""
    card = cards.chosen(cards.read_driver())
    installed = software.read()
    if card is not None and installed.torch and installed.torch_cuda is None:
        card = None
    return {
        "device": "cuda" if card else "cpu",
        "device_name": card.name if card else cpu_name(),
        **({"device_memory_bytes": card.memory_bytes} if card and card.memory_bytes else {}),
        "cpu_count": os.cpu_count() or 1,
        "cpu_bf16": cpu_bf16(),
    }


@cache
def versions(names: Sequence[str]) -> dict[str, str]:
    """Return the versions of installed libraries by name, without those that are missing; nothing is imported."""
    return {name: version for name in names if (version := software.version_of(name))}


def memory_bytes(limits: Sequence[str | Path] = CONTAINER_LIMITS) -> int:
    """Return the bytes of memory of this machine, or of this process's container where that has less."""
    import psutil

    known = [psutil.virtual_memory().total]
    for file in limits:
        with contextlib.suppress(OSError, ValueError):  # no container, or "max"
            known.append(int(Path(file).read_text()))
    return min(known)
