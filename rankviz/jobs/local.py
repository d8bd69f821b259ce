"""The local engine: worker processes on this machine, one per GPU, or one on the CPU.

A worker writes into the store's own run folders. It leads its own session, so that its whole process group can be ended
at once and closing a terminal does not end it. It is alive while its flock on a file of HOME is held (worker.lock; with
several GPUs, worker-1.lock and so on too). It inherits the file descriptor, so a restarted app finds its workers. The
file contains, as JSON, the leader's process id and the worker's attempts.
"""

import contextlib
import fcntl
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import psutil

from rankviz import children, units
from rankviz.core.runs.events import GPU_LOST, LOCAL, Attempt
from rankviz.errors import EngineUnavailableError
from rankviz.jobs.engine import End, Engine, Job, Kind, Live
from rankviz.machine import cards
from rankviz.paths import IMPORT_ROOT

COMMANDS: Mapping[Kind, Sequence[str]] = {
    "finetune": (sys.executable, "-m", "rankviz.worker", "finetune"),
    "probe": (sys.executable, "-m", "rankviz.worker", "probe"),
}
CACHE = "UNSLOTH_COMPILE_LOCATION"
"""Environment variable with the folder for Unsloth's compiled modules."""
PATIENCE_SECONDS = 1.0
"""Seconds to wait for a killed worker to end."""
OUT_OF_MEMORY = (
    "Out of memory: this server allows a training at most {}, and this one took more. Use a smaller batch, a shorter "
    "max_length, shorter rows or a smaller base."
)
UNKILLED = (
    "The worker has been killed and has not ended yet: it may wait for a driver or a disk. Its place stays taken until "
    "it has."
)
KILLED = (
    "The worker was killed (SIGKILL), most likely because the machine ran out of memory. Choose a smaller batch, a "
    "shorter max_length or a smaller base."
)


@dataclass(slots=True)
class Worker:
    """A live worker. popen: None where an earlier supervisor launched the worker, and this process found it."""

    lock: Path
    attempts: tuple[Attempt, ...]
    pid: int
    popen: subprocess.Popen | None = None
    took_bytes: int = 0
    """Bytes of memory that the worker used when it was killed for using too much; 0 otherwise."""
    was_killed: bool = False

    def alive(self) -> bool:
        """Return True while the worker's first process, the leader, lives. An ended leader is not waited for until
        `end` has ended its process group: as a zombie it keeps its process id from being given to another process."""
        return _lives(self.pid) and (is_held(self.lock) if self.popen is None else self.popen.returncode is None)

    def end_at(self, most_bytes: float) -> None:
        """Kill all processes of the worker where together they use more than `most_bytes` of main memory. Only
        resident memory of their own counts: neither mapped files nor unused reservations of a GPU driver."""
        processes = self._processes()
        # smaps_rollup is exact, and read only where that matters: it takes 9 ms of processor time for each GB.
        for file in ("status", "smaps_rollup"):
            took = sum(_own_bytes(pid, file) for pid in processes)
            if took <= most_bytes:
                return
        self.took_bytes = took
        _signal(signal.SIGKILL, processes)  # asked to end, they could go on taking

    def end(self, grace_seconds: float) -> int | None:
        """End all processes of the worker, and return the leader's exit code (None where not known). Raise
        EngineUnavailableError where one still exists a second after it was killed, as while it waits for a driver."""
        processes = self._processes()
        if not self.was_killed:
            _signal(signal.SIGTERM, processes)
            _signal(signal.SIGCONT, processes)  # a stopped process takes SIGTERM only once it goes on
        deadline = time.monotonic() + (0.0 if self.was_killed else grace_seconds)
        while any(map(_lives, processes)) and time.monotonic() < deadline + PATIENCE_SECONDS:
            if time.monotonic() > deadline:
                self.was_killed = True
                _signal(signal.SIGKILL, processes)
            time.sleep(0.02)
            processes |= self._processes()
        if any(map(_lives, processes)):
            raise EngineUnavailableError(UNKILLED)
        return self.popen.wait() if self.popen is not None else None

    def _processes(self) -> set[int]:
        """Return the ids of the process group, and of the leader's descendants that left the group."""
        pids = {pid for pid in psutil.pids() if _group(pid) == self.pid}
        with contextlib.suppress(psutil.Error):
            pids |= {each.pid for each in psutil.Process(self.pid).children(recursive=True)}
        return pids - {os.getpid()}


