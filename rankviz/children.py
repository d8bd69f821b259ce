"""Bounded child processes for what comes from outside (models, adapters, data, imports), and the line before them.

A request that waits keeps a thread of the page, so a line is short, and who finds no place in it is refused at once.
"""

import contextlib
import fcntl
import json
import math
import os
import re
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
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Condition, Thread
from typing import Any, NamedTuple

from rankviz import errors, visitor
from rankviz.errors import (
    BusyError,
    HubUnavailableError,
    RankVizError,
    UserError,
    WorkerError,
    after_first_word,
    redacted,
)
from rankviz.paths import IMPORT_ROOT

MAX_WAITING = 8
MAX_OF_A_VISITOR = 4
"""Requests of one visitor that are in or wait, so that nobody takes all places."""


class FairLine:
    """A line before what only a few may do at once. The visitor with the fewest requests in goes first, then the one
    served longest ago.

    Args:
        at_once: Requests that are in.
        busy: Message for a request that is refused.
        seconds: Longest wait.
        each: Requests of one visitor that are in; `at_once` by default.
        waiting: Requests that wait; None is no limit.
        of_a_visitor: Requests of one visitor that are in or wait; None is no limit.
    """

    def __init__(
        self,
        at_once: int,
        *,
        busy: str,
        seconds: float,
        each: int | None = None,
        waiting: int | None = MAX_WAITING,
        of_a_visitor: int | None = MAX_OF_A_VISITOR,
    ):
        self._at_once, self._busy, self._seconds = at_once, busy, seconds
        self._each, self._most_waiting, self._of_a_visitor = each or at_once, waiting, of_a_visitor
        self._changed = Condition()
        self._inside: list[str] = []
        self._waiting: dict[int, str] = {}
        """Visitors of the requests that wait, by their numbers, in their order."""
        self._numbers = count()
        self._served: dict[str, int] = {}

    @contextlib.contextmanager
    def turn(self, *, patient: bool = True) -> Iterator[None]:
        """Context within which this thread is in. BusyError where there is no place in the line, or the wait is too
        long; with `patient=False` where there would be any wait."""
        visitor_id = (visitor.current() or visitor.HOST).id
        with self._changed:
            mine = [*self._inside, *self._waiting.values()].count(visitor_id)
            if self._of_a_visitor is not None and mine >= self._of_a_visitor:
                raise BusyError(self._busy)
            number = next(self._numbers)
            self._waiting[number] = visitor_id
            try:
                is_full = self._most_waiting is not None and len(self._waiting) > self._most_waiting
                wait = self._seconds if patient and not is_full else 0
                if not self._changed.wait_for(lambda: self._next() == number, wait):
                    raise BusyError(self._busy)
                self._inside.append(visitor_id)
                self._served[visitor_id] = next(self._numbers)
            finally:
                del self._waiting[number]
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._inside.remove(visitor_id)
                here = {*self._inside, *self._waiting.values()}
                self._served = {name: at for name, at in self._served.items() if name in here}
                self._changed.notify_all()

    def _next(self) -> int | None:
        """Number of the request that may enter now."""
        inside = Counter(self._inside)
        able = [number for number, name in self._waiting.items() if inside[name] < self._each]
        if len(self._inside) >= self._at_once or not able:
            return None
        return min(able, key=lambda n: (inside[self._waiting[n]], self._served.get(self._waiting[n], -1)))

    @property
    def most(self) -> float:
        """The most requests that are in or wait, each of which keeps a thread."""
        return math.inf if self._most_waiting is None else self._at_once + self._most_waiting

    @property
    def length(self) -> int:
        """Number of requests that are in or wait."""
        return len(self._inside) + len(self._waiting)


