"""Bounded child processes, for everything that reads what comes from outside: models, adapters, data, imports.

A child has limits of memory, processor time, time and output, a low priority and a process group of its own, which
ends with it, and with this process, however that ends. Only a few run at once; a few more may wait.
"""

import contextlib
import json
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Condition
from typing import Any, NamedTuple

from rankviz import errors, visitor
from rankviz.child import Bounds, Ended, run
from rankviz.errors import LimitError, RankVizError, UserError, WorkerError

WORKER = (sys.executable, "-m", "rankviz.worker")
REQUEST = "request.json"
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