def launch(
    command: Sequence[str],
    lock: Path,
    attempts: Sequence[Attempt],
    log: Path,
    environment: Mapping[str, str] = MappingProxyType({}),
    niceness: int = 0,
) -> Worker | None:
    """Start `command HOME RUN_ID@ATTEMPT...` in HOME, the folder of `lock`, with its output appended to `log`; None
    where some process still holds the lock, as a worker's threads do for a moment after its leader has ended. Raise
    OSError where the start fails. environment: Additional variables. niceness: Added to this process's niceness."""
    home, texts = lock.parent, [str(attempt) for attempt in attempts]
    variables = {**children.environment(children.TRAINING_VARIABLES), **environment, "PYTHONUNBUFFERED": "1"}
    variables["PYTHONPATH"] = os.pathsep.join([str(IMPORT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with lock.open("a+b") as file, log.open("ab") as output:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        file.truncate(0)  # who finds the lock before this is written again finds no other process
        popen = subprocess.Popen(
            [*command, str(home), *texts],
            cwd=home,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(file.fileno(),),
        )
        file.write(json.dumps({"pid": popen.pid, "run_ids": texts}).encode())
        file.flush()
        nice = min(19, os.getpriority(os.PRIO_PROCESS, 0) + niceness)
        with contextlib.suppress(OSError):  # when memory runs out, this one is killed, and not the app
            Path(f"/proc/{popen.pid}/oom_score_adj").write_text("500")
        with contextlib.suppress(OSError):  # some kernels share processors among sessions
            os.setpriority(os.PRIO_PROCESS, popen.pid, nice)
            Path(f"/proc/{popen.pid}/autogroup").write_text(str(nice))
    return Worker(lock=lock, attempts=tuple(attempts), pid=popen.pid, popen=popen)


def find(lock: Path) -> Worker | None:
    """Return the live worker that an earlier supervisor launched with this lock; None where there is none. A worker
    whose supervisor was killed before it wrote the runs into the lock is killed."""
    if not is_held(lock):
        return None
    try:
        content = json.loads(lock.read_text())
    except ValueError:  # its app was killed before it wrote which runs the worker has: they are tried again
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                is_leader = each.pid == _group(each.pid) != os.getpgid(0)
                if is_leader and any(file.path == str(lock) for file in each.open_files()):
                    os.killpg(each.pid, signal.SIGKILL)
        return None
    return Worker(lock=lock, attempts=tuple(map(Attempt.parse, content["run_ids"])), pid=content["pid"])


def lock_file(home: Path, slot: int = 0) -> Path:
    """Return the path of a worker's lock."""
    return home / (f"worker-{slot}.lock" if slot else "worker.lock")


def is_held(lock: Path) -> bool:
    """Return True where any process holds the lock."""
    try:
        with lock.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@dataclass(eq=False)
class Local(Engine):
    """Engine for worker processes of this machine."""

    home: Path
    """The runs folder."""
    _: KW_ONLY
    commands: Mapping[Kind, Sequence[str]] = field(default_factory=lambda: COMMANDS)
    """Command that starts a worker, by kind; HOME and attempts are appended."""
    grace_seconds: float = 2.0
    """Seconds between asking a worker to end and killing it."""
    most_gpus: int | None = None
    """Number of GPUs to use, at most; None for all usable ones (machine.cards.usable)."""
    gpus: Sequence[str] = ()
    """GPUs to use, in the form of CUDA_VISIBLE_DEVICES; empty for the GPUs that the driver reports."""
    niceness: int = 0
    """Added to this process's niceness for a worker."""
    memory_bytes: float = math.inf
    """Bytes of main memory for all workers, in equal parts; a worker above its part is killed for good."""

    name = LOCAL
    title = "This machine"
    shares_disk = True
    divides = True

    def __post_init__(self) -> None:
        self._workers: dict[Path, Worker] = {}
        """Live workers by their lock."""
        self._ended: list[Path] = []
        """Locks of workers that have ended, the latest last. New jobs prefer other places, since a GPU may be lost."""

    def room(self) -> int:
        return len(self._slots.keys() - self._workers.keys())

    def start(self, job: Job) -> Live | None:
        free = [lock for lock in self._slots if lock not in self._workers]
        lock = min(free, key=lambda each: self._ended.index(each) if each in self._ended else -1)
        log, variables = self.home / "runs" / job.run_ids[0] / "worker.log", self._slots[lock][1]
        variables = variables or cards.worker_environment()
        worker = launch(self.commands[job.kind], lock, job.attempts, log, variables, self.niceness)
        if worker is None:
            return None
        self._workers[lock] = worker
        return self._live(worker)

    def live(self) -> Sequence[Live]:
        for lock in {*self._slots, *self.home.glob("worker-*.lock")} - self._workers.keys():
            if worker := find(lock):
                self._workers[lock] = worker
        return [self._live(self._workers[lock]) for lock in sorted(self._workers)]

    def cancel(self, live: Live) -> End:
        return end_by(self._worker(live).end(self.grace_seconds))

    def forget(self, live: Live) -> None:
        lock = self._worker(live).lock
        del self._workers[lock]
        self._ended = [each for each in self._ended if each != lock] + [lock]

    def release(self) -> None:
        self._workers.clear()

    @cached_property
    def _slots(self) -> Mapping[Path, tuple[str, Mapping[str, str]]]:
        """Place for display, such as "GPU 1", and environment variables of each worker that may run, by its lock. A
        single reported GPU, or the CPU, gets its variables when a worker starts."""
        if self.gpus:
            places = [(f"GPU {gpu}", {cards.ORDER: cards.PCI, cards.VISIBLE: gpu}) for gpu in self.gpus]
        else:
            usable = cards.usable(cards.read_driver())
            places = [(card.uuid if card.index is None else f"GPU {card.index}", cards.only(card)) for card in usable]
        places = places[: self.most_gpus]
        if len(places) < 2:
            where = places[0][0] if places else "this machine"
            return {lock_file(self.home): (where, places[0][1] if self.gpus else {})}
        slots = {}
        for number, (where, environment) in enumerate(places):
            if number:  # the first one keeps Unsloth's usual folder for compiled modules
                environment[CACHE] = f"{os.environ.get(CACHE) or 'unsloth_compiled_cache'}-{number}"
            slots[lock_file(self.home, number)] = where, environment
        return slots

    def _worker(self, live: Live) -> Worker:
        return next(worker for worker in self._workers.values() if worker.attempts == live.job.attempts)

    def _live(self, worker: Worker) -> Live:
        most, end = self.memory_bytes / len(self._slots), None
        if most < math.inf:
            worker.end_at(most)
        if not worker.alive():
            with contextlib.suppress(EngineUnavailableError):  # some of its processes are left
                end = end_by(worker.end(self.grace_seconds))
                if worker.took_bytes:
                    end = End(end.exit_code, why=OUT_OF_MEMORY.format(units.memory_size(most)))
        where = self._slots.get(worker.lock, ("", {}))[0]
        return Live(job=Job(attempts=worker.attempts), handle=str(worker.pid), where=where, end=end)


def end_by(exit_code: int | None) -> End:
    """Return how a job ended, from the exit code of its worker: negative for a signal, None where not known. A signal
    and GPU_LOST mean that the machine or its GPU failed, and not the run."""
    why = f"The worker stopped with exit code {exit_code}; the end of its log says why."
    if exit_code is None:
        why = "The worker stopped, and nobody saw how; the end of its log shows what it did last."
    elif exit_code == -signal.SIGKILL:
        why = KILLED
    elif exit_code < 0:
        why = f"The worker was ended by {signal.Signals(-exit_code).name}; the end of its log says what it did last."
    elif exit_code == GPU_LOST:
        why = "The GPU failed, and its worker with it. Run `rankviz doctor`, and look for Xid errors of the driver."
    elif exit_code == 0:
        why = "The worker stopped before this run was done; the end of its log says what it did last."
    return End(exit_code, lost=exit_code is None or exit_code < 0 or exit_code == GPU_LOST, why=why)


def from_shell(code: int) -> int:
    """Convert a shell's exit code (128 + signal) to Python's (-signal)."""
    return 128 - code if code - 128 in frozenset(signal.Signals) else code


def _signal(number: signal.Signals, processes: set[int]) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _group(pid: int) -> int | None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        return os.getpgid(pid)
    return None


def _lives(pid: int) -> bool:
    """Return True where a process exists and is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _own_bytes(pid: int, file: str) -> int:
    """Return the bytes of a process's anonymous and shared resident memory, without mapped files; 0 once it has ended.
    Pages shared by several processes count in part for /proc's smaps_rollup, and whole for status. Where the file has
    no such lines, return its resident memory less the shared part."""
    with contextlib.suppress(psutil.Error):
        with contextlib.suppress(OSError):
            kilobytes = re.findall(r"(?:Rss|Pss_)(?:Anon|Shmem):\s+(\d+) kB", Path(f"/proc/{pid}/{file}").read_text())
            if kilobytes:
                return 1024 * sum(map(int, kilobytes))
        memory = psutil.Process(pid).memory_info()
        return memory.rss - getattr(memory, "shared", 0)
    return 0