CPU_SECONDS_PER_SECOND = 2
NICENESS = 10
LOG_TAIL = 2000
"""Characters of the child's log in an error."""
KEPT_BYTES = 4 * LOG_TAIL
"""Bytes of its log that are kept until it ends."""
VARIABLES = re.compile(
    r"PATH|HOME|USER|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|PYTHON\w+|VIRTUAL_ENV|CONDA_PREFIX|LD_LIBRARY_PATH|\w+_NUM_THREADS"
    r"|OMP_\w+|GOMP_\w+|MKL_\w+|CUDA_\w+|GRADIO_TEMP_DIR|SPACE_ID|RANKVIZ_\w+"
)
"""Environment variables of a child that reads what strangers wrote; no secrets."""
ASKING = re.compile(
    rf"{VARIABLES.pattern}|HF_\w+|HUGGING_?FACE_\w+|TRACKIO_\w+|XDG_CACHE_HOME|SSL_CERT_\w+|\w+_CA_BUNDLE|(?i:\w+_PROXY)"
)
"""Environment variables of a child that asks the Hub, as its owner where they have a token."""
TRAINING = re.compile(r".+", re.DOTALL)
"""Environment variables of a child that trains: drivers, compilers and libraries read names that nobody can list."""
SECRET = re.compile(
    r"(?!(HF_TOKEN|HUGGING_FACE_HUB_TOKEN|HF_HUB_DISABLE_IMPLICIT_TOKEN)$)"
    r".*((SECRET|PASSWORD|PASSWD|PASSPHRASE|KEY|CREDENTIAL)S?|TOKEN|_PAT|_PWD)",
    re.DOTALL | re.IGNORECASE,
)
"""Environment variables that no child gets. The Hub's token is none of them: bases may be fetched with it."""
MAX_ANSWER_BYTES = 200_000_000
MAX_FILE_BYTES = 70 * 10**9
"""Size of one file that a child writes: more than the largest adapter that is read."""


class Ended(NamedTuple):
    """How a child ended."""

    code: int
    output: bytes
    log: str
    stopped: str
    """Why RankViz stopped it, as the end of a sentence; empty where it ended by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Limits of one child."""

    seconds: float
    memory_bytes: int
    """Memory that it allocates, not the files that it maps."""
    answer_bytes: int = MAX_ANSWER_BYTES
    file_bytes: int = MAX_FILE_BYTES


def run(
    command: Sequence[str],
    bounds: Bounds,
    *,
    folder: Path | None = None,
    secret: str = "",
    variables: re.Pattern[str] = VARIABLES,
) -> Ended:
    """Run a command under bounds, whatever it does; returns its standard output and how it ended.

    folder: for its temporary files.
    secret: given on its standard input, so that it is in no file, argument or variable. Output and log come without it,
        and the log without any other token.
    variables: names of this process's environment variables that it gets.
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
            env=environment(variables) | ({"TMPDIR": str(folder)} if folder else {}),
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
        output = output.replace(secret.encode(), b"...")
    if len(log) == KEPT_BYTES:
        log = after_first_word(log)
    return Ended(child.returncode, output, redacted(log.decode(errors="replace"), secret)[-LOG_TAIL:], stopped)


def environment(variables: re.Pattern[str]) -> dict[str, str]:
    """Return this process's environment variables of these names, without secrets."""
    return {
        name: value for name, value in os.environ.items() if variables.fullmatch(name) and not SECRET.fullmatch(name)
    }


def _bound(pid: int, reads: int, bounds: Bounds) -> None:
    """Limit a child from outside, so that none can leave that out. One that has ended already needs no limits."""
    cpu = max(1, round(CPU_SECONDS_PER_SECOND * bounds.seconds))
    limits = {
        resource.RLIMIT_DATA: (bounds.memory_bytes, bounds.memory_bytes),
        # Five seconds between the signal that can be handled (SIGXCPU) and the one that cannot.
        resource.RLIMIT_CPU: (cpu, cpu + 5),
        resource.RLIMIT_FSIZE: (bounds.file_bytes, bounds.file_bytes),
        resource.RLIMIT_CORE: (0, 0),
    }
    with contextlib.suppress(ProcessLookupError):
        fcntl.fcntl(reads, fcntl.F_SETOWN, -pid)
        fcntl.fcntl(reads, fcntl.F_SETFL, fcntl.fcntl(reads, fcntl.F_GETFL) | os.O_ASYNC)
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
        for kind, limit in limits.items() if hasattr(resource, "prlimit") else ():  # Linux
            _, most = resource.prlimit(pid, kind)
            resource.prlimit(pid, kind, limit if most == resource.RLIM_INFINITY else tuple(min(most, n) for n in limit))


def _outputs(child: subprocess.Popen, bounds: Bounds) -> tuple[bytes, bytes, str]:
    """Read what a child prints until it ends: its output, the end of its log, and why it must be stopped."""
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
                break  # a grandchild holds its outputs open
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
            del log[:-KEPT_BYTES]
    child.wait()
    return bytes(out), bytes(log), ""


@contextlib.contextmanager
def _end_of(child: subprocess.Popen, poll: select.poll) -> Iterator[int]:
    """Yield a descriptor that becomes readable when the child ends."""
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


WORKER = (sys.executable, "-m", "rankviz.worker")
REQUEST = "request.json"
FAILED_SECONDS = 600
"""Time for which a content that could not be read is not tried again."""
MAX_FAILED = 256
NO_MEMORY = re.compile(r"MemoryError|bad_alloc|allocate memory")
"""Found in the log of a child that could get no memory."""


