"""Asks squeue for all jobs at once, at most every so many seconds, in a thread, since it may take long."""

import math
import threading
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rankviz.engines.slurm.commands import Commands
from rankviz.engines.slurm.states import Seen
from rankviz.errors import EngineUnavailableError

FIRST_SECONDS = 5.0
"""The first look is waited for so long: an app that has just started then knows where its jobs are."""


class Look(NamedTuple):
    """What Slurm said."""

    began: float = -math.inf
    """By time.monotonic."""
    listed: Mapping[str, Seen] = {}
    """By name."""
    ended: Mapping[str, Seen] = {}
    """Those that are not listed any more, as far as accounting has them."""
    trouble: str = ""
    """Why it said nothing, as a sentence."""


class Watch:
    """Of the jobs of one user."""

    def __init__(self, commands: Commands, poll_seconds: float):
        self._commands, self._poll_seconds = commands, poll_seconds
        self._look = Look()
        self._began = -math.inf
        self._thread: threading.Thread | None = None

    def latest(self, job_ids: Iterable[str]) -> Look:
        """The latest look. Another begins where it is time.

        job_ids: of jobs of which it is to be known how they ended, also where they are not listed any more.
        """
        if self._look.began == -math.inf and self._thread is None:
            self._begin(job_ids).join(FIRST_SECONDS)
        elif not self._is_looking and time.monotonic() - self._began >= self._poll_seconds:
            self._begin(job_ids)
        return self._look

    def since(self, moment: float) -> Look | None:
        """A look that began then or later; None where there is none yet, and then it begins. EngineUnavailableError."""
        if time.monotonic() < moment or self._is_looking:
            return None
        if self._began < moment:
            self._begin(())
            return None
        if self._look.trouble:
            raise EngineUnavailableError(self._look.trouble)
        return self._look

    @property
    def _is_looking(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _begin(self, job_ids: Iterable[str]) -> threading.Thread:
        self._began = time.monotonic()
        self._thread = threading.Thread(
            target=self._ask, args=(self._began, list(job_ids)), name="rankviz-squeue", daemon=True
        )
        self._thread.start()
        return self._thread

    def _ask(self, began: float, job_ids: list[str]) -> None:
        try:
            listed = self._commands.jobs()
        except EngineUnavailableError as error:
            self._look = self._look._replace(trouble=str(error))
            return
        missing = sorted(set(job_ids) - {seen.id for seen in listed.values()})
        self._look = Look(began, listed, self._commands.ended(missing) if missing else {})
