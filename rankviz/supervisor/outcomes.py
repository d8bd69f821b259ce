"""How runs end whose job ended before them: tried again where their place was lost, else failed."""

import contextlib
import time
from collections.abc import Iterable, Sequence

from rankviz.core.probe import ProbeRecord
from rankviz.core.runs.events import MAX_REASON_CHARACTERS, RunCancelled, RunFailed, RunRequeued
from rankviz.core.runs.record import RunRecord, RunState
from rankviz.engines import End
from rankviz.errors import RunUnreadError, shortened
from rankviz.store import RunStore
from rankviz.supervisor.ends import Ends

BARREN_JOBS = 2
"""So many jobs of a sweep in a row that complete no run, and the rest of the sweep is given up."""
BY_ADMIN = "by the admin"
"""What stands in the file of whoever asks to cancel a run that is another's."""
ORPHANED = End(
    lost=True,
    why=(
        "The app or the machine stopped while this run was going, and its worker with it. What it wrote is kept; start "
        "it again to have it whole."
    ),
)

Record = RunRecord | ProbeRecord


class Outcomes:
    """Decides from the journals.

    Args:
        max_attempts: A run that was lost so often is not tried again.
    """

    def __init__(self, store: RunStore, ends: Ends, max_attempts: int):
        self._store, self._ends, self._max_attempts = store, ends, max_attempts
        self._barren: dict[str, int] = {}

    def begun(self, run_id: str) -> bool:
        """Whether somebody took it up and nobody has said how it ended, as it stands."""
        record = self._store.record(run_id)
        if record.state is RunState.QUEUED:
            return self._store.has_begun(run_id)
        return record.state is RunState.RUNNING

    def settle(self, run_ids: Iterable[str], end: End) -> bool:
        """Nobody is left to end these runs, so this does. Whether some are tried again. Whoever asked to cancel one
        gets that."""
        again = False
        for run_id in run_ids:
            if run_id in self._ends.unwritten:
                continue
            if self._store.cancel_word(run_id) is not None:
                self.cancelled(run_id)
            elif end.lost and self._store.record(run_id).lost_attempts + 1 < self._max_attempts:
                self._store.clear(run_id)
                self._ends.of(run_id, RunRequeued(time=time.time(), lost=shortened(end.why, MAX_REASON_CHARACTERS)))
                again = True
            else:
                self._ends.failed(run_id, failed(end), log_of=run_id)
        return again

    def begin_anew(self, run_ids: Iterable[str]) -> None:
        """These runs wait again, and that is no loss of theirs. Whoever asked to cancel one gets that."""
        for run_id in run_ids:
            if self._store.cancel_word(run_id) is not None:
                self.cancelled(run_id)
            elif run_id not in self._ends.unwritten:
                self._store.clear(run_id)
                self._ends.of(run_id, RunRequeued(time=time.time()))

    def cancelled(self, run_id: str) -> None:
        """It was cancelled, now."""
        by_admin = self._store.cancel_word(run_id) == BY_ADMIN
        self._ends.of(run_id, RunCancelled(time=time.time(), by_admin=by_admin))

    def count(self, sweep_id: str, *, completed: bool) -> bool:
        """A job of this sweep has ended. Whether the rest is to be given up."""
        self._barren[sweep_id] = 0 if completed else self._barren.get(sweep_id, 0) + 1
        return self._barren[sweep_id] >= BARREN_JOBS

    def give_up(self, records: Sequence[Record], end: End) -> None:
        """Of queued runs that are not to start. One that cannot be read now stays as it is, and is tried again."""
        for record in records:
            with contextlib.suppress(RunUnreadError):
                if self._store.begin(record.run_id):
                    self._ends.failed(record.run_id, failed(end), log_of=records[0].run_id)


def failed(end: End) -> RunFailed:
    return RunFailed(time=time.time(), error=end.why, exit_code=end.exit_code)


def given_up(end: End) -> End:
    """Of runs that no job begins any more."""
    why = f"Not started: {BARREN_JOBS} workers in a row completed no run of this sweep. The last: {end.why}"
    return end._replace(why=why)
