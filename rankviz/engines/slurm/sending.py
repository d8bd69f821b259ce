"""Sends packed jobs to Slurm in a thread, one after the other, since sbatch may take long."""

import math
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from rankviz.engines.slurm import papers
from rankviz.errors import EngineEndingError, EngineError, EngineUnavailableError
from rankviz.machine import disk

BEING_SENT = "The job is being sent to Slurm. What you cancelled ends with it."


class Sending:
    """Of one runs folder. A job that was asked for is never sent again, whatever came of it.

    Args:
        send: Sends the job of a folder. EngineError: it is wrong as it is. EngineUnavailableError, OSError: not now.
        pause_seconds: After that, nothing is sent for so long.
    """

    def __init__(self, send: Callable[[Path], None], pause_seconds: float):
        self._send, self._pause_seconds = send, pause_seconds
        self.refusals: dict[str, str] = {}
        """Why jobs are wrong as they are, by the name of their folder."""
        self.trouble = ""
        """Why nothing can be sent now, as a sentence; empty as far as is known."""
        self._not_before = 0.0
        self._waiting: list[Path] = []
        self._now: Path | None = None
        """Being sent."""
        self._answered: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, folders: Iterable[Path]) -> None:
        """See to it that the jobs of these folders are sent. One that was refused for now goes to the end of the line,
        or it would keep the others from being tried."""
        with self._lock:
            self._waiting += [
                folder
                for folder in folders
                if folder not in (*self._waiting, self._now)
                and folder.name not in self.refusals
                and not papers.is_asked(folder)
            ]
            if self._now is None:
                self._begin()

    def drop(self, folder: Path) -> bool:
        """Whether a job was not sent; then it is not, unless it is taken again. EngineEndingError while it is being
        sent."""
        with self._lock:
            if folder == self._now:
                raise EngineEndingError(BEING_SENT)
            if folder in self._waiting:
                self._waiting.remove(folder)
            return not papers.is_asked(folder)

    def stop(self) -> None:
        """After what is being sent now."""
        with self._lock:
            self._waiting.clear()

    def answered(self, folder: Path) -> float:
        """When sbatch answered, by time.monotonic; math.inf before, and 0 where another process called it."""
        if folder == self._now or not papers.is_asked(folder):
            return math.inf
        return self._answered.get(folder.name, 0.0)

    def forget(self, folder: Path) -> None:
        with self._lock:
            self._waiting = [each for each in self._waiting if each != folder]
            self.refusals.pop(folder.name, None)
            self._answered.pop(folder.name, None)

    def _begin(self) -> None:
        self._now = None
        if self._waiting and time.monotonic() >= self._not_before:
            self._now = self._waiting.pop(0)
            threading.Thread(target=self._run, args=(self._now,), name="rankviz-sbatch", daemon=True).start()

    def _run(self, folder: Path) -> None:
        try:
            self._send(folder)
            self.trouble = ""
        except EngineUnavailableError as error:
            self._pause(str(error))
        except FileNotFoundError:
            pass  # the folder has gone meanwhile
        except OSError as error:
            self._pause(disk.explain(error))
        except EngineError as error:
            self.refusals[folder.name] = str(error)
        finally:
            with self._lock:
                self._answered[folder.name] = time.monotonic()
                self._begin()

    def _pause(self, trouble: str) -> None:
        self.trouble, self._not_before = trouble, time.monotonic() + self._pause_seconds
