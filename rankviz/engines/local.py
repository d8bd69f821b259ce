"""The local engine: worker processes on this machine, one a GPU, or one on the CPU.

Its workers write into the store's own run folders. Which live is told by their locks (process.py), so that a
restarted app finds them, also where it was killed.
"""

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from rankviz import units
from rankviz.core.runs.events import GPU_LOST, LOCAL
from rankviz.engines import process
from rankviz.engines.engine import End, Engine, Job, Kind, Live
from rankviz.errors import EngineEndingError
from rankviz.machine import cards

COMMANDS: Mapping[Kind, Sequence[str]] = {
    "finetune": (sys.executable, "-m", "rankviz.worker", "finetune"),
    "probe": (sys.executable, "-m", "rankviz.worker", "probe"),
}


OUT_OF_MEMORY = (
    "Out of memory: this server allows a training at most {}, and this one took more. Use a smaller batch, a shorter "
    "max_length, shorter rows or a smaller base."
)
PATIENCE_SECONDS = 1.0
"""So long a killed worker is waited for."""
MOST_REST_SECONDS = 300.0


class Slot(NamedTuple):
    """A place for one worker."""

    number: int
    where: str
    environment: Mapping[str, str]


class Rest(NamedTuple):
    """A place that has lost a worker is left alone for a while."""

    seconds: float
    until: float
    """By the monotonic clock."""

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until

    def is_sound(self, distrust_seconds: float) -> bool:
        """Whether the last worker was lost so long ago."""
        return time.monotonic() >= self.until - self.seconds + distrust_seconds

    def another(self, first_seconds: float) -> "Rest":
        """After one more worker was lost."""
        seconds = min(max(first_seconds, 2 * self.seconds), MOST_REST_SECONDS)
        return Rest(seconds, time.monotonic() + seconds)


NO_REST = Rest(0.0, -math.inf)


