"""Calls of Slurm's commands, each in a thread of its own, since any of them may hang."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

from rankviz.engines.slurm.commands import Commands


def in_thread(call: Callable[[], None]) -> Future[None]:
    """Not one of an executor, whose threads keep a process from ending."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, name="rankviz-slurm", daemon=True).start()
    return future


class Cancels:
    """Asks Slurm for the end of jobs."""

    def __init__(self, commands: Commands):
        self._commands = commands
        self._asked: dict[str, Future[None]] = {}
        """By name."""

    def ask(self, job_id: str, name: str) -> None:
        """See to it that this job is asked to end, which is at most once at a time. EngineUnavailableError where that
        has failed since the last time; then it is asked anew the next time."""
        asked = self._asked.get(name)
        if asked is None:
            self._asked[name] = in_thread(lambda: self._commands.cancel(job_id, name))
        elif asked.done():
            del self._asked[name]
            asked.result()
