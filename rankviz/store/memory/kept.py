"""What is known of one run, and of all runs together what there is to do."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rankviz.store.journal import JournalReader, Record

CANCEL = "cancel"
"""The file in a run's folder by which somebody asks to cancel it."""
SETTLED_NANOSECONDS = 10**9
"""What was made in a folder since its time was read has another time, where the time read is so old."""


def begun_file(attempt: int) -> str:
    """The file in a run's folder by which somebody takes up an attempt."""
    return "begun" if attempt == 1 else f"begun-{attempt}"


@dataclass(slots=True)
class Kept:
    """What is known of one run."""

    reader: JournalReader
    is_begun: bool = False
    """Whether somebody took it up and nobody has ended it."""
    is_unwanted: bool = False
    """Whether somebody asks to cancel it."""
    has_journal: bool = True
    """False: there was none when all that is in its folder was looked at last."""
    looks: int = 0
    """How often it was looked at with all that is in its folder."""
    folder_time: int = 0
    """Of its folder when a round last came to it; 0: something may have been made there since."""

    @property
    def stand(self) -> tuple[object, ...]:
        """What decides of its turn in the queue."""
        return self.reader.record.state, self.reader.record.attempt, self.is_begun, self.is_unwanted

    def has_changed(self, folder: str) -> bool:
        """Whether anything may have been made in its folder since this was asked last."""
        try:
            at = os.stat(folder).st_mtime_ns
        except OSError:
            return True
        has_changed = at != self.folder_time
        self.folder_time = at if time.time_ns() - at > SETTLED_NANOSECONDS else 0
        return has_changed


class Standing(NamedTuple):
    """What there is to do."""

    at_work: Sequence[Record]
    """Runs that somebody took up and nobody has ended, the oldest first."""
    unwanted: Sequence[str]
    """The names of those that somebody asks to cancel."""
    has_unended: bool
    """Whether any wait or run."""
