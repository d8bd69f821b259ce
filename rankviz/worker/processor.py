"""Measures processor time: of this process, of all others, and how long its threads waited for a processor."""

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

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
