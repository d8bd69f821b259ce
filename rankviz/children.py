"""Bounded child processes, for everything that reads what comes from outside: models, adapters, data, imports."""

import contextlib
import fcntl
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, NamedTuple

from rankviz import errors
from rankviz.errors import HubUnavailableError, RankVizError, UserError, WorkerError, after_first_word, redacted
from rankviz.fair_line import FairLine
from rankviz.paths import IMPORT_ROOT

CPU_SECONDS_PER_SECOND = 2
NICENESS = 10
LOG_TAIL = 2000
"""Characters of the child's log in an error."""
KEPT_BYTES = 4 * LOG_TAIL
"""Of its log until it ends."""
VARIABLES = re.compile(
    r"PATH|HOME|USER|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|PYTHON\w+|VIRTUAL_ENV|CONDA_PREFIX|LD_LIBRARY_PATH|\w+_NUM_THREADS"
    r"|OMP_\w+|GOMP_\w+|MKL_\w+|CUDA_\w+|GRADIO_TEMP_DIR|SPACE_ID|RANKVIZ_\w+"
)
"""What a child gets of the environment, without secrets, since it reads what strangers wrote."""
ASKING = re.compile(
    rf"{VARIABLES.pattern}|HF_\w+|HUGGING_?FACE_\w+|TRACKIO_\w+|XDG_CACHE_HOME|SSL_CERT_\w+|\w+_CA_BUNDLE|(?i:\w+_PROXY)"
)
"""The same of one that asks the Hub, as its owner where they have a token."""
TRAINING = re.compile(r".+", re.DOTALL)
"""The same of one that trains: drivers, compilers and libraries read variables that nobody can list."""
SECRET = re.compile(
    r"(?!(HF_TOKEN|HUGGING_FACE_HUB_TOKEN|HF_HUB_DISABLE_IMPLICIT_TOKEN)$)"
    r".*((SECRET|PASSWORD|PASSWD|PASSPHRASE|KEY|CREDENTIAL)S?|TOKEN|_PAT|_PWD)",
    re.DOTALL | re.IGNORECASE,
)
"""Names of variables that no child gets. The Hub's token is none of them: bases may be fetched with it."""
MAX_ANSWER_BYTES = 200_000_000
MAX_FILE_BYTES = 70 * 10**9
"""Of one file that a child writes: more than the largest adapter that is read."""


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


def run(
    command: Sequence[str],
    bounds: Bounds,
    *,
    folder: Path | None = None,
    secret: str = "",
    variables: re.Pattern[str] = VARIABLES,
) -> Ended:
    """The command's standard output and end, under bounds, whatever it does.

    folder: where its temporary files go.
    secret: waits on its standard input, so that it is in no file, no argument and no variable. What the child prints
        is returned without it. Its log has no other token either.
    variables: names of those that it gets of this process's environment.
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
    """This process's variables of these names, without secrets."""
    return {
        name: value for name, value in os.environ.items() if variables.fullmatch(name) and not SECRET.fullmatch(name)
    }


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
            del log[:-KEPT_BYTES]
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


WORKER = (sys.executable, "-m", "rankviz.worker")
REQUEST = "request.json"
FAILED_SECONDS = 600
"""How long what could not be read is not tried again."""
MAX_FAILED = 256
NO_MEMORY = re.compile(r"MemoryError|bad_alloc|allocate memory")
"""In the log of a child that could get none."""


class Work(NamedTuple):
    """What children do, as their errors say it."""

    does: str = "reads"
    doing: str = "Reading"
    busy: str = (
        "reads at most {at_once} at once of adapters, data files, imports and large sweeps, and is busy with others"
    )
    advice: str = "check what is in it"

    def is_busy(self, at_once: int) -> str:
        """Said to who finds no place."""
        return f"This server {self.busy.format(at_once=at_once)}. Try again in a minute."


READING = Work()


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
        line: Who may run one; by default everybody in turn.
        failed_seconds: How long what could not be read is not tried again.
        variables: What each gets of the environment, as child.run has it.
    """

    def __init__(
        self,
        bounds: Bounds,
        at_once: int = 1,
        folder: Callable[[], AbstractContextManager[str | Path]] = _unshared,
        worker: Sequence[str] = WORKER,
        work: Work = READING,
        line: FairLine | None = None,
        failed_seconds: float = FAILED_SECONDS,
        variables: re.Pattern[str] = VARIABLES,
    ):
        self.bounds = bounds
        self.folder = folder
        self.line = line or FairLine(at_once, busy=work.is_busy(at_once), seconds=bounds.seconds)
        self._worker = worker
        self._work = work
        self._failed_seconds = failed_seconds
        self._variables = variables
        self._failed: OrderedDict[str, tuple[float, RankVizError]] = OrderedDict()

    @contextlib.contextmanager
    def turn(self, key: str = "", *, patient: bool = True) -> Iterator[None]:
        """Within it this thread may run a child. BusyError as of a FairLine.

        key: of what will be asked. Where that failed a while ago, its error comes at once, and no place is taken.
        """
        self._recall(key)
        with self.line.turn(patient=patient):
            self._recall(key)  # while this one waited
            yield

    def _recall(self, key: str) -> None:
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
        """The answer of one of the worker's operations, within a turn.

        Args:
            operation: Of `python -m rankviz.worker`.
            request: Its arguments, as JSON.
            about: What is read, as in "Reading mine.zip took too long".
            error: Raised where a bound is reached.
            key: Of the content that is read: a failure is not tried again for some minutes.
            secret: On the child's standard input.
        """
        self._recall(key)
        try:
            with self.folder() as folder:
                (Path(folder) / REQUEST).write_text(json.dumps(request), encoding="utf-8")
                ended = run(
                    [*self._worker, operation, str(folder)],
                    self.bounds,
                    folder=Path(folder),
                    secret=secret,
                    variables=self._variables,
                )
                # Within the block, so that who gave the folder can say what its disk has refused.
                return answer(ended, about=about, error=error, work=self._work)
        except (UserError, WorkerError, HubUnavailableError) as failure:
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
    """An error that a child raised."""
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, RankVizError)):
        kind = otherwise
    raised = kind.__new__(kind)
    RankVizError.__init__(raised, message)
    return raised
