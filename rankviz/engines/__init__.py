"""Engines: where runs execute. Each has the interface of `engine`; `local` starts workers on this machine.

The supervisor decides what runs next and how a run ended; an engine only starts jobs, reads what they write, ends them,
and says which live.
"""

from rankviz.core.runs.events import Attempt
from rankviz.engines.engine import End, Engine, Job, Live, Nodes

__all__ = ["Attempt", "End", "Engine", "Job", "Live", "Nodes"]
