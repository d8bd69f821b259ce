"""Runs child processes with limits that read untrusted files (models, adapters, data, imports), and their queue.

Each waiting request keeps a thread of the page, so a queue is short, and a request that finds it full fails at once.
"""

import contextlib
import fcntl
import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any, NamedTuple

from rankviz import errors, visitor
from rankviz.paths import IMPORT_ROOT

MAX_WAITING = 8
MAX_OF_A_VISITOR = 4
"""Most running and waiting requests of one visitor, so that no visitor takes all places."""


class FairLine:
    """A queue for work that only a few requests may do at once. The visitor with the fewest running requests goes
    first; among equals, the visitor whose last request started longest ago.

    Args:
        at_once: Most running requests.
        busy: Message for a request that is refused.
        seconds: Longest wait.
        each: Most running requests of one visitor; `at_once` by default.
        waiting: Most waiting requests; None for no limit.
        of_a_visitor: Most running and waiting requests of one visitor; None for no limit.
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
        self._changed = threading.Condition()
        self._inside: list[str] = []
        self._waiting: dict[int, str] = {}
        """Visitor id by the number of a waiting request, in order of arrival."""
        self._numbers = count()
        self._served: dict[str, int] = {}

    @contextlib.contextmanager
    def turn(self, *, patient: bool = True) -> Iterator[None]:
        """Run the block once this request has a place. Raise BusyError where the queue is full, the visitor has too
        many requests, or the wait is too long; with `patient=False` also where any wait is needed."""
        visitor_id = (visitor.current() or visitor.HOST).id
        with self._changed:
            mine = [*self._inside, *self._waiting.values()].count(visitor_id)
            if self._of_a_visitor is not None and mine >= self._of_a_visitor:
                raise errors.BusyError(self._busy)
            number = next(self._numbers)
            self._waiting[number] = visitor_id
            try:
                is_full = self._most_waiting is not None and len(self._waiting) > self._most_waiting
                wait = self._seconds if patient and not is_full else 0
                if not self._changed.wait_for(lambda: self._next() == number, wait):
                    raise errors.BusyError(self._busy)
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
        """Return the number of the request that may start now; None where no request may."""
        inside = Counter(self._inside)
        able = [number for number, name in self._waiting.items() if inside[name] < self._each]
        if len(self._inside) >= self._at_once or not able:
            return None
        return min(able, key=lambda n: (inside[self._waiting[n]], self._served.get(self._waiting[n], -1)))

    @property
    def most(self) -> float:
        """Most running and waiting requests together; each keeps a thread of the page."""
        return math.inf if self._most_waiting is None else self._at_once + self._most_waiting

    @property
    def length(self) -> int:
        """Number of running and waiting requests."""
        return len(self._inside) + len(self._waiting)


NICENESS = 10
LOG_TAIL = 2000
"""Number of characters at the end of a child's log that an error message quotes."""
READING_VARIABLES = re.compile(
    r"PATH|HOME|USER|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|PYTHON\w+|VIRTUAL_ENV|CONDA_PREFIX|LD_LIBRARY_PATH|\w+_NUM_THREADS"
    r"|OMP_\w+|GOMP_\w+|MKL_\w+|CUDA_\w+|GRADIO_TEMP_DIR|SPACE_ID|RANKVIZ_\w+"
)
"""Names of environment variables that a child which reads untrusted files gets; none holds a secret."""
HUB_VARIABLES = re.compile(
    rf"{READING_VARIABLES.pattern}|HF_\w+|HUGGING_?FACE_\w+|TRACKIO_\w+|XDG_CACHE_HOME|SSL_CERT_\w+|\w+_CA_BUNDLE|(?i:\w+_PROXY)"
)
"""Names of environment variables that a child which calls the Hub gets, the owner's token among them."""
TRAINING_VARIABLES = re.compile(r".+", re.DOTALL)
"""Names of environment variables that a training child gets: all, since drivers and compilers read unknown names."""
SECRET_VARIABLES = re.compile(
    r"(?!(HF_TOKEN|HUGGING_FACE_HUB_TOKEN|HF_HUB_DISABLE_IMPLICIT_TOKEN)$)"
    r".*((SECRET|PASSWORD|PASSWD|PASSPHRASE|KEY|CREDENTIAL)S?|TOKEN|_PAT|_PWD)",
    re.DOTALL | re.IGNORECASE,
)
"""Names of environment variables that no child gets. Tokens of the Hub are not among them: base models may need a
token."""
MAX_ANSWER_BYTES = 200_000_000
MAX_FILE_BYTES = 70 * 10**9
"""Most bytes of one file that a child may write; larger than any adapter that RankViz reads."""


