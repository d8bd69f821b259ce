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
ANSWER_SECONDS = 10.0
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
        self.down_since: float | None = None
        """Since when, by time.monotonic(), it could not be asked; None where it can be."""

    def ask(self, what: str, *given: Any, seconds: float = ANSWER_SECONDS) -> Any:
        """What the driver answers. EngineUnavailableError where there is none, or not in time."""
        with self._lock:
            try:
                self._require()
                answer = self._exchange((what, given), seconds)
                if isinstance(answer, Exception):
                    raise answer
            except EngineUnavailableError:
                self.down_since = self.down_since or time.monotonic()
                raise
            self.down_since = None
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
            self.down_since = None

    def _exchange(self, question: Any, seconds: float) -> Any:
        try:
            self._pipe.send(question)
            if self._pipe.poll(seconds):
                return self._pipe.recv()
            trouble = "The driver of Ray does not answer; it is started again."
        except (EOFError, OSError):
            trouble = "Ray has ended its driver, as it does when its head has gone; it is started again."
        self._end(trouble)
        raise EngineUnavailableError(trouble)

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
        self._since = time.monotonic()
        self._pipe.send(self._terms)

    def _end(self, trouble: str) -> None:
        if self._process is not None:
            self._pipe.close()
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        self._process = self._pipe = None
        self._ready = False
        self._trouble = trouble
        self._not_before = time.monotonic() + AGAIN_SECONDS


def environment() -> Mapping[str, str]:
    """Of a process that connects to Ray. A cluster that wants no token ignores it."""
    search_path = [str(IMPORT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"RAY_AUTH_MODE": "token", **os.environ, "PYTHONPATH": os.pathsep.join(search_path)}
