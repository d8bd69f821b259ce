"""Progress of sweeps, their places in the queue of all visitors, and the reasons why their runs wait."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

from rankviz import units
from rankviz.api.workspace import Operations
from rankviz.core.quantity import Range
from rankviz.core.runs.record import AFTER_OTHERS, RunState, cancel_in_words, why_it_waits
from rankviz.core.runs.sweep_time import progress_of
from rankviz.jobs import queue
from rankviz.shared import rights
from rankviz.visitor import SERVER, acting_as

if TYPE_CHECKING:
    from rankviz.core.probe import ProbeRecord
    from rankviz.core.runs.record import RunRecord, Sweep
    from rankviz.core.runs.sweep_time import SweepProgress


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuePlace:
    """Place of a sweep or probe in the queue of all visitors: `ahead` go first, and it starts in so many `seconds`."""

    ahead: int
    """Number of sweeps and probes that go first, running ones included."""
    seconds: Range | None
    """Seconds until the sweep starts; None where the time of an earlier sweep or probe is not known."""
    trouble: str = ""
    """Sentence on why nothing starts at all; empty if nothing is wrong."""

    @property
    def sentence(self) -> str:
        """Place and longest wait as a sentence. The wait may be shorter, since others may cancel."""
        if self.trouble:
            return f"Waiting. {self.trouble}"
        if not self.ahead:
            return "Next in the queue."
        wait = "not known" if self.seconds is None else f"up to {units.duration(self.seconds.high)}"
        before = units.counted(self.ahead, "sweep")
        return f"Place {self.ahead + 1:,} in the queue: {before} before it. Expected wait: {wait}."


class Progress(Operations):
    """Part of Runs: the progress of sweeps, and why their runs wait."""

    def follow(self, sweep_id: str, every_seconds: float = 0.3) -> Iterator[Sweep]:
        """Yield the sweep's current state repeatedly until all its runs have ended."""
        while True:
            sweep = self._api.runs.sweep(sweep_id)
            yield sweep
            if sweep.ended:
                return
            self._workspace.work_queue()  # whoever held the queue may have gone meanwhile
            time.sleep(every_seconds)

    def progress(self, sweep: Sweep) -> SweepProgress:
        """Return progress and remaining time of a sweep; no time while a cancel is pending or the disk full."""
        progress = progress_of(sweep, time.time(), None if sweep.ended else self._api.runs.time_of_records(sweep.runs))
        if not sweep.running:
            return progress
        trouble = self._workspace.why_not_write()
        if not trouble and self.cancel_is_pending(sweep.runs):
            trouble = cancel_in_words(sweep.runs)
        return replace(progress, trouble=trouble, seconds_left=None, share=None) if trouble else progress

    def place_in_words(self, sweep_id: str) -> str:
        """Return a sentence with a waiting sweep's or probe's place in the queue and its wait."""
        place = self.queue_place(sweep_id)
        return place.sentence if place else "It starts when a worker is free."

    def why_waits(self, run: RunRecord) -> str:
        """Return why a run waits: a pending cancel, its engine's reason, or its place in the queue; else empty."""
        return self.why_each_waits(self._api.runs.sweep(run.request.sweep_id)).get(run.run_id, "")

    def why_each_waits(self, sweep: Sweep) -> Mapping[str, str]:
        """Return why each run of a sweep waits, by run id; runs that do not wait are left out."""
        return {run_id: " ".join(reasons) for run_id, reasons in self._reasons(sweep).items() if reasons}

    def why_sweep_waits(self, sweep: Sweep) -> str:
        """Return why the runs of a sweep wait, except that they wait for another run of the same sweep."""
        reasons = dict.fromkeys(reason for each in self._reasons(sweep).values() for reason in each)
        return " ".join(reason for reason in reasons if reason != AFTER_OTHERS)

    def _reasons(self, sweep: Sweep) -> Mapping[str, Sequence[str]]:
        """Return why each unended run waits, by id: a pending cancel, its journal's or sweep's reason, its place."""
        unended = [run for run in sweep.runs if not run.state.ended and not sweep.recorded]
        if not unended:
            return {}
        with_job = self._workspace.supervisor.with_job
        if with_job is None:
            with_job = {run.run_id for run in unended if run.place and run.place.job}
        in_queue = not sweep.running and not any(run.run_id in with_job or run.waits for run in unended)
        place = self.place_in_words(sweep.sweep_id) if in_queue else ""

        def of(run: RunRecord) -> Iterator[str]:
            yield cancel_in_words([run]) if self.cancel_is_pending([run]) else ""
            yield from why_it_waits(run, sweep, has_job=run.run_id in with_job)
            yield place

        return {run.run_id: [*filter(None, of(run))] for run in unended}

    def cancel_is_pending(self, runs: Sequence[RunRecord]) -> bool:
        """Return True where a cancel was requested for every run that has not ended yet, and there is such a run."""
        unended = [run for run in runs if not run.state.ended]
        return bool(unended) and all(self._workspace.store.cancel_word(run.run_id) is not None for run in unended)

    def queue_place(self, sweep_id: str) -> QueuePlace | None:
        """Return the place of a sweep or probe in the queue of all visitors; None if it has started, or no run of it
        waits. The place tells number and time of earlier entries, not their owners."""
        self._workspace.rights.seen(sweep_id)
        supervisor, store = self._workspace.supervisor, self._workspace.store
        records, with_job = store.unended(), supervisor.with_job or ()
        running = [record for record in records if record.state is RunState.RUNNING]
        started = {record.request.sweep_id for record in records if record.run_id in with_job}
        at_work = {record.request.sweep_id for record in running}
        jobs = queue.waiting_jobs(records, store)
        mine = next((job for job in jobs if job.sweep_id == sweep_id), None)
        if mine is None or sweep_id in started | at_work:
            return None
        engine = mine.engine or supervisor.default
        there = [job for job in jobs if (job.engine or supervisor.default) == engine]
        waiting = [job for job in there if job.sweep_id not in at_work]
        running = [record for record in running if record.engine in ("", engine)]
        served = queue.served_at(store.records(), store, now=time.time())
        at_once = Counter(store.listed_ownership(record.run_id).owner for record in running)
        order = queue.in_turn(waiting, served, at_once)
        before = order[: order.index(mine)]
        trouble = self._workspace.why_not_write() or rights.shown(self._workspace, supervisor.away.get(engine, ""))
        places = max(supervisor.places(engine), len(running))
        if len(running) + len(before) < places:
            return QueuePlace(ahead=0, seconds=Range(0.0, 0.0, 0.0), trouble=trouble)
        sweeps = {record.request.sweep_id: record for record in running}
        with acting_as(SERVER):
            queued = {record.run_id: record for record in records}
            times = [
                *map(self._left, sweeps.values()),
                *(self._time([queued[r] for r in job.run_ids]) for job in before),
            ]
        seconds = None if None in times else reduce(Range.plus, times).times(1 / places)
        return QueuePlace(ahead=len(sweeps) + len(before), seconds=seconds, trouble=trouble)

    def _left(self, record: RunRecord | ProbeRecord) -> Range | None:
        """Return the seconds until the sweep of a running run, or a probe, ends at the latest."""
        left = getattr(record.request, "time_limit_seconds", None)
        if left is None:
            left = self.progress(self._workspace.store.sweep(record.request.sweep_id)).seconds_left
        return None if left is None else Range(0.0, left, left)

    def _time(self, records: Sequence[RunRecord | ProbeRecord]) -> Range | None:
        """Return the expected seconds of a sweep's runs or a probe, within the server's limit; None if not known."""
        if hasattr(records[0].request, "time_limit_seconds"):
            return self._left(records[0])
        time, minutes = self._api.runs.time_of_records(records), self._workspace.limits.run_minutes
        if time is None or minutes is None:
            return time and time.total
        most = 60.0 * minutes * len(records)
        return Range(*(min(each, most) for each in (time.total.low, time.total.expected, time.total.high)))
