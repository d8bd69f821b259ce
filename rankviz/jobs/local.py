"""The local engine: worker processes on this machine, one per GPU, or one on the CPU.

Workers write into the store's own run folders. File locks tell which workers are alive (process.py), so a restarted
app finds its workers, even after the app was killed.
"""

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from rankviz import units
from rankviz.core.runs.events import GPU_LOST, LOCAL
from rankviz.errors import EngineUnavailableError
from rankviz.jobs import process
from rankviz.jobs.engine import End, Engine, Job, Kind, Live
from rankviz.machine import cards

COMMANDS: Mapping[Kind, Sequence[str]] = {
    "finetune": (sys.executable, "-m", "rankviz.worker", "finetune"),
    "probe": (sys.executable, "-m", "rankviz.worker", "probe"),
}
OUT_OF_MEMORY = (
    "Out of memory: this server allows a training at most {}, and this one took more. Use a smaller batch, a shorter "
    "max_length, shorter rows or a smaller base."
)


class Slot(NamedTuple):
    """A GPU or the CPU as a place for one worker, with the worker's environment variables."""

    number: int
    where: str
    environment: Mapping[str, str]


class Local(Engine):
    """Engine for worker processes of this machine.

    Args:
        home: The runs folder.
        commands: Command that starts a worker, by kind; HOME and attempts are appended.
        grace_seconds: Seconds between asking a worker to end and killing it.
        most_gpus: Number of GPUs to use, at most; None for all usable ones (machine.cards.usable).
        gpus: GPUs as in CUDA_VISIBLE_DEVICES, instead of the GPUs that the driver reports.
        niceness: Added to this process's niceness for a worker.
        memory_bytes: Bytes of main memory for all workers together, in equal parts; a worker above its part is
            killed, and its run is not tried again.
    """

    name = LOCAL
    title = "This machine"
    shares_disk = True
    divides = True

    def __init__(
        self,
        home: Path,
        *,
        commands: Mapping[Kind, Sequence[str]] = COMMANDS,
        grace_seconds: float = 2.0,
        most_gpus: int | None = None,
        gpus: Sequence[str] = (),
        niceness: int = 0,
        memory_bytes: float = math.inf,
    ):
        self._home, self._commands, self._grace_seconds = home, commands, grace_seconds
        self._most_gpus, self._gpus = most_gpus, tuple(gpus)
        self._niceness, self._memory_bytes = niceness, memory_bytes
        self._workers: dict[Path, process.Worker] = {}
        self._lost_at: dict[int, float] = {}
        """Time of the last lost worker, by slot number. Free slots that lost none, or long ago, are used first."""

    def room(self) -> int:
        return len(self._free())

    def start(self, job: Job) -> Live | None:
        slot = min(self._free(), key=lambda each: self._lost_at.get(each.number, 0.0))
        worker = process.launch(
            self._commands[job.kind],
            home=self._home,
            attempts=job.attempts,
            log=self._home / "runs" / job.attempts[0].run_id / "worker.log",
            slot=slot.number,
            environment=slot.environment or cards.worker_environment(),
            niceness=self._niceness,
        )
        if worker is None:
            return None
        self._workers[worker.lock] = worker
        return self._live(worker)

    def live(self) -> Sequence[Live]:
        known = [process.lock_file(self._home, slot.number) for slot in self._slots]
        for lock in {*known, *self._home.glob("worker-*.lock")} - self._workers.keys():
            if worker := process.find(lock):
                self._workers[lock] = worker
        return [self._live(self._workers[lock]) for lock in sorted(self._workers)]

    def cancel(self, live: Live) -> End:
        exit_code = self._worker(live).end(self._grace_seconds)
        return End(exit_code, why=process.describe_exit(exit_code))

    def forget(self, live: Live) -> None:
        worker = self._worker(live)
        del self._workers[worker.lock]
        number = next((slot.number for slot in self._slots if worker.lock == self._lock_of(slot)), 0)
        self._lost_at.pop(number, None)
        if live.end is not None and live.end.lost:
            self._lost_at[number] = time.monotonic()

    def release(self) -> None:
        self._workers.clear()

    @cached_property
    def _slots(self) -> Sequence[Slot]:
        """Places for workers. A single reported GPU, or the CPU, gets its variables when a worker starts."""
        if self._gpus:
            places = [(f"GPU {gpu}", {cards.ORDER: cards.PCI, cards.VISIBLE: gpu}) for gpu in self._gpus]
        else:
            usable = cards.usable(cards.read_driver())
            places = [(card.uuid if card.index is None else f"GPU {card.index}", cards.only(card)) for card in usable]
        places = places[: self._most_gpus]
        if len(places) < 2:
            where = places[0][0] if places else "this machine"
            return [Slot(0, where, places[0][1] if self._gpus else {})]
        return [
            Slot(number, where, environment | _own_cache(number)) for number, (where, environment) in enumerate(places)
        ]

    def _lock_of(self, slot: Slot) -> Path:
        return process.lock_file(self._home, slot.number)

    def _free(self) -> Sequence[Slot]:
        return [slot for slot in self._slots if self._lock_of(slot) not in self._workers]

    def _worker(self, live: Live) -> process.Worker:
        return next(worker for worker in self._workers.values() if worker.attempts == live.job.attempts)

    def _live(self, worker: process.Worker) -> Live:
        if self._memory_bytes < math.inf:
            worker.end_at(self._memory_bytes / len(self._slots))
        return Live(
            job=Job(attempts=worker.attempts),
            handle=str(worker.pid),
            where=next((slot.where for slot in self._slots if worker.lock == self._lock_of(slot)), ""),
            end=None if worker.alive() else self._end(worker),
        )

    def _end(self, worker: process.Worker) -> End | None:
        """End all remaining processes of a worker and return how it ended; None until they are gone."""
        try:
            exit_code = worker.end(self._grace_seconds)
        except EngineUnavailableError:
            return None
        if worker.took_bytes:
            return End(exit_code, why=OUT_OF_MEMORY.format(units.memory_size(self._memory_bytes / len(self._slots))))
        lost = exit_code is None or exit_code < 0 or exit_code == GPU_LOST
        return End(exit_code, lost=lost, why=process.describe_exit(exit_code))


def _own_cache(number: int) -> dict[str, str]:
    """Return the variable that gives each slot but the first its own folder for Unsloth's compiled modules."""
    name = "UNSLOTH_COMPILE_LOCATION"
    return {name: f"{os.environ.get(name) or 'unsloth_compiled_cache'}-{number}"} if number else {}
