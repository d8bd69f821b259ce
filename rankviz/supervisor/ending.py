"""Ends jobs, and says what becomes of the runs of those that ended."""

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from rankviz.core.runs.events import DISK_FULL
from rankviz.core.runs.record import RunState
from rankviz.core.runs.request import SHORTER
from rankviz.engines import End, Engine, Live
from rankviz.errors import EngineEndingError, EngineUnavailableError, RunUnreadError
from rankviz.machine import disk
from rankviz.store import RunStore
from rankviz.supervisor.ends import Ends
from rankviz.supervisor.jobs import UNREADABLE, Jobs
from rankviz.supervisor.outcomes import ORPHANED, Outcomes, Record, given_up

DONE_SECONDS = 60.0
"""A job that has done its runs ends by itself. One that goes on for so long hangs, or trains what has ended here, and
may cost money. Nor is it waited longer for what cannot be read of one that is to be ended."""
ENDED_ALL_THE_SAME = f"If that lasts, its job is ended all the same after {DONE_SECONDS:g} s."


class Ending:
    """Of all jobs.

    Args:
        run_minutes: What a run may take, for the sentence on one that took longer.
        room_seconds: After a worker has found the disk full, nothing starts sooner.
    """

    def __init__(
        self, store: RunStore, jobs: Jobs, ends: Ends, outcomes: Outcomes, *, run_minutes: float, room_seconds: float
    ):
        self._store, self._jobs, self._ends, self._outcomes = store, jobs, ends, outcomes
        self._run_minutes = run_minutes
        self._room_seconds, self._not_before = room_seconds, -math.inf
        self._too_long: dict[str, str] = {}
        """Jobs that are being ended, and the run of theirs that took too long."""
        self._being_ended: set[str] = set()
        """Jobs that their engines were asked to end, for whatever. That holds also where it is needless by now."""
        self._done_at: dict[str, float] = {}
        """When it was first seen that all runs of a job had ended."""
        self._unread_at: dict[str, float] = {}
        """When a job was first to be ended, or had ended, and a run of it could not be read or written."""

    @property
    def may_start(self) -> bool:
        """Whether something may start, as far as the disk was full."""
        return time.monotonic() >= self._not_before

    def unended(self, run_ids: Iterable[str]) -> list[str]:
        """Those of these runs that have not ended, and those that cannot be read now."""
        return [run_id for run_id in run_ids if not self._has_ended(run_id)]

    def cancel(self, run_ids: Sequence[str], among: Sequence[str] = ()) -> None:
        """Whoever begins a run owns its journal: a queued run is begun here and cancelled, one that a worker has begun
        is cancelled once that worker is gone. A job of which nothing is left is ended too, also one of others `among`
        which they are. After all others: EngineUnavailableError where a job could not be ended, EngineEndingError
        where one has not ended yet, and RunUnreadError where it is not known whether a run has ended."""
        begun = set()
        troubles: list[EngineUnavailableError | RunUnreadError] = []
        at = {self._jobs.running(live) for _, live in self._jobs}
        for run_id in self.unended(run_ids):
            try:
                if self._store.record(run_id).state is RunState.QUEUED and self._begin(run_id):
                    self._outcomes.cancelled(run_id)
                    continue
                begun.add(run_id)
            except RunUnreadError as error:
                troubles.append(error)
                begun |= {run_id} & at
            self._keep_wish(run_id)
        for engine, live in self._jobs:
            try:
                if ending := begun & (ids := self._jobs.ids(live)):
                    self.end(engine, live, unless=lambda job=live, ids=ending: not self._at(job, ids), but=ending)
                elif ids & {*run_ids, *among} and not self.unended(ids):
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
        """End a job that has nothing to do, bring what is new of another, and settle one that has ended. It is tried
        again where its engine cannot be reached, or a run of it cannot be read."""
        with self._jobs.sparing():
            with contextlib.suppress(EngineUnavailableError):
                if live.end is None and self._is_needless(live):
                    self.end(engine, live)
                elif live.end is None and self._is_in_vain(engine, live):
                    self.end(engine, live, unless=lambda: not self._is_in_vain(engine, live))
                elif self._jobs.copy(engine, live) and live.end is not None:
                    self._ended(engine, live, live.end)
            return
        with self._jobs.sparing(), contextlib.suppress(EngineUnavailableError):
            self._attend_unread(engine, live)

    def _attend_unread(self, engine: Engine, live: Live) -> None:
        """A wish to cancel the run that a job is at holds also while that cannot be read. A place of this machine is
        not held for ever by a job that has ended: what its runs wrote is here, and they are settled once they can be
        read."""
        if live.end is None:
            run_id = self._jobs.running(live)
            if run_id and self._store.cancel_word(run_id) is not None:
                self.cancel([run_id])
        elif engine.shares_disk and self._has_lasted(live, self._unread_at):
            self._forget(engine, live)

    def _is_needless(self, live: Live) -> bool:
        """Whether a job has nothing to do: its runs have ended, and some were given to others or cancelled, or none
        begun, or it goes on all the same."""
        states = []
        for record in self._jobs.each_record(live):
            if not record.state.ended:
                return False
            states.append(record.state)
        is_given_away = len(states) < len(live.job.attempts)
        if is_given_away and self._jobs.unreadable(live):
            return False
        if is_given_away or RunState.CANCELLED in states or (states and live.waits):
            return True
        return bool(states) and self._has_lasted(live, self._done_at)

    def _is_in_vain(self, engine: Engine, live: Live) -> bool:
        """Whether a job is at a run that nobody wants any more, while others of it wait."""
        with self._jobs.reaching(engine.name):
            return self._jobs.copying.is_in_vain(engine, live)
        return False

    def end(
        self, engine: Engine, live: Live, unless: Callable[[], bool] = lambda: False, but: Collection[str] = ()
    ) -> End | None:
        """End a job, unless what is new of it says that this is not needed. Where that can for long not be read, or not
        be kept, it is ended all the same. Whatever it has begun meanwhile waits for another job.
        EngineUnavailableError, RunUnreadError: later.

        Args:
            but: Runs that are for the caller to settle.
        """

        def is_needless() -> bool:
            try:
                self._jobs.copying.copy(engine, live)
            except OSError as error:  # a run cannot be read, or there is no room for what is new
                if not self._has_lasted(live, self._unread_at):
                    raise EngineEndingError(f"{disk.explain(error)} {ENDED_ALL_THE_SAME}") from error
                needless = False
            else:
                self._unread_at.pop(live.job.name, None)
                needless = unless()
            if not needless:
                self._being_ended.add(live.job.name)
            return needless

        with self._jobs.asking(engine.name):
            end = live.end or engine.cancel(live, is_needless)
        if end is not None:
            with contextlib.suppress(OSError), self._jobs.reaching(engine.name):  # no room for a log, say
                self._jobs.copying.collect_logs(engine, live, but)
            self._begin_anew(live, but)
            self._forget(engine, live)
        return end

    def end_run(self, engine: Engine, live: Live, run_id: str) -> None:
        """It took too long."""
        self._too_long[live.job.name] = run_id
        try:
            end = self.end(engine, live, unless=lambda: not self._at(live, [run_id]), but=[run_id])
        except (EngineUnavailableError, RunUnreadError):  # it is tried again, and may be done though nobody said so
            return
        if end is not None:
            self._settle(engine, live, self._of_one_that_took_too_long(end))

    def _ended(self, engine: Engine, live: Live, end: End) -> None:
        """By itself, or since RankViz has ended it, maybe before a restart of the app. Where nobody saw how, its place
        was not lost if it ended no run. What it brings waits, and says so, as long as a run of it will not be read."""
        if not engine.shares_disk and (run_id := self._jobs.unreadable(live)):
            return self._jobs.place(engine, replace(live, waits=UNREADABLE.format(run_id)))
        slow = self._at(live, [self._too_long.get(live.job.name, "")])
        took_too_long = bool(slow) or self._can_only_have_taken_too_long(engine, live, end)
        if took_too_long:
            end = self._of_one_that_took_too_long(end)
        is_full = end.exit_code == DISK_FULL or (end.exit_code != 0 and disk.is_full(self._store.home))
        if end.why == disk.FULL_SENTENCE or (engine.shares_disk and is_full):
            self._not_before = time.monotonic() + self._room_seconds
            end = end._replace(why=disk.FULL_SENTENCE, lost=False)
        if end.exit_code is None and not self._at_stake([record.run_id for record in self._jobs.records(live)], end):
            end = end._replace(lost=False)
        may_be_by_us = (end.lost or end.exit_code is None) and not end.is_final and not took_too_long
        if end.by_us or (live.job.name in self._being_ended and may_be_by_us):
            self._begin_anew(live)
        elif not self._jobs.is_settled(live):
            self._settle(engine, live, end)
        self._forget(engine, replace(live, end=end))

    def settle_orphans(self, at_work: Iterable[Record]) -> None:
        """Of runs that somebody began and no job has. Those of an engine that cannot be reached, or is not set up here,
        may still live. A queued run is looked at while no job is there: one that was taken up and wrote nothing."""
        in_jobs, seen = self._jobs.run_ids, {"", *self._jobs.seen}
        orphans = [
            record.run_id
            for record in at_work
            if record.run_id not in in_jobs
            and record.state in ((RunState.RUNNING,) if in_jobs else (RunState.RUNNING, RunState.QUEUED))
            and record.engine in seen
        ]
        for run_id in orphans:
            with self._jobs.sparing():
                if self._outcomes.begun(run_id):
                    self._outcomes.settle([run_id], ORPHANED)

    def _forget(self, engine: Engine, live: Live) -> None:
        self._jobs.forget(engine, live)
        self._too_long.pop(live.job.name, None)
        self._being_ended.discard(live.job.name)
        self._done_at.pop(live.job.name, None)
        self._unread_at.pop(live.job.name, None)

    def _at(self, live: Live, run_ids: Iterable[str]) -> list[str]:
        """Those of these runs that a job is for still: one that was deleted, or is tried again, is not."""
        return self.unended(self._jobs.ids(live).intersection(run_ids))

    def _has_lasted(self, live: Live, since: dict[str, float]) -> bool:
        now = time.monotonic()
        return now - since.setdefault(live.job.name, now) >= DONE_SECONDS

    def _has_ended(self, run_id: str) -> bool:
        with contextlib.suppress(RunUnreadError):
            return self._store.record(run_id).state.ended
        return False

    def _keep_wish(self, run_id: str) -> None:
        """An app that finds the job ended has to know why."""
        with contextlib.suppress(OSError):
            if self._store.cancel_word(run_id) is None:
                self._store.ask_to_cancel(run_id)

    def _begin(self, run_id: str) -> bool:
        """Where there is no room for the mark, a run that no job has is nobody else's."""
        try:
            with self._jobs.copying.files_of(run_id):
                return self._store.begin(run_id)
        except OSError:
            if run_id in self._jobs.run_ids:
                raise
            return True

    def _begin_anew(self, live: Live, but: Collection[str] = ()) -> None:
        """What a job has begun that was ended for others."""
        run_ids = [record.run_id for record in self._jobs.records(live) if record.run_id not in but]
        self._outcomes.begin_anew([run_id for run_id in run_ids if self._outcomes.begun(run_id)])

    def _settle(self, engine: Engine, live: Live, end: End) -> None:
        """What becomes of the runs of a job that has ended."""
        run_ids = [record.run_id for record in self._jobs.records(live)]
        with self._jobs.reaching(engine.name):
            self._jobs.copying.collect_logs(engine, live, self.unended(run_ids))
        again = self._outcomes.settle(self._at_stake(run_ids, end), end)
        records = [self._store.record(run_id) for run_id in run_ids]
        left = [r for r in records if r.state is RunState.QUEUED and r.run_id not in self._ends.unwritten]
        may_wait = end.why == disk.FULL_SENTENCE and engine.shares_disk  # elsewhere each job may cost
        if not left or end.gave_way or may_wait:
            return
        if end.is_final:
            self._outcomes.give_up(left, end)
            return
        completed = any(record.state is RunState.COMPLETED for record in records)
        if (completed or not again) and self._outcomes.count(left[0].request.sweep_id, completed=completed):
            self._outcomes.give_up(left, given_up(end))

    def _at_stake(self, run_ids: Sequence[str], end: End) -> Sequence[str]:
        """Those of a job's runs that its end is the end of: what had begun, and where the job was lost before it began
        any, the first, so that no job is tried for ever."""
        begun = [run_id for run_id in run_ids if self._outcomes.begun(run_id)]
        records = [self._store.record(run_id) for run_id in run_ids]
        came_to_one = begun or any(record.state in (RunState.COMPLETED, RunState.FAILED) for record in records)
        if came_to_one or not end.lost or end.is_final:
            return begun
        return [record.run_id for record in records if record.state is RunState.QUEUED][:1]

    def _can_only_have_taken_too_long(self, engine: Engine, live: Live, end: End) -> bool:
        """After a restart nobody knows any more why RankViz has ended a job: for a run that nobody wanted, unless all
        its runs are still wanted."""
        is_known = live.job.name in self._being_ended
        may_have = end.by_us and not is_known and engine.is_limited and self._run_minutes < math.inf
        states = [record.state for record in self._jobs.records(live)] if may_have else []
        is_wanted = len(states) == len(live.job.attempts) and RunState.CANCELLED not in states
        return is_wanted and RunState.RUNNING in states

    def _of_one_that_took_too_long(self, end: End) -> End:
        error = f"This run took more than {self._run_minutes:g} minutes, the most that this server allows. {SHORTER}"
        return end._replace(why=error, lost=False, by_us=False)
