"""What is taken of one job. What comes from it is its owner's, and nothing of it may be of any length."""

from collections.abc import Sequence
from dataclasses import dataclass

from rankviz import units
from rankviz.errors import LimitError
from rankviz.settings import Limits

EVENT_BYTES = 500
"""Of an event where there are many."""
RANKS = "Choose a lower rank or fewer target modules."
RUNS = "Choose fewer or lower ranks, learning rates or seeds."


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Of a job's journals and adapters."""

    journal_bytes: int
    journal_lines: int
    adapter_bytes: int
    """Of a run: its adapter and what it was truncated to."""
    job_bytes: int
    """Of the adapters of all runs, those that were fetched again counted again, and a try that failed not."""

    @classmethod
    def of(cls, limits: Limits) -> "Bounds":
        """As imports are bound. Ranks that an adapter is truncated to are lower, together about its size again."""
        adapter = limits.adapter_mb * 10**6
        return cls(
            journal_bytes=max(limits.import_mb * 10**6, limits.events_per_run * EVENT_BYTES),
            journal_lines=limits.events_per_run,
            adapter_bytes=2 * adapter,
            job_bytes=10 * adapter,
        )

    def require(self, adapters: Sequence[int]) -> None:
        """LimitError where the adapters of a job's runs, in bytes of each run, are more than is taken: that is said
        before anything is paid."""
        if max(adapters) > self.adapter_bytes:
            raise LimitError(_too_large(max(adapters), self.adapter_bytes, "run", RANKS))
        if sum(adapters) > self.job_bytes:
            raise LimitError(_too_large(sum(adapters), self.job_bytes, "sweep", RUNS))


def _too_large(size: int, most: int, of: str, advice: str) -> str:
    size, most = units.file_size(size), units.file_size(most)
    return f"The adapters of one {of} take {size}, and this server takes at most {most} from a job. {advice}"
