"""Ends one job on Hugging Face. Every call there may take minutes, so each step has a thread of its own."""

import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from rankviz.engines.hf_jobs.following.watch import LEFT, Watch
from rankviz.engines.in_thread import in_thread
from rankviz.errors import EngineDeclinedError, EngineEndingError, EngineError, EngineUnavailableError

NAME = "rankviz-job-end"
NEWS_SECONDS = 5.0
"""So long it is waited for what is new of a job. Then it is ended, whatever its bucket says: it costs money."""
MOST_PAUSE_SECONDS = 60.0
"""After Hugging Face has refused to end it again and again."""
READING = "What the job did last is read. Then Hugging Face is asked to end it."
ASKING = "Hugging Face is asked to end the job, and has not answered yet."
ENDING = "Hugging Face has not ended the job yet. What you cancelled ends with it."
GOES_ON = "Hugging Face answered that it ends the job, and the job still runs. It is asked again."
FETCHING = "The job has ended. What its runs have completed is still fetched."


class Cancelling:
    """Of one job, whose id is known. First what is new of it is read, as far as that does not take long, then it is
    ended, then what its completed runs left is fetched. Where Hugging Face refuses, or the job runs on all the same,
    all begins anew after a pause."""

    def __init__(self, watch: Watch, poll_seconds: float):
        self.watch = watch
        self._poll_seconds = poll_seconds
        self._pause = poll_seconds
        self._not_before = -math.inf
        self._begin()

    def look(self, unless: Callable[[], bool]) -> bool:
        """Whether the job has ended by this; False where it is not needed any more, since `unless` is true.
        EngineEndingError: not yet. EngineError, EngineUnavailableError: Hugging Face does not end it now."""
        if self._end is None:
            if not self._news.done() and time.monotonic() < self._until:
                raise EngineEndingError(READING)
            if unless():
                return False
            self._end = in_thread(self._end_it, NAME)
            raise EngineEndingError(ASKING)
        if not self._end.done():
            raise EngineEndingError(ENDING if self._is_taken else ASKING)
        if self._end.exception() is not None and time.monotonic() >= self._not_before:
            self._begin()
            raise EngineEndingError(READING)
        self._end.result()
        if self.watch.holds_back:
            raise EngineEndingError(FETCHING)
        unless()  # which takes over what has been fetched
        return True

    def _begin(self) -> None:
        self._news = in_thread(self.watch.refresh, NAME)
        self._until = time.monotonic() + NEWS_SECONDS
        self._end: Future[None] | None = None
        self._is_taken = False
        """Whether Hugging Face has answered that it ends it."""

    def _end_it(self) -> None:
        """Until it has ended, or runs on, or its owner has left."""
        watch, seconds = self.watch, min(1.0, self._poll_seconds)
        try:
            if not watch.has_ended:
                watch.note_ending()
                watch.hub.cancel(watch.job_id)
            self._is_taken = True
            while not watch.has_ended:
                if not watch.wait(seconds):
                    raise EngineUnavailableError(LEFT)
                seconds = min(2 * seconds, self._poll_seconds)
                with suppress(EngineError, EngineUnavailableError, OSError):  # it is asked again
                    watch.see(watch.hub.job(watch.job_id))
                if not (watch.has_ended or watch.renting.rented.is_ending):
                    raise EngineUnavailableError(GOES_ON)
        except BaseException as error:
            if isinstance(error, EngineError | EngineDeclinedError):
                watch.renting.note(is_ending=False)
            self._not_before = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, MOST_PAUSE_SECONDS)
            raise
