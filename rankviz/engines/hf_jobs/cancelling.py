"""Ends one job on Hugging Face. Every call there may take minutes, so each step has a thread of its own."""

import time
from collections.abc import Callable

from rankviz.engines.hf_jobs.following.watch import Watch
from rankviz.engines.in_thread import in_thread
from rankviz.errors import EngineEndingError

NAME = "rankviz-job-end"
ENDING = "Hugging Face has not ended the job yet. What you cancelled ends with it."


class Cancelling:
    """Of one job, whose id is known. First what is new of it is read, then it is ended."""

    def __init__(self, watch: Watch, poll_seconds: float):
        self._watch, self._poll_seconds = watch, poll_seconds
        self._step = in_thread(watch.refresh, NAME)
        self._is_asked = False

    def look(self, unless: Callable[[], bool]) -> bool:
        """Whether the job has ended by this; False where it is not needed any more, since `unless` is true.
        EngineEndingError: not yet. EngineError, EngineUnavailableError: a step failed."""
        if not self._step.done():
            raise EngineEndingError(ENDING)
        self._step.result()
        if self._is_asked:
            return True
        if unless():
            return False
        # Before it is asked for, and until that has failed: how the job ends is told by it.
        self._watch.renting.note(is_ending=True)
        self._is_asked, self._step = True, in_thread(self._end, NAME)
        raise EngineEndingError(ENDING)

    def _end(self) -> None:
        hub, job_id = self._watch.hub, self._watch.job_id
        if not self._watch.has_ended:
            try:
                hub.cancel(job_id)
            except BaseException:
                self._watch.renting.note(is_ending=False)
                raise
        while not self._watch.has_ended:
            time.sleep(min(1.0, self._poll_seconds))
            self._watch.see(hub.job(job_id))
