"""The states of a run. No code ever sets one: a record computes it from events."""

from enum import StrEnum
from typing import NamedTuple


class RunState(StrEnum):
    QUEUED = "queued"
    """Asked for; no worker has begun it."""
    RUNNING = "running"
    """A worker has begun it, and it has not ended."""
    COMPLETED = "completed"
    """Trained, evaluated and saved."""
    FAILED = "failed"
    """Ended without completing; the error says why. What was written stays."""
    CANCELLED = "cancelled"
    """Worker is not running, and was cancelled."""

    @property
    def ended(self) -> bool:
        return self not in (RunState.QUEUED, RunState.RUNNING)


class StageTime(NamedTuple):
    """A stage that has ended, and how long it took."""

    stage: str
    seconds: float
