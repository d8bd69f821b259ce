"""This machine, as far as it can be known without torch: its first GPU, or its CPUs."""

import os
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any


@cache
def here() -> dict[str, Any]:
    """device "cuda" or "cpu", device_name, cpu_count: the keys that a run's environment has too."""
    gpu = _first_gpu()
    return {
        "device": "cuda" if gpu else "cpu",
        "device_name": gpu or cpu_name(),
        "cpu_count": os.cpu_count() or 1,
    }


def cpu_name() -> str:
    """As the kernel names it; the architecture where it doesn't."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


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
    """Installed versions of these libraries, those that are not here left out; nothing is imported."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
