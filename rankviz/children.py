"""Bounded child processes, for everything that reads what comes from outside: models, adapters, data, imports.

A child has limits of memory, processor time, time and output, a low priority and a process group of its own, which
ends with it, and with this process, however that ends. Only a few run at once; a few more may wait.
"""

import contextlib
import json
import re
import signal
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from rankviz import errors
from rankviz.child import VARIABLES, Bounds, Ended, run
from rankviz.errors import HubUnavailableError, RankVizError, UserError, WorkerError
from rankviz.fair_line import FairLine

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