class ChildResult(NamedTuple):
    """Result of a child process that has ended."""

    code: int
    output: bytes
    log: str
    stopped: str
    """Reason why RankViz stopped the child, as the end of a sentence; empty where the child ended by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Limits of one child process."""

    seconds: float
    memory_bytes: int
    """Bytes that the child may allocate, without mapped files."""
    answer_bytes: int = MAX_ANSWER_BYTES
    written_file_bytes: int = MAX_FILE_BYTES
    processors: int = 2
    """Number of processors that the child may keep busy for all of its time."""


def run(
    command: Sequence[str],
    bounds: Bounds,
    *,
    folder: Path | None = None,
    secret: str = "",
    variables: re.Pattern[str] = READING_VARIABLES,
    cancelled: threading.Event | None = None,
) -> ChildResult:
    """Run a command within limits; return its output, log and exit code.

    Args:
        folder: Folder for the command's temporary files.
        secret: Passed on standard input, so that no file, argument or variable holds it. Removed from output and log;
            other tokens are removed from the log.
        variables: Pattern for the names of this process's environment variables that the command gets.
        cancelled: Ends the command when it is set.
    """
    # The end of this pipe that nobody writes to closes when this process ends. The kernel then signals the child's
    # whole group, whether or not any of it looks: SIGIO ends a process that does not handle it.
    reads, lives = os.pipe()
    os.write(lives, secret.encode())  # before anybody is told of what arrives: that would end the child
    try:
        with TemporaryFile(dir=folder) as out, TemporaryFile(dir=folder) as log:
            child = subprocess.Popen(
                command,
                stdin=reads,
                stdout=out,
                stderr=log,
                cwd=IMPORT_ROOT,
                env=environment(variables) | ({"TMPDIR": str(folder)} if folder else {}),
                start_new_session=True,
            )
            try:
                _bound(child.pid, reads, bounds)
                stopped = _wait(child, bounds, out, log, cancelled)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            out.seek(0)
            output = b"" if stopped else out.read()  # it may have written on at its old place
            log.seek(max(0, _size(log) - 4 * LOG_TAIL))
            tail = log.read()
            tail = errors.after_first_word(tail) if len(tail) == 4 * LOG_TAIL else tail
    finally:
        os.close(reads)
        os.close(lives)
    if child.returncode == -signal.SIGXCPU:
        stopped = "used too much processor time"
    if secret:
        output = output.replace(secret.encode(), b"...")
    return ChildResult(
        child.returncode, output, errors.redacted(tail.decode(errors="replace"), secret)[-LOG_TAIL:], stopped
    )


def _wait(
    child: subprocess.Popen, bounds: Bounds, out: IO[bytes], log: IO[bytes], cancelled: threading.Event | None
) -> str:
    """Wait until a child ends, exceeds a limit or is cancelled; return the reason to stop it, or "" if it ended."""
    deadline = time.monotonic() + bounds.seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(min(0.02, max(0.0, deadline - time.monotonic())))  # it looks ever more rarely
        if max(_size(out), _size(log)) > bounds.answer_bytes:
            out.truncate(0)
            return f"gave more than {bounds.answer_bytes / 1e6:,.0f} MB"
        if child.returncode is not None:
            return ""
        if cancelled and cancelled.is_set():
            return "was cancelled"
    return f"took more than {bounds.seconds:g} s"


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def environment(variables: re.Pattern[str]) -> dict[str, str]:
    """Return this process's environment variables with matching names, without secrets."""
    return {
        name: value
        for name, value in os.environ.items()
        if variables.fullmatch(name) and not SECRET_VARIABLES.fullmatch(name)
    }