class ChildWords(NamedTuple):
    """The work of children, in the words of their errors."""

    does: str = "reads"
    doing: str = "Reading"
    busy: str = (
        "reads at most {at_once} at once of adapters, data files, imports and large sweeps, and is busy with others"
    )
    advice: str = "check what is in it"

    def is_busy(self, at_once: int) -> str:
        """Return the message for who finds no place."""
        return f"This server {self.busy.format(at_once=at_once)}. Try again in a minute."


READING = ChildWords()


class Children:
    """The children of one server that do one kind of work.

    Args:
        bounds: Limits of each.
        folder: Makes a folder for one child, and removes it.
        worker: Command, without the operation and its folder.
        work: The work, in words.
        line: The line before them; by default one runs at a time.
        variables: Environment variables that each gets, as in `run`.
    """

    def __init__(
        self,
        bounds: Bounds,
        folder: Callable[[], AbstractContextManager[str | Path]] = lambda: TemporaryDirectory(prefix="rankviz-"),
        worker: Sequence[str] = WORKER,
        work: ChildWords = READING,
        line: FairLine | None = None,
        variables: re.Pattern[str] = VARIABLES,
        failed_seconds: float = FAILED_SECONDS,
    ):
        self.bounds, self.folder = bounds, folder
        self.line = line or FairLine(1, busy=work.is_busy(1), seconds=bounds.seconds)
        self._worker, self._work, self._variables, self._failed_seconds = worker, work, variables, failed_seconds
        self._failed: OrderedDict[str, tuple[float, RankVizError]] = OrderedDict()

    @contextlib.contextmanager
    def turn(self, key: str = "", *, patient: bool = True) -> Iterator[None]:
        """Context within which this thread may run a child. BusyError as for FairLine.turn.

        key: identifies the content that will be read. Where it failed a while ago, its error is raised at once.
        """
        self._raise_known(key)
        with self.line.turn(patient=patient):
            self._raise_known(key)  # it may have failed while this one waited
            yield

    def _raise_known(self, key: str) -> None:
        since, failure = self._failed.get(key, (0.0, None))
        if failure is not None and time.monotonic() - since < self._failed_seconds:
            raise failure.with_traceback(None)

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
        """Return the answer of one of the worker's operations, within a turn.

        Args:
            operation: Name for `python -m rankviz.worker`.
            request: Its arguments, as JSON.
            about: What is read, as in "Reading mine.zip took too long".
            error: Raised where a bound is reached.
            key: As for `turn`.
            secret: Given on the child's standard input.
        """
        self._raise_known(key)
        try:
            with self.folder() as folder:
                (Path(folder) / REQUEST).write_text(json.dumps(request), encoding="utf-8")
                command = [*self._worker, operation, str(folder)]
                ended = run(command, self.bounds, folder=Path(folder), secret=secret, variables=self._variables)
                # Within the block, so that who gave the folder can say what its disk has refused.
                return answer(ended, about=about, error=error, work=self._work)
        except (UserError, WorkerError, HubUnavailableError) as failure:
            if key:
                self._failed[key] = time.monotonic(), failure
                while len(self._failed) > MAX_FAILED:
                    self._failed.popitem(last=False)
            raise


def answer(ended: Ended, *, about: str, error: type[RankVizError], work: ChildWords = READING) -> Any:
    """Return the result that a child printed. Raises what it raised, `error` where a bound was reached, WorkerError
    where it died for another reason."""
    if ended.stopped:
        raise error(f"{work.doing} {about} {ended.stopped}, so RankViz stopped: {work.advice}.")
    try:
        reply = json.loads(ended.output)
    except ValueError:
        reply = None
    if not isinstance(reply, dict) or ended.code not in (0, 2):
        may_be_memory = ended.code == -signal.SIGKILL or NO_MEMORY.search(ended.log)
        raise WorkerError(
            f"The process that {work.does} {about} ended with code {ended.code} and no answer"
            f"{': it may have run out of memory' if may_be_memory else ''}.",
            exit_code=ended.code,
            log_tail=ended.log,
        )
    if ended.code == 2:
        raise remade(reply["error"], reply["message"], otherwise=error)
    return reply


def remade(name: str, message: str, *, otherwise: type[RankVizError]) -> RankVizError:
    """Return an error that a child raised, by the name of its class; another name gives `otherwise`."""
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, RankVizError)):
        kind = otherwise
    raised = kind.__new__(kind)
    RankVizError.__init__(raised, message)
    return raised
