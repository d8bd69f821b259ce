"""A job's keeper, as the slot that starts it sees it: through two pipes, since the disk of a node may be full, and the
job's folder may go."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class Kept:
    """What was started here has left a process that is nobody's child (rankviz.engines.ray.keeper). OSError, with the
    errno of whatever stood in the way, where the worker could not be started; then nothing is left of it.

    Args:
        arguments: Of the keeper.
        log: What it prints of errors.
        lock: A descriptor that is to last as long as the keeper.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, lock: int):
        self._lock = threading.Lock()
        self._words, self._is_over = b"", False
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rankviz.engines.ray.keeper", *arguments],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                start_new_session=True,
                pass_fds=(lock,),
            )
        os.set_blocking(self._process.stdout.fileno(), False)
        self._process.wait()
        while not (lines := self._lines()) and not self._is_over:
            time.sleep(0.02)
        errno, why = json.loads(lines[0]) if lines else (None, f"its keeper ended; {log} says why")
        if why:
            raise OSError(errno, why)

    def end(self) -> None:
        """Ask the keeper to end the worker, with all that it has started."""
        self._process.stdin.close()

    def ended(self) -> tuple[bool, int | None]:
        """Whether the keeper has ended, and with what exit code the worker had; None where it is not known, since the
        keeper was killed."""
        lines = self._lines()
        return self._is_over, json.loads(lines[1]) if len(lines) > 1 else None

    def _lines(self) -> Sequence[bytes]:
        """What the keeper has said: why the worker could not be started, and then its exit code."""
        with self._lock:
            while not self._is_over and (piece := self._process.stdout.read(4096)) is not None:
                self._is_over = not piece
                self._words += piece
            return self._words[: self._words.rfind(b"\n") + 1].splitlines()
