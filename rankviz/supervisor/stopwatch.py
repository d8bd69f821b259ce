"""How long something has been going, by a clock that nobody sets."""

import time
from collections.abc import Hashable


class Stopwatch:
    """Starts anew when it is asked about something else."""

    def __init__(self):
        self._what: Hashable = None
        self._since = 0.0

    def minutes(self, what: Hashable) -> float:
        """Since it was first asked about this."""
        if what != self._what:
            self._what, self._since = what, time.monotonic()
        return (time.monotonic() - self._since) / 60
