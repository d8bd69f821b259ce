"""Bounded child processes, for everything that reads what comes from outside: models, adapters, data, imports.

A child has limits of memory, processor time, time and output, a low priority and a process group of its own, which
ends with it, and with this process, however that ends. Only a few run at once; a few more may wait.
"""

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Condition, Thread
from typing import Any, NamedTuple

from rankviz import errors, visitor
from rankviz.errors import LimitError, RankVizError, UserError, WorkerError
from rankviz.paths import IMPORT_ROOT

WORKER = (sys.executable, "-m", "rankviz.worker")
REQUEST = "request.json"
CPU_SECONDS_PER_SECOND = 2
NICENESS = 10
LOG_TAIL = 2000
"""Characters of the child's log in an error."""
MAX_ANSWER_BYTES = 200_000_000
MAX_FILE_BYTES = 70 * 10**9
"""Of one file that a child writes: more than the largest adapter that is read."""
MAX_WAITING = 8
MAX_OF_A_VISITOR = 4
"""Running and waiting, so that nobody takes all places."""
FAILED_SECONDS = 600
"""How long what could not be read is not tried again."""
MAX_FAILED = 256


class Work(NamedTuple):
    """What children do, as their errors say it."""

    does: str = "reads"
    doing: str = "Reading"
    busy: str = "reads at most {at_once} at once of models, adapters, data files and imports, and is busy with others"
    advice: str = "check what is in it"


READING = Work()


class Ended(NamedTuple):
    """How a child ended."""

    code: int
    output: bytes
    log: str
    stopped: str
    """Why RankViz stopped it, as the end of a sentence; empty where it ended by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Of one child."""

    seconds: float
    memory_bytes: int
    """Of data: what it allocates, not the files that it maps."""
    answer_bytes: int = MAX_ANSWER_BYTES
    file_bytes: int = MAX_FILE_BYTES


