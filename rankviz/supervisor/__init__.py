"""Running: the queue, whose turn it is, and how runs ended.

`supervisor` decides what runs next on which engine (rankviz.engines) and writes down how it ended; `turns` is fair
between visitors.
"""

from rankviz.supervisor.supervisor import WORKER_COMMAND, Supervisor

__all__ = ["WORKER_COMMAND", "Supervisor"]
