"""Measures the memory and the processor time of a run: the GPU allocator's count, or this process's resident set."""

import ctypes
import gc
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil


@dataclass(slots=True)
class Memory:
    """Peaks since the last `reset`. On a GPU both of torch's peaks; on the CPU the kernel's high-water mark where it
    can be reset (Linux), else samples taken in a thread each 50 ms, which may miss a short peak."""

    cuda: bool
    kind: str = field(init=False)
    _sampler: "_Sampler | None" = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.kind = "GPU allocated" if self.cuda else "process resident"
        if not self.cuda and not _reset_high_water_mark():
            self.kind = "process resident, sampled"
            self._sampler = _Sampler()
            self._sampler.start()

    def settle(self) -> None:
        """Give back what earlier runs left, so that the next one's peak is its own."""
        gc.collect()
        if self.cuda:
            import torch

            torch.cuda.empty_cache()
        else:
            # Freed blocks stay with glibc's arenas, and so in the resident set, until it is told to trim.
            with suppress(OSError, AttributeError):
                ctypes.CDLL(None).malloc_trim(0)

    def reset(self) -> None:
        if self.cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()
        elif self._sampler is not None:
            self._sampler.peak_bytes = self.now()
        else:
            _reset_high_water_mark()

    def now(self) -> int:
        if self.cuda:
            import torch

            return torch.cuda.memory_allocated()
        return psutil.Process().memory_info().rss

    def peak(self) -> int:
        if self.cuda:
            import torch

            return torch.cuda.max_memory_allocated()
        return self._sampler.peak_bytes if self._sampler is not None else _high_water_mark()

    def peak_reserved(self) -> int | None:
        if not self.cuda:
            return None
        import torch

        return torch.cuda.max_memory_reserved()


class _Sampler(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="memory", daemon=True)
        self.peak_bytes = 0

    def run(self) -> None:
        process, pause = psutil.Process(), threading.Event()
        while not pause.wait(0.05):
            self.peak_bytes = max(self.peak_bytes, process.memory_info().rss)


def _reset_high_water_mark() -> bool:
    """Linux: writing 5 to clear_refs sets VmHWM back to the resident set of now (man proc_pid_clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _high_water_mark() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status names no VmHWM")


TASKS = Path("/proc/self/task")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessorUse:
    """Seconds, added over all processors; `elapsed` is the clock's."""

    elapsed: float
    own: float
    others: float
    waited: float | None
    """How long threads of this process were ready to run while others had the processors; None where the kernel does
    not count that."""

    @property
    def busy_elsewhere(self) -> float:
        """The share of this machine's CPU time that other processes had. The kernel counts in ticks of 10 ms, so that a
        short time may hold too many."""
        return min(1.0, self.others / (self.elapsed * psutil.cpu_count())) if self.elapsed else 0.0

    @property
    def fields(self) -> dict[str, float | None]:
        """As the events of a run have them."""
        waited = None if self.waited is None else round(self.waited, 4)
        return {"own_cpu_seconds": round(self.own, 4), "waited_cpu_seconds": waited}


class ProcessorClock:
    """Counts from when it was made."""

    def __init__(self) -> None:
        self._started, self._own, self._busy, self._waited = time.monotonic(), time.process_time(), _busy(), _waited()

    def read(self) -> ProcessorUse:
        own, waited = time.process_time() - self._own, _waited()
        return ProcessorUse(
            elapsed=time.monotonic() - self._started,
            own=own,
            others=max(0.0, _busy() - self._busy - own),
            waited=None if waited is None or self._waited is None else max(0.0, waited - self._waited),
        )


def _busy() -> float:
    """Idle is what the kernel calls so, and waiting for a disk; time that a hypervisor took counts as busy."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def _waited() -> float | None:
    """The second number of Linux's schedstat, in ns, of all threads that there are."""
    nanoseconds = []
    with suppress(OSError):
        for task in TASKS.iterdir():
            with suppress(OSError, ValueError, IndexError):  # a thread that has just ended
                nanoseconds.append(int((task / "schedstat").read_text().split()[1]))
    return sum(nanoseconds) / 1e9 if nanoseconds else None
