"""How runs ended, as far as the supervisor writes it: kept until it is on the disk."""

import contextlib
import logging
import shutil
from dataclasses import replace

from rankviz.core.runs.events import RunEvent, RunFailed, RunRequeued
from rankviz.core.runs.record import RunRecord
from rankviz.errors import RunNotFoundError, RunUnreadError
from rankviz.machine import disk
from rankviz.store import RunStore


class Ends:
    """One end for each run; the first counts."""

    def __init__(self, store: RunStore):
        self._store = store
        self.unwritten: dict[str, RunEvent] = {}
        """By run."""

    def of(self, run_id: str, event: RunEvent) -> None:
        """Write down how a run ended, now or as soon as there is room."""
        if self.has(run_id):
            return
        with contextlib.suppress(RunNotFoundError, RunUnreadError):  # else it is of the current attempt
            event = replace(event, attempt=self._store.record(run_id).attempt)
        self.unwritten[run_id] = event
        if error := self._write(run_id):
            logging.getLogger(__name__).warning("How run %s ended is written later. %s", run_id, disk.explain(error))

    def has(self, run_id: str) -> bool:
        """Whether a run has ended and that is still to be written down; one that is to be tried again has not."""
        return not isinstance(self.unwritten.get(run_id), RunRequeued | None)

    def failed(self, run_id: str, failed: RunFailed, *, log_of: str) -> None:
        """The same with the tail of a log."""
        self.of(run_id, replace(failed, log_tail=self._store.log_tail(log_of)))

    def write(self) -> None:
        """Write what is left to write."""
        for run_id in list(self.unwritten):
            self._write(run_id)

    def _write(self, run_id: str) -> OSError | None:
        try:
            if self._store.record(run_id).state.ended:
                del self.unwritten[run_id]
                return None
            self._store.append(run_id, self.unwritten[run_id])
        except RunNotFoundError:
            pass  # deleted meanwhile
        except FileNotFoundError:
            pass
        except OSError as error:
            self._make_room(run_id)
            return error
        del self.unwritten[run_id]
        return None

    def _make_room(self, run_id: str) -> None:
        """An adapter that was not saved whole is of no use, and may be what filled the disk."""
        with contextlib.suppress(RunNotFoundError, RunUnreadError):
            record = self._store.record(run_id)
            if isinstance(record, RunRecord) and record.adapter_path is None:
                shutil.rmtree(self._store.run_dir(run_id) / "adapter", ignore_errors=True)
