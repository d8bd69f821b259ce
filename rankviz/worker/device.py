"""The device that trains: its bf16 and failures, the memory and processor time of a run, and the environment that a
run's journal starts with. torch is imported only where it is used."""

import ctypes
import gc
import hashlib
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import rankviz
from rankviz import machine
from rankviz.machine import cards

BF16_CAPABILITY = (8, 0)
"""Compute capability from which bf16 is in the hardware (Ampere). torch emulates it below, several times slower, and
so reports it as supported there."""
OUT_OF_MEMORY_CODE = 2
"""cudaErrorMemoryAllocation of the CUDA runtime."""


def has_cuda() -> bool:
    """Tell whether torch can use a GPU here."""
    import torch

    return torch.cuda.is_available()


def has_bf16() -> bool:
    """Tell whether the GPU that torch uses multiplies bf16 in hardware."""
    import torch

    if torch.version.hip:
        return torch.cuda.is_bf16_supported()
    return torch.cuda.get_device_capability() >= BF16_CAPABILITY


def forces_fp32() -> bool:
    """Tell whether Unsloth trains the model that it loaded last without autocast: its FORCE_FLOAT32 list, in fp16 or on
    a card without bf16 (unsloth/models/loader.py)."""
    return os.environ.get("UNSLOTH_FORCE_FLOAT32", "0") == "1"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, what caused it, what caused that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, on the GPU or in Python, here or in what led to this error."""
    torch = sys.modules.get("torch")
    shortages = (MemoryError, torch.OutOfMemoryError) if torch else (MemoryError,)
    return any(
        isinstance(each, shortages)
        or (_is_accelerator_error(each) and getattr(each, "error_code", None) == OUT_OF_MEMORY_CODE)
        for each in causes(error)
    )


def is_lost(error: BaseException) -> bool:
    """Tell whether the GPU's context has failed for good, so that every later call of this process fails too: an
    illegal memory access, a failed assertion in a kernel, a card that has dropped off the bus.

    torch has a class for most of these. Triton and bitsandbytes report them as a RuntimeError, so the card is asked.
    """
    if any(_is_accelerator_error(each) for each in causes(error)) and not ran_out_of_memory(error):
        return True
    torch = sys.modules.get("torch")
    if torch is None or not has_cuda() or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError as failure:
        return not ran_out_of_memory(failure)
    return False


def _is_accelerator_error(error: BaseException) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.AcceleratorError)


class Memory:
    """Peaks since the last `reset`, in bytes. On a GPU both of torch's peaks; on the CPU the kernel's high-water mark,
    which only Linux can reset: elsewhere it is that of the whole process."""

    def __init__(self, *, cuda: bool):
        self.kind = "GPU allocated" if cuda else "process resident"
        self._cuda = None
        if cuda:
            import torch

            self._cuda = torch.cuda

    def settle(self) -> None:
        """Give back what earlier runs left, so that the next one's peak is its own."""
        gc.collect()
        if self._cuda:
            self._cuda.empty_cache()
        else:
            # Freed blocks stay with glibc's arenas, and so in the resident set, until it is told to trim.
            with suppress(OSError, AttributeError):
                ctypes.CDLL(None).malloc_trim(0)

    def reset(self) -> None:
        if self._cuda:
            self._cuda.reset_peak_memory_stats()
        else:
            reset_high_water_mark()

    def now(self) -> int:
        return self._cuda.memory_allocated() if self._cuda else psutil.Process().memory_info().rss

    def peak(self) -> int:
        if self._cuda:
            return self._cuda.max_memory_allocated()
        try:
            return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
        except OSError:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS

    def peak_reserved(self) -> int | None:
        return self._cuda.max_memory_reserved() if self._cuda else None


def reset_high_water_mark() -> None:
    """Linux: writing 5 to clear_refs sets VmHWM back to the resident set of now (man proc_pid_clear_refs)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessorUse:
    """Seconds, added over all processors; `elapsed` is the clock's."""

    elapsed: float
    own: float
    others: float
    waited: float | None
    """Time that threads of this process were ready to run while others had the processors; None where the kernel does
    not count that."""

    @property
    def busy_elsewhere(self) -> float:
        """The share of this machine's CPU time that other processes had. The kernel counts in ticks of 10 ms, so that a
        short time may hold too many."""
        return min(1.0, self.others / (self.elapsed * psutil.cpu_count())) if self.elapsed else 0.0

    @property
    def fields(self) -> dict[str, float | None]:
        """The entries of a run's events."""
        waited = None if self.waited is None else round(self.waited, 4)
        return {"own_cpu_seconds": round(self.own, 4), "waited_cpu_seconds": waited}


class ProcessorClock:
    """Counts processor time from when it was made."""

    def __init__(self) -> None:
        self._before = self._counters()

    def read(self) -> ProcessorUse:
        """Return the use since then."""
        elapsed, own, busy, waited = (
            None if None in (now, then) else now - then
            for now, then in zip(self._counters(), self._before, strict=True)
        )
        waited = None if waited is None else max(0.0, waited)
        return ProcessorUse(elapsed=elapsed, own=own, others=max(0.0, busy - own), waited=waited)

    @staticmethod
    def _counters() -> tuple[float, float, float, float | None]:
        """Clock, processor time of this process, of all (a hypervisor's counts as busy, waiting for a disk as idle),
        and the waits of all threads by the second number of Linux's schedstat, in ns."""
        times, waits = psutil.cpu_times(), []
        busy = sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
        with suppress(OSError):
            for task in Path("/proc/self/task").iterdir():
                with suppress(OSError, ValueError, IndexError):  # a thread that has just ended
                    waits.append(int((task / "schedstat").read_text().split()[1]))
        return time.monotonic(), time.process_time(), busy, sum(waits) / 1e9 if waits else None


LIBRARIES = (
    *("torch", "transformers", "peft", "trl", "unsloth", "unsloth_zoo"),
    *("accelerate", "datasets", "bitsandbytes", "safetensors"),
)


def environment(cuda: bool) -> dict[str, Any]:
    """Return device, driver and versions, which are needed to compare a run's numbers."""
    import torch

    device = {"device": "cpu", "device_name": machine.cpu_name(), "driver": None}
    if cuda:
        properties = torch.cuda.get_device_properties(0)
        driver = cards.read_driver()
        card = cards.chosen(driver)
        device = {
            "device": "cuda",
            "device_name": properties.name,
            # The driver's number where it answers, since that is what an estimate of this machine goes by: None where
            # the GPU shares the machine's memory.
            "device_memory_bytes": card.memory_bytes if card else properties.total_memory,
            "driver": driver.version if driver else None,
            "cuda": torch.version.cuda,
            # Unsloth compiles each block in the first step, again for each rank (models/_block_compile.py).
            "block_compile": os.environ.get("UNSLOTH_BLOCK_COMPILE", "1") != "0",
            "capability": ".".join(str(part) for part in torch.cuda.get_device_capability(0)),
        }
    return {
        **device,
        "cpu_count": os.cpu_count(),
        "cpu_bf16": machine.cpu_bf16(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "rankviz": rankviz.__version__,
        "versions": machine.versions(LIBRARIES),
    }


def model_fingerprint(model: Any) -> str:
    """Return 16 digits of a SHA-256 over each parameter's name, shape, type and first and last values: enough to tell
    two models or two precisions apart, without reading gigabytes."""
    import torch

    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        flat = parameter.detach().reshape(-1)
        for piece in (flat[:16], flat[-16:]):
            digest.update(piece.to("cpu").contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
