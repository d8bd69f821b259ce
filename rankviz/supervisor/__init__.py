"""Running: the queue, worker processes, cancel.

`process` is one worker and everything it started; `supervisor` decides which one runs and writes down how it ended.
"""

from rankviz.supervisor.supervisor import WORKER_COMMAND, Supervisor

__all__ = ["WORKER_COMMAND", "Supervisor"]
