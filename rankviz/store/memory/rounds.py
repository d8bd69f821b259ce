"""Which runs are looked at without a reason, a few at a time: in about a minute every one of them, so that no look at
many runs takes long."""

from collections.abc import Callable, Collection, Set

SECONDS = 60.0
"""Of a round through all runs, where somebody looks every second."""
MOST_AT_ONCE = 500


class Rounds:
    """Through the runs of one folder.

    Args:
        clock: Seconds, by a clock that nobody sets.
    """

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._left: list[str] = []
        self._size = 0
        self._ends = 0.0

    @property
    def is_over(self) -> bool:
        """Whether another round may begin."""
        return not self._left and self._clock() >= self._ends

    def begin(self, run_ids: Collection[str]) -> None:
        """A round through these; through none where all of them have just been looked at."""
        self._left, self._size = list(run_ids), len(run_ids)
        self._ends = self._clock() + SECONDS

    def due(self) -> Set[str]:
        """Those whose turn has come since the last call, once in a round."""
        share = max(0.0, self._ends - self._clock()) / SECONDS
        first = max(int(share * self._size), len(self._left) - MOST_AT_ONCE)
        due = set(self._left[first:])
        del self._left[first:]
        return due
