"""Ends jobs of Slurm. Each command has a thread of its own, since any may hang."""

from concurrent.futures import Future

from rankviz.engines.in_thread import in_thread
from rankviz.engines.slurm.commands import Commands

NAME = "rankviz-slurm"


class Cancels:
    """Asks Slurm for the end of jobs."""

    def __init__(self, commands: Commands):
        self._commands = commands
        self._cancels: dict[str, Future[None]] = {}
        """By name."""

    def ask(self, job_id: str, name: str) -> None:
        """See to it that this job is asked to end, which is at most once at a time. EngineUnavailableError where that
        has failed since the last time; then it is asked anew the next time."""
        cancel = self._cancels.get(name)
        if cancel is None:
            self._cancels[name] = in_thread(lambda: self._commands.cancel(job_id, name), NAME)
        elif cancel.done():
            del self._cancels[name]
            cancel.result()