def _bound(pid: int, reads: int, bounds: Bounds) -> None:
    """Set the limits of a child from outside, so that the child cannot skip them; do nothing if it has already
    ended."""
    cpu = max(1, round(bounds.processors * bounds.seconds))
    limits = {
        resource.RLIMIT_DATA: (bounds.memory_bytes, bounds.memory_bytes),
        # Five seconds between the signal that can be handled (SIGXCPU) and the one that cannot.
        resource.RLIMIT_CPU: (cpu, cpu + 5),
        resource.RLIMIT_FSIZE: (bounds.written_file_bytes, bounds.written_file_bytes),
        resource.RLIMIT_CORE: (0, 0),
    }
    with contextlib.suppress(ProcessLookupError):
        fcntl.fcntl(reads, fcntl.F_SETOWN, -pid)
        fcntl.fcntl(reads, fcntl.F_SETFL, fcntl.fcntl(reads, fcntl.F_GETFL) | os.O_ASYNC)
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
        for kind, limit in limits.items() if hasattr(resource, "prlimit") else ():  # Linux
            _, most = resource.prlimit(pid, kind)
            resource.prlimit(pid, kind, limit if most == resource.RLIM_INFINITY else tuple(min(most, n) for n in limit))


@contextlib.contextmanager
def processor_time(seconds: float, error: errors.RankVizError) -> Iterator[None]:
    """Raise `error` where the block takes more than `seconds` of processor time. Has no effect outside the process's
    main thread, because only that thread gets signals."""
    over: list[int] = []

    def stop(number: int, frame: Any) -> None:
        over.append(number)
        raise error

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    except Exception:  # Jinja may trip over its own traceback of the one above
        if not over:
            raise
        raise error from None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


WORKER = (sys.executable, "-m", "rankviz.worker")
REQUEST = "request.json"
FAILED_SECONDS = 600
"""Seconds for which content that could not be read is refused without another try."""
MAX_FAILED = 256
NO_MEMORY = re.compile(r"MemoryError|bad_alloc|allocate memory")
"""Pattern that the log of a child matches if the child ran out of memory."""


class ChildWork(NamedTuple):
    """Words of error messages, and environment variables, of one kind of work that children do."""

    does: str = "reads"
    doing: str = "Reading"
    busy: str = "reads at most {at_once} at once of adapters, data files, imports and large sweeps, and is busy"
    advice: str = "check what is in it"
    variables: re.Pattern[str] = READING_VARIABLES
    """Pattern for the names of each child's environment variables, as in `run`."""

    def is_busy(self, at_once: int) -> str:
        """Return the message for a request that finds no free place. at_once: Most children at once."""
        return f"This server {self.busy.format(at_once=at_once)}. Try again in a minute."


READING = ChildWork()
WORK = {
    "children": READING,
    "layouts": ChildWork(
        busy="lays out at most {at_once} at once of models that are not in its catalogue, and is busy with others"
    ),
    "senders": ChildWork(
        "publishes",
        "Publishing",
        "publishes at most {at_once} runs or sweeps at once, and is busy with others",
        "try again later, or publish less at once",
        HUB_VARIABLES,
    ),
    "answerers": ChildWork(
        "answers with",
        "Answering with",
        "answers one prompt at a time, and is busy with another",
        "choose a smaller base",
        TRAINING_VARIABLES,
    ),
}
"""Work of the child processes of a Workspace, by the name of its property."""


