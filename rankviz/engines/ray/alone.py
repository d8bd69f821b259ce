"""Nodes that are left alone for a while, so that others get the work: a job could not begin there, or their disk was
full, or a GPU of theirs failed. Each driver finds that out for itself."""

import threading
import time
from collections.abc import Callable, Mapping, Set
from typing import NamedTuple

FIRST_SECONDS, MOST_SECONDS = 30.0, 600.0


class Failure(NamedTuple):
    """Of a node, the last."""

    why: str
    """A sentence."""
    at: float
    seconds: float
    """So long the node gets no job."""

    @property
    def until(self) -> float:
        return self.at + self.seconds


class LeftAlone:
    """By the ids of nodes. Asked and told from several threads.

    Args:
        first_seconds: For so long after a first failure, and twice as long after each further one, to MOST_SECONDS. A
            node that did well for MOST_SECONDS begins anew.
        clock: In seconds.
    """

    def __init__(self, first_seconds: float = FIRST_SECONDS, clock: Callable[[], float] = time.monotonic):
        self._first_seconds, self._clock = first_seconds, clock
        self._lock = threading.Lock()
        self._failures: dict[str, Failure] = {}

    def add(self, node_id: str, why: str, began: float | None = None) -> None:
        """A node has failed. Jobs that find the same at the same time count once.

        began: When the job that failed there had its place, by the clock: it may take hours to fail. None: now.
        """
        with self._lock:
            now, last = self._clock(), self._failures.get(node_id)
            if last is not None and now < last.until:
                return
            again = last is not None and (now if began is None else began) < last.until + MOST_SECONDS
            seconds = min(2 * last.seconds, MOST_SECONDS) if again else self._first_seconds
            self._failures[node_id] = Failure(why, now, seconds)

    def now(self) -> Mapping[str, Failure]:
        """Those that get no job at the moment."""
        with self._lock:
            now = self._clock()
            return {node_id: failure for node_id, failure in self._failures.items() if now < failure.until}

    def lately(self) -> Set[str]:
        """Those, and others that have failed and have not done well for MOST_SECONDS since."""
        with self._lock:
            now = self._clock()
            return {node_id for node_id, failure in self._failures.items() if now < failure.until + MOST_SECONDS}
