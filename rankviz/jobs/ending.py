"""Ends jobs, and decides what becomes of the runs of those that ended: tried again where their place was lost, else
failed or cancelled."""

import contextlib
import logging
import math
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from rankviz.core.runs.events import DISK_FULL, MAX_REASON_CHARACTERS, RunCancelled, RunEvent, RunFailed, RunRequeued
from rankviz.core.runs.record import RunRecord, RunState
from rankviz.core.runs.request import SHORTER
from rankviz.errors import (
    EngineEndingError,
    EngineError,
    EngineUnavailableError,
    RunNotFoundError,
    RunUnreadError,
    shortened,
)
from rankviz.jobs.engine import End, Engine, Live
from rankviz.jobs.live import Copying, LiveJobs
from rankviz.machine import disk
from rankviz.store import RunStore
from rankviz.store.journal import Record

BARREN_JOBS = 2
"""After so many jobs of a sweep in a row that complete no run, the rest of the sweep is given up."""
DONE_SECONDS = 60.0
"""A job that goes on for so long after its runs have ended hangs, and may cost money: it is ended."""
BY_ADMIN = "by the admin"
"""Stands in the cancel file of a run that is another's."""
ORPHANED = End(
    lost=True,
    why=(
        "The app or the machine stopped while this run was going, and its worker with it. What it wrote is kept; start "
        "it again to have it whole."
    ),
)


class Outcomes:
    """Writes down how runs end, as far as the supervisor says it. Where the disk is full, that is kept and written
    once there is room.

    Args:
        max_attempts: A run that was lost so often is not tried again.
    """

    def __init__(self, store: RunStore, max_attempts: int):
        self._store, self._max_attempts = store, max_attempts
        self._barren: dict[str, int] = {}
        self.unwritten: dict[str, RunEvent] = {}
        """Ends that there was no room for, by run."""

    @property
    def ended(self) -> Mapping[str, RunEvent]:
        """Those of `unwritten` that end a run, and do not ask for it again."""
        return {run_id: event for run_id, event in self.unwritten.copy().items() if not isinstance(event, RunRequeued)}

    def flush(self) -> None:
        """Write what is left to write."""
        for run_id, event in list(self.unwritten.items()):
            del self.unwritten[run_id]
            self._write(run_id, event)

    def _write(self, run_id: str, event: RunEvent) -> None:
        """Write down how the current attempt of a run ended, now or as soon as there is room."""
        record = None
        try:
            record = self._store.record(run_id)
            if not record.state.ended and run_id not in self.ended:  # a run to be queued again can still be cancelled
                self._store.append(run_id, replace(event, attempt=record.attempt))
        except (RunNotFoundError, FileNotFoundError):  # deleted meanwhile
            pass
        except OSError as error:
            self.unwritten[run_id] = event
            if isinstance(record, RunRecord) and record.adapter_path is None:  # not whole, and may fill the disk
                shutil.rmtree(self._store.run_dir(run_id) / "adapter", ignore_errors=True)
            logging.getLogger(__name__).warning("How run %s ended is written later. %s", run_id, disk.explain(error))

    def begun(self, run_id: str) -> bool:
        """Return whether somebody took a run up and nobody has said how it ended."""
        record = self._store.record(run_id)
        if record.state is RunState.QUEUED:
            return self._store.has_begun(run_id)
        return record.state is RunState.RUNNING

    def has_ended(self, run_id: str) -> bool:
        """Return whether a run has ended, also where that is still to be written."""
        return run_id in self.ended or self._store.record(run_id).state.ended

    def settle(self, run_ids: Iterable[str], end: End) -> bool:
        """End runs whose job has ended; whoever asked to cancel one gets that. Whether some are tried again."""
        again = False
        for run_id in run_ids:
            if self._store.cancel_word(run_id) is not None:
                self.cancelled(run_id)
            elif end.lost and self._store.record(run_id).lost_attempts + 1 < self._max_attempts:
                self._store.clear(run_id)
                self._write(run_id, RunRequeued(time=time.time(), lost=shortened(end.why, MAX_REASON_CHARACTERS)))
                again = True
            else:
                self._fail(run_id, end, log_of=run_id)
        return again

    def requeue(self, run_ids: Iterable[str]) -> None:
        """Queue runs again whose job was ended for others: that is no loss of theirs. Whoever asked to cancel one gets
        that."""
        for run_id in run_ids:
            if self._store.cancel_word(run_id) is not None:
                self.cancelled(run_id)
            else:
                self._store.clear(run_id)
                self._write(run_id, RunRequeued(time=time.time()))

    def cancelled(self, run_id: str) -> None:
        word = self._store.cancel_word(run_id)
        self._write(run_id, RunCancelled(time=time.time(), by_admin=word == BY_ADMIN))

    def count(self, sweep_id: str, *, completed: bool) -> bool:
        """Count a job of a sweep that has ended. Whether the rest of the sweep is to be given up."""
        self._barren[sweep_id] = 0 if completed else self._barren.get(sweep_id, 0) + 1
        return self._barren[sweep_id] >= BARREN_JOBS

    def give_up(self, records: Sequence[Record], end: End) -> None:
        """Fail queued runs that are not to start."""
        for record in records:
            with contextlib.suppress(RunUnreadError):
                if self._store.begin(record.run_id):
                    self._fail(record.run_id, end, log_of=records[0].run_id)

    def _fail(self, run_id: str, end: End, *, log_of: str) -> None:
        tail = self._store.log_tail(log_of)
        self._write(run_id, RunFailed(time=time.time(), error=end.why, exit_code=end.exit_code, log_tail=tail))


