"""This machine, as far as it can be known without torch: its first GPU, or its CPUs."""

import os
import platform
from functools import cache
from typing import Any


@cache
def here() -> dict[str, Any]:
    """device "cuda" or "cpu", device_name, cpu_count: the keys that a run's environment has too."""
    gpu = _first_gpu()
    return {
        "device": "cuda" if gpu else "cpu",
        "device_name": gpu or platform.processor() or platform.machine(),
        "cpu_count": os.cpu_count() or 1,
    }


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