class Local(Engine):
    """Workers of this machine.

    Args:
        home: The runs folder.
        commands: What starts a worker, by kind; each is given HOME and attempts.
        grace_seconds: A worker that has not ended so long after it was asked to is killed.
        most_gpus: Of several GPUs so many are used; None is all that fit (machine.cards.usable).
        gpus: Their names as CUDA_VISIBLE_DEVICES has them, instead of those that the driver reports.
        niceness: How far the priority of a worker is below that of this process.
        memory_bytes: What all workers together may take of this machine's memory, each an equal part; one that takes
            more is ended, and its run is not tried again.
        rest_seconds: Of several GPUs, one whose worker was lost is given no other for so long, twice as long each time
            that happens again, so that the others get the work.
        distrust_seconds: Nor is it given a run that was lost for so long after its last loss, or until a worker there
            ends well, as long as another one is sound.
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
        rest_seconds: float = 10.0,
        distrust_seconds: float = 600.0,
    ):
        self._home = home
        self._commands = commands
        self._grace_seconds = grace_seconds
        self._most_gpus = most_gpus
        self._gpus = tuple(gpus)
        self._niceness = niceness
        self._memory_bytes = memory_bytes
        self._rest_seconds = rest_seconds
        self._distrust_seconds = distrust_seconds
        self._workers: dict[Path, process.Worker] = {}
        self._rests: dict[Path, Rest] = {}

    def room(self) -> int:
        return len(self._free())

    def sound_room(self) -> int:
        free = self._free()
        if not any(self._is_sound(slot) for slot in self._slots):
            return len(free)
        return sum(self._is_sound(slot) for slot in free)

    def start(self, job: Job) -> Live | None:
        slot = self._free()[0]
        log = self._home / "runs" / job.attempts[0].run_id / "worker.log"
        process.yield_file(self._home, slot.number).unlink(missing_ok=True)
        worker = process.launch(
            self._commands[job.kind],
            home=self._home,
            attempts=job.attempts,
            log=log,
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
                worker.resume()  # an app that was killed while it decided whether to end it has stopped it
                self._workers[lock] = worker
        return [self._live(self._workers[lock]) for lock in sorted(self._workers)]

    def cancel(self, live: Live, unless: Callable[[], bool] = lambda: False) -> End | None:
        worker = self._worker(live)
        if not worker.look_again and not _stopped_unless(worker, unless):
            return None
        exit_code = worker.end(self._grace_seconds, PATIENCE_SECONDS)
        return End(exit_code, why=process.describe_exit(exit_code))

    def give_way(self, live: Live) -> None:
        self._yield_file(self._worker(live)).touch()

    def forget(self, live: Live) -> None:
        lock = self._worker(live).lock
        del self._workers[lock]
        if live.end is not None and not live.end.lost:
            self._rests.pop(lock, None)
        elif live.end is not None and len(self._slots) > 1:
            self._rests[lock] = rest = self._rest(lock).another(self._rest_seconds)
            logging.getLogger(__name__).warning(
                "%s has lost its worker and rests for %g s. %s", live.where, rest.seconds, live.end.why
            )

    def release(self) -> None:
        self._workers.clear()

    @cached_property
    def _slots(self) -> Sequence[Slot]:
        """Where there is one GPU, or none that the driver reports, its variables are found anew for each worker."""
        if self._gpus:
            places = [(f"GPU {gpu}", {cards.ORDER: cards.PCI, cards.VISIBLE: gpu}) for gpu in self._gpus]
        else:
            usable = cards.usable(cards.read_driver())
            places = [(_label(card), cards.only(card)) for card in usable]
        places = places[: self._most_gpus]
        if len(places) < 2:
            where = places[0][0] if places else "this machine"
            return [Slot(0, where, places[0][1] if self._gpus else {})]
        return [
            Slot(number, where, environment | _own_cache(number)) for number, (where, environment) in enumerate(places)
        ]

    def _free(self) -> Sequence[Slot]:
        """Sound ones first, and of them those that lost fewer workers."""
        locks = {process.lock_file(self._home, slot.number): slot for slot in self._slots}
        free = [lock for lock in locks if lock not in self._workers and self._rest(lock).is_over]
        free.sort(key=lambda lock: (not self._is_sound(locks[lock]), self._rest(lock).seconds))
        return [locks[lock] for lock in free]

    def _is_sound(self, slot: Slot) -> bool:
        """Whether it neither lost its last worker lately nor has one that cannot be killed."""
        lock = process.lock_file(self._home, slot.number)
        worker = self._workers.get(lock)
        return self._rest(lock).is_sound(self._distrust_seconds) and not (worker and worker.look_again)

    def _rest(self, lock: Path) -> Rest:
        return self._rests.get(lock, NO_REST)

    def _worker(self, live: Live) -> process.Worker:
        return next(worker for worker in self._workers.values() if worker.attempts == live.job.attempts)

    @property
    def _most_bytes(self) -> float:
        """Of one worker."""
        return self._memory_bytes / len(self._slots)

    def _live(self, worker: process.Worker) -> Live:
        if self._memory_bytes < math.inf and worker.pid is not None:
            worker.end_at(self._most_bytes)
        by_lock = {process.lock_file(self._home, slot.number): slot.where for slot in self._slots}
        return Live(
            job=Job(attempts=worker.attempts),
            handle="" if worker.pid is None else str(worker.pid),
            where=by_lock.get(worker.lock, ""),
            end=None if worker.alive() else self._end(worker),
        )

    def _end(self, worker: process.Worker) -> End | None:
        """What is left of it is ended too; None until that has gone."""
        try:
            exit_code = worker.end(self._grace_seconds, PATIENCE_SECONDS)
        except EngineEndingError:
            return None
        if worker.took_bytes:
            return End(exit_code, why=OUT_OF_MEMORY.format(units.memory_size(self._most_bytes)))
        return End(
            exit_code,
            lost=exit_code is None or exit_code < 0 or exit_code == GPU_LOST,
            why=process.describe_exit(exit_code),
            gave_way=exit_code == 0 and self._yield_file(worker).exists(),
        )

    def _yield_file(self, worker: process.Worker) -> Path:
        return self._home / worker.lock.name.replace(".lock", ".yield")


def _stopped_unless(worker: process.Worker, needless: Callable[[], bool]) -> bool:
    """Whether a worker was stopped where it stands and is to be ended."""
    worker.pause()
    is_needless = True
    try:
        is_needless = needless()
    finally:
        if is_needless:
            worker.resume()
    return not is_needless


def _label(card: cards.Card) -> str:
    return card.uuid if card.index is None else f"GPU {card.index}"


def _own_cache(number: int) -> dict[str, str]:
    """Unsloth writes compiled modules into the working directory, which workers share."""
    name = "UNSLOTH_COMPILE_LOCATION"
    return {name: f"{os.environ.get(name) or 'unsloth_compiled_cache'}-{number}"} if number else {}
