"""Asks squeue for all jobs at once, at most every so many seconds, in a thread, since it may take long."""

import math
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import NamedTuple

from rankviz.engines.in_thread import in_thread
from rankviz.engines.slurm.calls import NAME
from rankviz.engines.slurm.commands import Commands
from rankviz.engines.slurm.states import Seen
from rankviz.errors import EngineUnavailableError

MOST_OFTEN_SECONDS = 1.0
"""So often at most Slurm is asked whether what was cancelled has ended."""


class Look(NamedTuple):
    """What Slurm said."""

    began: float = -math.inf
    """By time.monotonic."""
    listed: Mapping[str, Seen] = {}
    """By name."""
    ended: Mapping[str, Seen] = {}
    """Those that are not listed any more, as far as accounting has them."""
    accounted: frozenset[str] = frozenset()
    """Ids of jobs for which accounting was asked, whether it answered or not."""
    trouble: str = ""
    """Why it said nothing, as a sentence; then what is listed is from before."""


class Watch:
    """Of the jobs of one user."""

    def __init__(self, commands: Commands, poll_seconds: float):
        self._commands, self._poll_seconds = commands, poll_seconds
        self._look = Look()
        self._accounts: tuple[Mapping[str, Seen], frozenset[str]] = {}, frozenset()
        self._job_ids: frozenset[str] = frozenset()
        self._began = -math.inf
        self._looking: Future[None] | None = None
        self._accounting: Future[None] | None = None
        """sacct, apart: it may hang while squeue answers."""

    @property
    def look(self) -> Look:
        """The latest."""
        ended, accounted = self._accounts
        return self._look._replace(ended=ended, accounted=accounted)

    def latest(self, job_ids: Iterable[str], times_rarer: int = 1) -> Look:
        """The latest look. Another begins where it is time.

        job_ids: of jobs of which it is to be known how they ended, also where they are not listed any more.
        """
        self._job_ids = frozenset(job_ids)
        self._begin(times_rarer * self._poll_seconds)
        return self.look

    def since(self, moment: float) -> Look | None:
        """A look that began then or later, one with a trouble too; None where there is none yet, and then one begins as
        soon as may be."""
        if self._look.began >= moment:
            return self.look
        self._begin(min(MOST_OFTEN_SECONDS, self._poll_seconds))
        return None

    def _begin(self, seconds: float) -> None:
        """Look, no sooner than so long after the last look began."""
        if self._looking is not None:
            if not self._looking.done():
                return
            looked, self._looking = self._looking, None
            looked.result()
        if (now := time.monotonic()) - self._began >= seconds:
            self._began = now
            self._looking = in_thread(lambda: self._ask(now), NAME)

    def _ask(self, began: float) -> None:
        try:
            listed = self._commands.jobs()
        except EngineUnavailableError as error:
            self._look = self._look._replace(began=began, trouble=str(error))
            return
        self._look = Look(began, listed)
        unlisted = self._job_ids - {seen.id for seen in listed.values()}
        if unlisted and (self._accounting is None or self._accounting.done()):
            self._accounting = in_thread(lambda: self._account(unlisted), NAME)

    def _account(self, job_ids: frozenset[str]) -> None:
        self._accounts = self._commands.ended(sorted(job_ids)), job_ids
