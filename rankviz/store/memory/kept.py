"""What is known of one run, and of all runs together what there is to do."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rankviz.core.runs.record import RunState
from rankviz.errors import RunNotFoundError
from rankviz.store.journal import JournalReader, Record
from rankviz.store.memory.folder import is_there
from rankviz.store.memory.left_on_disk import lighten

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

    def read(self, folder: str, *, with_marks: bool) -> None:
        """All that is new of it, or nothing: OSError where some of that cannot be read now. RunNotFoundError where its
        folder has gone. with_marks: also whether somebody took it up, or asks to cancel it."""
        self.looks += with_marks
        reader = self.reader
        known = reader.record, reader.offset, reader.latest
        try:
            self._read(folder, with_marks=with_marks)
        except OSError:
            reader.record, reader.offset, reader.latest = known
            self.folder_time = 0
            raise

    def _read(self, folder: str, *, with_marks: bool) -> None:
        before, record = self.reader.record, self.reader.read()
        if record is before and not with_marks:
            return
        if record.state.ended:
            lighten(self.reader)
            self.is_begun = self.is_unwanted = False
        elif with_marks:
            is_begun = is_there(f"{folder}/{begun_file(record.attempt)}") or record.state is RunState.RUNNING
            is_unwanted = is_there(f"{folder}/{CANCEL}")
            has_journal = bool(self.reader.offset) or is_there(self.reader.journal)
            if not (is_begun or self.reader.offset) and not is_there(folder):
                raise RunNotFoundError(record.run_id)
            self.is_begun, self.is_unwanted, self.has_journal = is_begun, is_unwanted, has_journal
        elif record.state is RunState.RUNNING:
            self.is_begun = True

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
