"""Worker processes: launch one with all that it starts, check that it lives, end it.

A worker leads its own session, so that its whole process group can be ended at once and closing a terminal does not
end it. A worker is alive while its flock on a file of HOME is held (worker.lock; with several GPUs, worker-1.lock and
so on too): it inherits the file descriptor, so the lock lasts as long as any process that holds it, even without the
supervisor that launched it. The file contains, as JSON, the leader's process id and the worker's attempts.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import psutil

from rankviz import children
from rankviz.core.runs.events import GPU_LOST, Attempt
from rankviz.errors import EngineUnavailableError
from rankviz.paths import IMPORT_ROOT

NO_VARIABLES: Mapping[str, str] = MappingProxyType({})
PR_SET_PDEATHSIG = 1
PATIENCE_SECONDS = 1.0
"""Seconds to wait for a killed worker to end."""
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
    """A live worker, launched by this process, or found by a later supervisor (then `popen` is None)."""

    lock: Path
    attempts: tuple[Attempt, ...]
    pid: int
    popen: subprocess.Popen | None = None
    took_bytes: int = 0
    """Bytes of memory that the worker used when it was killed for using too much; 0 otherwise."""
    was_killed: bool = False

    def alive(self) -> bool:
        if self.popen is not None:
            # Never polled here: unwaited for it stays a zombie, which keeps its pid, and so its group's, from being
            # given to a stranger until `end` has ended the group.
            return self.popen.returncode is None and _lives(self.popen.pid)
        return is_held(self.lock) and _lives(self.pid)

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
        pids = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
                if os.getpgid(process.pid) == self.pid:
                    pids.add(process.pid)
        with contextlib.suppress(psutil.Error):
            pids |= {each.pid for each in psutil.Process(self.pid).children(recursive=True)}
        return pids - {os.getpid()}


def launch(
    command: Sequence[str],
    *,
    home: Path,
    attempts: Sequence[Attempt],
    log: Path,
    slot: int = 0,
    environment: Mapping[str, str] = NO_VARIABLES,
    niceness: int = 0,
) -> Worker | None:
    """Start `command HOME RUN_ID@ATTEMPT...` in HOME, with its output appended to `log`; None where some process still
    holds the lock, as a worker's threads do for a moment after its leader has ended. Raise OSError where the start
    fails.

    Args:
        slot: Number of the worker on this machine, which is part of the lock's name.
        environment: Additional environment variables.
        niceness: Added to this process's niceness.
    """
    lock = lock_file(home, slot)
    texts = [str(attempt) for attempt in attempts]
    variables = {**children.environment(children.TRAINING), **environment, "PYTHONUNBUFFERED": "1"}
    variables["PYTHONPATH"] = os.pathsep.join([str(IMPORT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        os.ftruncate(fd, 0)  # who finds the lock before this is written again finds no other process
        with log.open("ab") as output:
            popen = subprocess.Popen(
                [*command, str(home), *texts],
                cwd=home,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(fd,),
            )
        os.pwrite(fd, json.dumps({"pid": popen.pid, "run_ids": texts}).encode(), 0)
        nice = min(19, os.getpriority(os.PRIO_PROCESS, 0) + niceness)
        with contextlib.suppress(OSError):  # when memory runs out, this one is killed, and not the app
            Path(f"/proc/{popen.pid}/oom_score_adj").write_text("500")
        with contextlib.suppress(OSError):  # some kernels share processors among sessions
            os.setpriority(os.PRIO_PROCESS, popen.pid, nice)
            Path(f"/proc/{popen.pid}/autogroup").write_text(str(nice))
    finally:
        os.close(fd)
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
                is_leader = each.pid == os.getpgid(each.pid) != os.getpgid(0)
                if is_leader and any(file.path == str(lock) for file in each.open_files()):
                    os.killpg(each.pid, signal.SIGKILL)
        return None
    return Worker(lock=lock, attempts=tuple(map(Attempt.parse, content["run_ids"])), pid=content["pid"])


def lock_file(home: Path, slot: int = 0) -> Path:
    return home / (f"worker-{slot}.lock" if slot else "worker.lock")


def is_held(lock: Path) -> bool:
    """Return True where some process holds the lock."""
    try:
        fd = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def describe_exit(exit_code: int | None) -> str:
    """Return a sentence that explains an exit code and says what to do next."""
    if exit_code is None:
        return "The worker stopped, and nobody saw how; the end of its log shows what it did last."
    if exit_code == -signal.SIGKILL:
        return KILLED
    if exit_code < 0:
        return f"The worker was ended by {signal.Signals(-exit_code).name}; the end of its log says what it did last."
    if exit_code == GPU_LOST:
        return "The GPU failed, and its worker with it. Run `rankviz doctor`, and look for Xid errors of the driver."
    if exit_code == 0:
        return "The worker stopped before this run was done; the end of its log says what it did last."
    return f"The worker stopped with exit code {exit_code}; the end of its log says why."


def from_shell(code: int) -> int:
    """Convert a shell's exit code (128 + signal) to Python's (-signal)."""
    return 128 - code if code - 128 in frozenset(signal.Signals) else code


def die_with_parent() -> None:
    """Have the kernel kill the calling process when its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _signal(number: signal.Signals, processes: set[int]) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


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
