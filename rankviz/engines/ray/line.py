"""The engine's line to its driver, a child process. It is started when it is needed, and again some seconds after it
has ended; nothing waits for that."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rankviz.engines.ray.terms import Terms
from rankviz.errors import EngineUnavailableError
from rankviz.paths import IMPORT_ROOT

AGAIN_SECONDS = 5.0
SLOW_SECONDS, CONNECT_SECONDS = 20.0, 90.0
ANSWER_SECONDS = 1.0
"""So long somebody waits for an answer."""
SILENT_SECONDS = 10.0
"""A driver that owes an answer for so long is ended."""
CONNECTING = "Connecting to Ray."


class Line:
    """Of one runs folder.

    Args:
        terms: What the driver is given.
        log: What the driver prints.
        enter: Stands before the driver's command line; tests pass what enters a network namespace.
    """

    def __init__(self, terms: Terms, log: Path, enter: Sequence[str] = ()):
        self._terms, self._log, self._enter = terms, log, enter
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._pipe: Connection | None = None
        self._ready = False
        self._since = self._not_before = 0.0
        self._trouble = CONNECTING
        self._asked_at: float | None = None
        """Of the question whose answer the driver owes."""

    def ask(self, what: str, *given: Any) -> Any:
        """What the driver answers. EngineUnavailableError where there is none, or not at once."""
        with self._lock:
            self._require()
            answer = self._exchange((what, given))
            if isinstance(answer, Exception):
                raise answer
            return answer

    def close(self) -> None:
        """The driver ends, as soon as it has ended the slots that are done; nobody waits for that."""
        with self._lock:
            if self._process is not None:
                self._pipe.close()
                threading.Thread(target=self._process.wait, daemon=True).start()
            self._process = self._pipe = None
            self._ready, self._trouble = False, CONNECTING
            self._not_before = 0.0

    def _exchange(self, question: Any) -> Any:
        """An answer that comes too late is of no use: what it was about is asked again."""
        try:
            if self._asked_at is None or self._answer(0.0):
                self._pipe.send(question)
                self._asked_at = time.monotonic()
                if answer := self._answer(ANSWER_SECONDS):
                    return answer[0]
            trouble = "The driver of Ray does not answer."
            if time.monotonic() - self._asked_at < SILENT_SECONDS:
                raise EngineUnavailableError(trouble)
            trouble = f"{trouble} It is started again."
        except (EOFError, OSError):
            trouble = "Ray has ended its driver, as it does when its head has gone; it is started again."
        self._end(trouble)
        raise EngineUnavailableError(trouble)

    def _answer(self, seconds: float) -> Sequence[Any]:
        """The one that is owed; nothing where it has not come by then."""
        if not self._pipe.poll(seconds):
            return ()
        self._asked_at = None
        return (self._pipe.recv(),)

    def _require(self) -> None:
        """Start it, or see whether it has connected."""
        if self._process is None and time.monotonic() >= self._not_before:
            self._start()
        if self._ready:
            return
        if self._process is not None:
            try:
                word = self._pipe.recv() if self._pipe.poll(0) else None
            except (EOFError, OSError):
                word = f"The driver of Ray ended before it was connected; {self._log} says why."
            if word == "":
                self._ready = True
                return
            if word is None and time.monotonic() - self._since > CONNECT_SECONDS:
                word = f"The Ray cluster at {self._terms.address} does not answer."
            if word:
                self._end(word)
            elif self._trouble == CONNECTING and time.monotonic() - self._since > SLOW_SECONDS:
                self._trouble = f"Connecting to Ray. The cluster at {self._terms.address} has not answered yet."
        raise EngineUnavailableError(self._trouble)

    def _start(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._pipe, theirs = Pipe()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._enter, sys.executable, "-m", "rankviz.engines.ray.driver", str(theirs.fileno())],
                cwd=self._log.parent,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )
        theirs.close()
        self._since, self._asked_at = time.monotonic(), None
        self._pipe.send(self._terms)

    def _end(self, trouble: str) -> None:
        if self._process is not None:
            self._pipe.close()
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            threading.Thread(target=self._process.wait, daemon=True).start()
        self._process = self._pipe = None
        self._ready = False
        self._trouble = trouble
        self._not_before = time.monotonic() + AGAIN_SECONDS


def environment() -> Mapping[str, str]:
    """Of a process that connects to Ray. A cluster that wants no token ignores it."""
    search_path = [str(IMPORT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"RAY_AUTH_MODE": "token", **os.environ, "PYTHONPATH": os.pathsep.join(search_path)}
