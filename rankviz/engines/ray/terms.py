"""What the engine and its driver say to each other, through a pipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rankviz.engines import bundle
from rankviz.engines.engine import End
from rankviz.engines.ray.alone import FIRST_SECONDS

RESULT = "result.json"
"""In a job's folder here: how it ended."""
SEEN = "seen"
"""In a job's folder here: its slot was given the job. Such a slot is never made again."""
ENDING = "ending"
"""In a job's folder here: its slot was asked to end it, maybe by an earlier driver."""
UNREADABLE = "How its job ended can no longer be read ({name}/{result} in ray-jobs)."


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What the driver is given when it starts."""

    address: str
    namespace: str
    """Of the slots of one runs folder."""
    jobs: Path
    """Folder of the packed jobs."""
    resources: Mapping[str, float] = field(default_factory=lambda: {"GPU": 1})
    """Of one slot, by Ray's names."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """That a node must have."""
    node_folder: str = ""
    """On each node; empty: one among temporary files."""
    alone_seconds: float = FIRST_SECONDS
    """A node that has failed gets no job for so long at first."""
    worker: Sequence[str] = ()
    """Instead of the true one."""


class JobState(NamedTuple):
    """Of one job, as the driver sees it."""

    where: str = ""
    waits: str = ""
    end: End | None = None


class State(NamedTuple):
    """Of the cluster and the jobs."""

    slots: int
    """So many jobs at once."""
    why_none: str
    """A sentence, where there is no slot."""
    jobs: Mapping[str, JobState]
    """By the names of their folders."""


def read_end(folder: Path) -> End:
    """How the job of a folder here ended; it is lost where that cannot be read any more. OSError: later, maybe."""
    try:
        end = End(**bundle.read_json(folder / RESULT))
        if isinstance(end.why, str) and isinstance(end.exit_code, int | None):
            return end
    except (ValueError, TypeError):
        pass
    return End(lost=True, why=UNREADABLE.format(name=folder.name, result=RESULT))