class Children:
    """Runs child processes for one kind of work, such as reading files, on one server.

    Args:
        bounds: Limits of each child.
        folder: Creates a folder for one child, and deletes it afterwards.
        worker: Command, without the operation and the folder.
        work: Words of error messages and environment variables of this kind of work.
        line: Queue before the children; by default one child runs at a time.
        failed_seconds: Seconds for which content that could not be read is refused without another try.
    """

    def __init__(
        self,
        bounds: Bounds,
        folder: Callable[[], AbstractContextManager[str | Path]] = lambda: TemporaryDirectory(prefix="rankviz-"),
        worker: Sequence[str] = WORKER,
        work: ChildWork = READING,
        line: FairLine | None = None,
        failed_seconds: float = FAILED_SECONDS,
    ):
        self.bounds, self.folder = bounds, folder
        self.line = line or FairLine(1, busy=work.is_busy(1), seconds=bounds.seconds)
        self.work, self._worker, self._failed_seconds = work, worker, failed_seconds
        self._failed: OrderedDict[str, tuple[float, errors.RankVizError]] = OrderedDict()

    @contextlib.contextmanager
    def turn(self, key: str = "", *, patient: bool = True) -> Iterator[None]:
        """Run the block once a child may start; raise BusyError as FairLine.turn does. key: Id of the content to read.
        If reading this content failed recently, raise the earlier error instead."""
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
        error: type[errors.RankVizError],
        key: str = "",
        secret: str = "",
        cancelled: threading.Event | None = None,
    ) -> Any:
        """Run one of the worker's operations in a child and return its answer. Call this within `turn`.

        Args:
            operation: Name of the operation, for `python -m rankviz.worker`.
            request: Arguments of the operation, as JSON.
            about: Subject of error messages, as in "Reading mine.zip took too long".
            error: Class of the error where a limit is reached.
            key: Id of the content, as for `turn`.
            secret: Passed on the child's standard input.
            cancelled: Ends the child when it is set.
        """
        self._raise_known(key)
        try:
            with self.folder() as folder:
                (Path(folder) / REQUEST).write_text(json.dumps(request), encoding="utf-8")
                command = [*self._worker, operation, str(folder)]
                how = {"folder": Path(folder), "secret": secret, "cancelled": cancelled}
                ended = run(command, self.bounds, variables=self.work.variables, **how)
                # Within the block, so that who gave the folder can say what its disk has refused.
                return answer(ended, about=about, error=error, work=self.work)
        except (errors.UserError, errors.WorkerError, errors.HubUnavailableError) as failure:
            if key:
                self._failed[key] = time.monotonic(), failure
                while len(self._failed) > MAX_FAILED:
                    self._failed.popitem(last=False)
            raise


def answer(ended: ChildResult, *, about: str, error: type[errors.RankVizError], work: ChildWork = READING) -> Any:
    """Return the result that a child printed. Raise the error that the child reported; an error of class `error` where
    RankViz stopped the child at a limit; or WorkerError where the child died."""
    if ended.stopped:
        raise error(f"{work.doing} {about} {ended.stopped}, so RankViz stopped: {work.advice}.")
    try:
        reply = json.loads(ended.output)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict) or ended.code not in (0, 2):
        may_be_memory = ended.code == -signal.SIGKILL or NO_MEMORY.search(ended.log)
        failure = errors.WorkerError(
            f"The process that {work.does} {about} ended with code {ended.code} and no answer"
            f"{': it may have run out of memory' if may_be_memory else ''}."
        )
        failure.add_note(ended.log)
        raise failure
    if ended.code == 2:
        raise remade(reply["error"], reply["message"], otherwise=error)
    return reply


def remade(name: str, message: str, *, otherwise: type[errors.RankVizError]) -> errors.RankVizError:
    """Return an error object of the class `name`, as a child reported it; of class `otherwise` for an unknown name."""
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, errors.RankVizError)):
        kind = otherwise
    raised = kind.__new__(kind)
    errors.RankVizError.__init__(raised, message)
    return raised