def run(command: Sequence[str], bounds: Bounds, *, folder: Path | None = None, secret: str = "") -> Ended:
    """The command's standard output and end, under bounds, whatever it does.

    folder: where its temporary files go.
    secret: waits on its standard input, so that it is in no file, no argument and no variable. What the child prints
        is returned without it.
    """
    # The end of this pipe that nobody writes to closes when this process ends. The kernel then signals the child's
    # whole group, whether or not any of it looks: SIGIO ends a process that does not handle it.
    reads, lives = os.pipe()
    os.write(lives, secret.encode())  # before anybody is told of what arrives: that would end the child
    try:
        child = subprocess.Popen(
            command,
            stdin=reads,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=IMPORT_ROOT,
            env={**os.environ, **({"TMPDIR": str(folder)} if folder else {})},
            start_new_session=True,
        )
        try:
            _bound(child.pid, reads, bounds)
            output, log, stopped = _outputs(child, bounds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            child.stdout.close()
            child.stderr.close()
    finally:
        os.close(reads)
        os.close(lives)
    if child.returncode == -signal.SIGXCPU:
        stopped = "used too much processor time"
    if secret:
        output, log = (text.replace(secret.encode(), b"...") for text in (output, log))
    return Ended(child.returncode, output, log.decode(errors="replace")[-LOG_TAIL:], stopped)


def _bound(pid: int, reads: int, bounds: Bounds) -> None:
    """From outside, so that no child can leave them out. One that has ended already needs none."""
    cpu = max(1, round(CPU_SECONDS_PER_SECOND * bounds.seconds))
    limits = {
        resource.RLIMIT_DATA: (bounds.memory_bytes, bounds.memory_bytes),
        # Five seconds between the signal that says so (SIGXCPU) and the one that does not ask.
        resource.RLIMIT_CPU: (cpu, cpu + 5),
        resource.RLIMIT_FSIZE: (bounds.file_bytes, bounds.file_bytes),
        resource.RLIMIT_CORE: (0, 0),
    }
    with contextlib.suppress(ProcessLookupError):
        fcntl.fcntl(reads, fcntl.F_SETOWN, -pid)
        fcntl.fcntl(reads, fcntl.F_SETFL, fcntl.fcntl(reads, fcntl.F_GETFL) | os.O_ASYNC)
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
        for kind, limit in limits.items():
            if hasattr(resource, "prlimit"):  # Linux
                _, most = resource.prlimit(pid, kind)
                resource.prlimit(
                    pid, kind, limit if most == resource.RLIM_INFINITY else tuple(min(most, n) for n in limit)
                )


def _outputs(child: subprocess.Popen, bounds: Bounds) -> tuple[bytes, bytes, str]:
    """What it prints until it ends, of the log only the end; and why it must be stopped."""
    deadline = time.monotonic() + bounds.seconds
    out, log = bytearray(), bytearray()
    held = {child.stdout.fileno(): out, child.stderr.fileno(): log}
    poll = select.poll()
    for fd in held:
        poll.register(fd, select.POLLIN)
    with _end_of(child, poll) as end:
        has_ended = False
        while held or not has_ended:
            left = 0.0 if has_ended else deadline - time.monotonic()
            if left <= 0 and not has_ended:
                return bytes(out), bytes(log), f"took more than {bounds.seconds:g} s"
            events = poll.poll(left * 1000)
            if has_ended and not events:
                break  # something that it has started holds its outputs open
            for fd, _ in events:
                if fd == end:
                    has_ended = True
                    poll.unregister(fd)
                elif data := os.read(fd, 2**16):
                    held[fd] += data
                else:
                    poll.unregister(fd)
                    del held[fd]
            if len(out) > bounds.answer_bytes:
                return b"", bytes(log), f"gave more than {bounds.answer_bytes / 1e6:,.0f} MB"
            del log[: -4 * LOG_TAIL]
    child.wait()
    return bytes(out), bytes(log), ""


@contextlib.contextmanager
def _end_of(child: subprocess.Popen, poll: select.poll) -> Iterator[int]:
    """What becomes readable when the child ends."""
    if hasattr(os, "pidfd_open"):
        end = os.pidfd_open(child.pid)
    else:  # not Linux: a thread waits for it
        end, ends = os.pipe()
        Thread(target=lambda: (child.wait(), os.close(ends)), daemon=True).start()
    poll.register(end, select.POLLIN)
    try:
        yield end
    finally:
        os.close(end)


def _unshared() -> AbstractContextManager[str]:
    return TemporaryDirectory(prefix="rankviz-")


class Children:
    """The children of one server.

    Args:
        bounds: Of each.
        at_once: How many run.
        folder: Makes a folder for one child, and removes it.
        worker: What is run, but for the operation and its folder.
        work: What it does, in words.
    """

    def __init__(
        self,
        bounds: Bounds,
        at_once: int = 1,
        folder: Callable[[], AbstractContextManager[str | Path]] = _unshared,
        worker: Sequence[str] = WORKER,
        work: Work = READING,
    ):
        self.bounds = bounds
        self._at_once = at_once
        self._folder = folder
        self._worker = worker
        self._work = work
        self._failed: OrderedDict[str, tuple[float, RankVizError]] = OrderedDict()
        self._changed = Condition()
        self._running = 0
        self._of: Counter[str] = Counter()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Within it this thread may run a child. LimitError where too many wait, or none ends in time."""
        who = (visitor.current() or visitor.HOST).id
        with self._changed:
            if self._of[who] >= MAX_OF_A_VISITOR or self.busy >= self._at_once + MAX_WAITING:
                raise LimitError(self._busy())
            self._of[who] += 1
            try:
                if not self._changed.wait_for(lambda: self._running < self._at_once, self.bounds.seconds):
                    raise LimitError(self._busy())
            except BaseException:
                self._leave(who)
                raise
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._leave(who)
                self._changed.notify()

    @property
    def busy(self) -> int:
        """How many run or wait."""
        return self._of.total()

    def _leave(self, who: str) -> None:
        self._of[who] -= 1
        self._of += Counter()  # forgets those who have none

    def _busy(self) -> str:
        return f"This server {self._work.busy.format(at_once=self._at_once)}. Try again in a minute."

    def ask(
        self,
        operation: str,
        request: Mapping[str, Any],
        *,
        about: str,
        error: type[RankVizError],
        key: str = "",
        secret: str = "",
    ) -> Any:
        """The answer of one of the worker's operations, within a turn.

        Args:
            operation: Of `python -m rankviz.worker`.
            request: Its arguments, as JSON.
            about: What is read, as in "Reading mine.zip took too long".
            error: Raised where a bound is reached.
            key: Of the content that is read: a failure is not tried again for some minutes.
            secret: On the child's standard input.
        """
        key = key and f"{operation} {key}"
        since, failure = self._failed.get(key, (0.0, None))
        if failure is not None and time.monotonic() - since < FAILED_SECONDS:
            raise failure.with_traceback(None)
        try:
            with self._folder() as folder:
                (Path(folder) / REQUEST).write_text(json.dumps(request), encoding="utf-8")
                ended = run([*self._worker, operation, str(folder)], self.bounds, folder=Path(folder), secret=secret)
            return answer(ended, about=about, error=error, work=self._work)
        except (UserError, WorkerError) as failure:
            if key:
                self._failed[key] = time.monotonic(), failure
                while len(self._failed) > MAX_FAILED:
                    self._failed.popitem(last=False)
            raise


def answer(ended: Ended, *, about: str, error: type[RankVizError], work: Work = READING) -> Any:
    """The result that a child printed. Raises what it raised, `error` where a bound was reached, WorkerError where it
    died for another reason."""
    if ended.stopped:
        raise error(f"{work.doing} {about} {ended.stopped}, so RankViz stopped: {work.advice}.")
    try:
        reply = json.loads(ended.output)
    except ValueError:
        reply = None
    if not isinstance(reply, dict) or ended.code not in (0, 2):
        raise WorkerError(
            f"The process that {work.does} {about} ended with code {ended.code} and no answer: "
            "it may have run out of memory.",
            exit_code=ended.code,
            log_tail=ended.log,
        )
    if ended.code == 2:
        raise remade(reply["error"], reply["message"], otherwise=error)
    return reply


def remade(name: str, message: str, *, otherwise: type[RankVizError]) -> RankVizError:
    """An error that a child raised."""
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, RankVizError)):
        kind = otherwise
    raised = kind.__new__(kind)
    Exception.__init__(raised, message)
    return raised
