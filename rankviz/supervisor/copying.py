"""Brings what attempts wrote elsewhere into the runs' journals here, each line once.

A line that was brought has the number of its attempt and its offset in that attempt's own journal, so that a
supervisor that takes over knows where to go on, and a line that came twice counts once. Whatever such a journal says
of attempts is left out: only the supervisor gives them out.
"""

import contextlib
import time
from collections.abc import Collection, Iterator
from dataclasses import replace

from rankviz.core.runs.events import LAST, Attempt, AttemptPlaced, RunEvent, RunFailed, RunRequeued
from rankviz.core.runs.record import RunState
from rankviz.engines import Engine, Live
from rankviz.errors import EngineError, EngineUnavailableError, RunNotFoundError, RunUnreadError
from rankviz.machine import disk
from rankviz.store import RunStore
from rankviz.store.journal import parse_event

OURS = (AttemptPlaced, RunRequeued)


def stamped(data: bytes, attempt: Attempt, offset: int) -> Iterator[RunEvent]:
    """The events of whole lines that begin at an offset of an attempt's own journal. Lines that are none are left
    out."""
    for line in data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]:
        offset += len(line) + 1
        event = parse_event(line)
        if event is not None and not isinstance(event, OURS):
            yield replace(event, attempt=attempt.number, offset=offset)


class Copying:
    """From engines that do not share the store's disk."""

    def __init__(self, store: RunStore):
        self._store = store
        self._read: dict[Attempt, int] = {}
        """How far journals elsewhere were read; lines that are no event leave no offset in the journal here."""
        self._unwanted: dict[Attempt, tuple[int, bool]] = {}
        """How far journals of runs that nobody wants were read, and whether these go on."""

    def copy(self, engine: Engine, live: Live) -> None:
        """What is new of a job's attempts. They run in order, so those after the first that goes on are asked only once
        the job has ended. EngineUnavailableError, RunUnreadError: later."""
        if engine.shares_disk:
            return
        for attempt in live.job.attempts:
            if self._is_current(attempt) and not self._copy(engine, live, attempt) and live.end is None:
                return

    def is_in_vain(self, engine: Engine, live: Live) -> bool:
        """Whether a job is at a run that was cancelled as it waited, maybe resumed since, of which the job knows
        nothing, and the next one that is wanted has not begun. EngineUnavailableError, RunUnreadError: later."""
        is_at_one = False
        for attempt in () if engine.shares_disk else live.job.attempts:
            if self._is_current(attempt):
                return is_at_one and self._store.record(attempt.run_id).state is RunState.QUEUED
            is_at_one = self._is_unwanted(attempt) and (self._goes_on(engine, live, attempt) or is_at_one)
        return False

    def collect_logs(self, engine: Engine, live: Live, run_ids: Collection[str]) -> None:
        """Of runs whose journals do not end, as far as they are there."""
        for attempt in () if engine.shares_disk else live.job.attempts:
            if attempt.run_id in run_ids:
                with contextlib.suppress(EngineError, EngineUnavailableError):
                    engine.collect(live, attempt, self._store.run_dir(attempt.run_id))

    def forget(self, live: Live) -> None:
        for attempt in live.job.attempts:
            self._read.pop(attempt, None)
            self._unwanted.pop(attempt, None)

    def _is_current(self, attempt: Attempt) -> bool:
        try:
            record = self._store.record(attempt.run_id)
        except RunNotFoundError:
            return False
        return record.attempt == attempt.number and not record.state.ended

    def _is_unwanted(self, attempt: Attempt) -> bool:
        try:
            record = self._store.record(attempt.run_id)
        except RunNotFoundError:
            return True
        return record.attempt != attempt.number or record.state is RunState.CANCELLED

    def _goes_on(self, engine: Engine, live: Live, attempt: Attempt) -> bool:
        offset, goes_on = self._unwanted.get(attempt, (0, False))
        with self.files_of(attempt.run_id):
            data = engine.events(live, attempt, offset)
        for event in stamped(data, attempt, offset):
            goes_on = not isinstance(event, LAST)
        self._unwanted[attempt] = offset + data.rfind(b"\n") + 1, goes_on
        return goes_on

    def _copy(self, engine: Engine, live: Live, attempt: Attempt) -> bool:
        """Whether that ends it."""
        with self.files_of(attempt.run_id):
            offset = max(self._read.get(attempt, 0), self._store.record(attempt.run_id).copied_bytes)
            data = engine.events(live, attempt, offset)
            events = list(stamped(data, attempt, offset))
            last = next((place for place, event in enumerate(events) if isinstance(event, LAST)), None)
            self._store.append_copied(attempt.run_id, events[:last])
            if last is not None:
                self._read[attempt] = events[last - 1].offset if last else offset
                self._store.append(attempt.run_id, self._with_files(engine, live, attempt, events[last]))
            self._read[attempt] = offset + data.rfind(b"\n") + 1
        return last is not None

    @contextlib.contextmanager
    def files_of(self, run_id: str) -> Iterator[None]:
        """Around what reads and writes them: where one fails, that is a matter of this run, and not of its engine."""
        try:
            yield
        except RunUnreadError:
            raise
        except OSError as error:
            if disk.is_of_all(error, self._store.home):
                raise
            raise RunUnreadError(run_id, error.strerror) from error

    def _with_files(self, engine: Engine, live: Live, attempt: Attempt, last: RunEvent) -> RunEvent:
        """How an attempt ended, once what it left is here: completed is only what is."""
        try:
            engine.collect(live, attempt, self._store.run_dir(attempt.run_id))
        except EngineError as error:
            if isinstance(last, RunFailed):
                return last
            failed = RunFailed(time=time.time(), error=f"The run completed, but its adapter is not here. {error}")
            return replace(failed, attempt=last.attempt, offset=last.offset)
        return last