class Ending:
    """Ends jobs and settles those that have ended.

    Args:
        run_minutes: A run that takes longer is ended, and the rest of its sweep goes on.
        room_seconds: After a worker has found the disk full, nothing starts sooner.
    """

    def __init__(self, store: RunStore, jobs: LiveJobs, outcomes: Outcomes, *, run_minutes: float, room_seconds: float):
        self._store, self._jobs, self._outcomes = store, jobs, outcomes
        self._copying = Copying(store)
        self._run_minutes = run_minutes
        self._room_seconds, self._not_before = room_seconds, -math.inf
        self._running_since: dict[str, tuple[str, float]] = {}
        """By job: the run that it is at, and since when as this supervisor saw it."""
        self._too_long: dict[str, str] = {}
        """Jobs that are being ended, and the run of theirs that took too long."""
        self._being_ended: set[str] = set()
        self._done_at: dict[str, float] = {}
        """When it was first seen that all runs of a job had ended."""

    @property
    def may_start(self) -> bool:
        """Whether something may start, as far as the disk was full."""
        return time.monotonic() >= self._not_before

    def unended(self, run_ids: Iterable[str]) -> list[str]:
        """Return those of these runs that have not ended, or cannot be read now."""

        def is_open(run_id: str) -> bool:
            with contextlib.suppress(RunUnreadError):
                return not self._outcomes.has_ended(run_id)
            return True

        return [run_id for run_id in run_ids if is_open(run_id)]

    def cancel(self, run_ids: Sequence[str], among: Sequence[str] = ()) -> None:
        """Cancel runs. A queued one is begun here and cancelled: whoever begins a run owns its journal. One that a
        worker has begun is cancelled once that worker is gone. A job of which nothing is left is ended too, also one
        of others `among` which they are. After all others: EngineUnavailableError where a job could not be ended,
        EngineEndingError where one has not ended yet, RunUnreadError."""
        begun: set[str] = set()
        troubles: list[EngineUnavailableError | RunUnreadError] = []
        for run_id in self.unended(run_ids):
            try:
                if self._store.record(run_id).state is RunState.QUEUED and self._begin(run_id):
                    self._outcomes.cancelled(run_id)
                    continue
                begun.add(run_id)
            except RunUnreadError as error:
                troubles.append(error)
            with contextlib.suppress(OSError):  # an app that finds the job ended has to know why
                if self._store.cancel_word(run_id) is None:
                    self._store.ask_to_cancel(run_id)
        for engine, live in self._jobs:
            if {*run_ids, *among}.isdisjoint(attempt.run_id for attempt in live.job.attempts):
                continue
            try:
                ids = {record.run_id for record in self._jobs.records(live)}
                if ending := begun & ids:
                    self.end(engine, live, unless=lambda runs=ending: not self.unended(runs), but=ending)
                elif ids and not self.unended(ids):
                    self.end(engine, live)
            except (EngineUnavailableError, RunUnreadError) as error:
                troubles.append(error)
        in_jobs = self._jobs.run_ids
        for run_id in begun:
            if run_id not in in_jobs and self.unended([run_id]):
                self._outcomes.cancelled(run_id)
        if troubles:
            raise min(troubles, key=lambda error: isinstance(error, EngineEndingError))

    def attend(self, engine: Engine, live: Live) -> None:
        """End a job that has nothing to do or a run that takes too long, copy what is new of another, and settle one
        that has ended. It is tried again where its engine cannot be reached, or a run of it cannot be read."""
        unavailable = contextlib.suppress(EngineUnavailableError)
        with self._jobs.sparing(), unavailable, self._jobs.asking(engine.name):
            if live.end is not None:
                self._copying.copy(engine, live)
                self._ended(engine, live, live.end)
            elif self._is_needless(live):
                self.end(engine, live)
            elif self._copying.is_at_unwanted(engine, live):
                self.end(engine, live, unless=lambda: not self._copying.is_at_unwanted(engine, live))
            elif run_id := self._takes_too_long(engine, live):
                self._too_long[live.job.name] = run_id
                end = self.end(engine, live, unless=lambda: not self.unended([run_id]), but=[run_id])
                if end is not None:
                    self._settle(engine, live, self._of_one_that_took_too_long(end))
            else:
                self._copying.copy(engine, live)

    def settle_orphans(self, at_work: Iterable[Record]) -> None:
        """Settle runs that somebody began and no job has. Those of an engine that cannot be reached, or is not set up
        here, may still live. A queued run that was taken up and wrote nothing is looked at while no job is there."""
        in_jobs, seen = self._jobs.run_ids, {"", *self._jobs.seen}
        states = (RunState.RUNNING,) if in_jobs else (RunState.RUNNING, RunState.QUEUED)
        for record in list(at_work):
            if record.run_id not in in_jobs and record.state in states and record.engine in seen:
                with self._jobs.sparing():
                    if self._outcomes.begun(record.run_id) and record.run_id not in self._outcomes.unwritten:
                        self._outcomes.settle([record.run_id], ORPHANED)

    def end(
        self, engine: Engine, live: Live, unless: Callable[[], bool] = lambda: False, but: Collection[str] = ()
    ) -> End | None:
        """End a job, unless what is new of it says that this is not needed. What else it has begun is queued again.
        EngineUnavailableError, RunUnreadError: later.

        Args:
            but: Runs that are for the caller to settle.
        """

        def is_needless() -> bool:
            with contextlib.suppress(OSError):  # it ends also where there is no room for what is new
                self._copying.copy(engine, live)
            if unless():
                return True
            self._being_ended.add(live.job.name)
            return False

        with self._jobs.asking(engine.name):
            end = live.end or engine.cancel(live, is_needless)
        if end is not None:
            self._collect_logs(engine, live, but)
            others = [record.run_id for record in self._jobs.records(live) if record.run_id not in but]
            self._outcomes.requeue([run_id for run_id in others if self._outcomes.begun(run_id)])
            self._forget(engine, live)
        return end

    def _ended(self, engine: Engine, live: Live, end: End) -> None:
        """A job has ended: by itself, or since RankViz has ended it, maybe before a restart of the app."""
        # A place of this machine is not held by a run that cannot be read: it has no job then, and is settled later.
        records = list(self._jobs.records(live, spare=engine.shares_disk))
        slow = self.unended({self._too_long.get(live.job.name)} & {record.run_id for record in records})
        if slow:
            end = self._of_one_that_took_too_long(end)
        is_full = end.exit_code == DISK_FULL or (end.exit_code != 0 and disk.is_full(self._store.home))
        if end.why == disk.FULL_SENTENCE or (engine.shares_disk and is_full):
            self._not_before = time.monotonic() + self._room_seconds
            end = end._replace(why=disk.FULL_SENTENCE, lost=False)
        if end.exit_code is None and not self._at_stake(records, end):
            end = end._replace(lost=False)
        may_be_by_us = (end.lost or end.exit_code is None) and not end.is_final and not slow
        if end.by_us or (live.job.name in self._being_ended and may_be_by_us):
            self._outcomes.requeue([each.run_id for each in records if self._outcomes.begun(each.run_id)])
        else:
            self._settle(engine, live, end)
        self._forget(engine, replace(live, end=end))

    def _settle(self, engine: Engine, live: Live, end: End) -> None:
        """Decide what becomes of the runs of a job that has ended."""
        records = list(self._jobs.records(live, spare=engine.shares_disk))
        run_ids = [record.run_id for record in records]
        self._collect_logs(engine, live, self.unended(run_ids))
        again = self._outcomes.settle(self._at_stake(records, end), end)
        records = [self._store.record(run_id) for run_id in run_ids]
        left = [r for r in records if r.state is RunState.QUEUED and r.run_id not in self._outcomes.unwritten]
        may_wait = end.why == disk.FULL_SENTENCE and engine.shares_disk  # elsewhere each job may cost
        if not left or may_wait:
            return
        completed = any(record.state is RunState.COMPLETED for record in records)
        if end.is_final:
            self._outcomes.give_up(left, end)
        elif (completed or not again) and self._outcomes.count(left[0].request.sweep_id, completed=completed):
            why = f"Not started: {BARREN_JOBS} workers in a row completed no run of this sweep. The last: {end.why}"
            self._outcomes.give_up(left, end._replace(why=why))

    def _at_stake(self, records: Sequence[Record], end: End) -> Sequence[str]:
        """Those of a job's runs that its end is the end of: what had begun, and where the job was lost before it began
        any, the first, so that no job is tried for ever."""
        begun = [record.run_id for record in records if self._outcomes.begun(record.run_id)]
        came_to_one = begun or any(record.state in (RunState.COMPLETED, RunState.FAILED) for record in records)
        if came_to_one or not end.lost or end.is_final:
            return begun
        return [record.run_id for record in records if record.state is RunState.QUEUED][:1]

    def _is_needless(self, live: Live) -> bool:
        """Whether a job has nothing to do: its runs have ended, and some were given to others or cancelled, or none
        begun, or it goes on all the same."""
        states = []
        for record in self._jobs.records(live):
            if not record.state.ended:
                return False
            states.append(record.state)
        if len(states) < len(live.job.attempts) or RunState.CANCELLED in states or (states and live.waits):
            return True
        now = time.monotonic()
        return bool(states) and now - self._done_at.setdefault(live.job.name, now) >= DONE_SECONDS

    def _takes_too_long(self, engine: Engine, live: Live) -> str:
        """The run of a job that takes longer than it may, counted from when this supervisor saw it begin."""
        if not engine.is_limited or self._run_minutes == math.inf:
            return ""
        run_id, now = self._jobs.running(live), time.monotonic()
        known, since = self._running_since.get(live.job.name, ("", now))
        if known != run_id:
            since = now
            self._running_since[live.job.name] = run_id, now
        return run_id if now - since >= 60 * self._run_minutes else ""

    def _of_one_that_took_too_long(self, end: End) -> End:
        error = f"This run took more than {self._run_minutes:g} minutes, the most that this server allows. {SHORTER}"
        return end._replace(why=error, lost=False, by_us=False)

    def _begin(self, run_id: str) -> bool:
        """Where there is no room for the mark, a run that no job has is nobody else's."""
        try:
            return self._store.begin(run_id)
        except RunUnreadError:
            raise
        except OSError:
            return run_id not in self._jobs.run_ids

    def _collect_logs(self, engine: Engine, live: Live, run_ids: Collection[str]) -> None:
        """Copy the logs of runs whose journals do not end, as far as they are there."""
        for attempt in () if engine.shares_disk else live.job.attempts:
            if attempt.run_id in run_ids:
                with contextlib.suppress(EngineError, EngineUnavailableError, OSError):
                    engine.collect(live, attempt, self._store.run_dir(attempt.run_id))

    def _forget(self, engine: Engine, live: Live) -> None:
        self._copying.forget(live)
        self._jobs.forget(engine, live)
        self._being_ended.discard(live.job.name)
        for known in (self._too_long, self._done_at, self._running_since):
            known.pop(live.job.name, None)
