"""The time by which old things are removed: what is removed is gone, so a clock that jumps ahead is not believed."""

import time


class Clock:
    """Of one process, from when it is made."""

    def __init__(self):
        self._began = time.time(), time.monotonic()

    def now(self) -> float:
        """Unix seconds, no more of them ahead than have passed."""
        at, since = self._began
        return min(time.time(), at + time.monotonic() - since)
