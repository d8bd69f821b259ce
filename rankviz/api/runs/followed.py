"""Runs and sweeps as they go: how far they are, where they stand in the queue, why they wait."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from rankviz.api.models import Models
from rankviz.api.runs.expected import ExpectedRuns
from rankviz.api.runs.locations import Locations, Machines
from rankviz.api.runs.measured import Measured
from rankviz.api.runs.stored import RunSummary
from rankviz.api.runs.waiting import QueuePlace, Waiting
from rankviz.api.workspace import Workspace
from rankviz.core.runs.run_time import device_time
from rankviz.core.runs.words import AFTER_OTHERS, cancel_in_words, why_it_waits
from rankviz.shared.quota import Quota

if TYPE_CHECKING:
    from rankviz.core.quantity import Range
    from rankviz.core.runs.record import RunRecord, Sweep
    from rankviz.core.runs.request import RunRequest
    from rankviz.core.runs.sweep_time import SweepProgress

MOST_SHARE = 0.04
"""Of a processor, for following a sweep."""
LONGEST_PAUSE = 5.0


class _Standing(NamedTuple):
    """Progress and queue place of one sweep."""

    unended: Sequence[RunRecord]
    reasons: Mapping[str, str]
    """Why each of those has not begun, as its journal and its sweep say it; empty where they say nothing."""
    with_engine: Set[str]
    """Those that an engine has."""
    unwanted: Sequence[RunRecord]
    """Those that somebody asks to cancel."""


class FollowedRuns(ExpectedRuns):
    """What becomes of runs, read again each time."""

    def __init__(self, workspace: Workspace, models: Models, measured: Measured, quota: Quota):
        super().__init__(workspace, models, measured, quota)
        self._machines, self._locations = Machines(workspace), Locations(workspace)
        self._waiting = Waiting(workspace, self._seconds_on, lambda sweep: self._pace(sweep).seconds_left)

    def follow(self, sweep_id: str, every_seconds: float = 0.3) -> Iterator[Sweep]:
        """The sweep again and again until all its runs have ended; less often where a look takes long, such as among
        thousands of runs."""
        used = 0.0
        for look in itertools.count():
            began = time.process_time()
            sweep = self.sweep(sweep_id)
            yield sweep
            if sweep.ended:
                return
            self._workspace.work_queue()  # whoever held the queue may have gone meanwhile
            time.sleep(max(every_seconds, min(LONGEST_PAUSE, used / MOST_SHARE)))
            used = time.process_time() - began if look else 0.0  # the first one reads the runs folder

    def progress(self, sweep: Sweep) -> SweepProgress:
        """Return how far a sweep is and how long it still takes, from its own runs and from earlier ones on its
        machine."""
        progress = self._pace(sweep)
        if not sweep.running:
            return progress
        trouble = self._workspace.why_not_write()
        if not trouble and self.are_unwanted(sweep.runs):
            trouble = cancel_in_words(sweep.runs, sweep.runs)
        if trouble:
            return replace(progress, trouble=trouble, stage_seconds_left=None, seconds_left=None, share=None)
        return progress

    def _pace(self, sweep: Sweep) -> SweepProgress:
        """The same, whatever anybody wishes."""
        from rankviz.core.runs.sweep_time import progress_of

        environment = next((run.environment for run in sweep.runs if run.environment), None)
        if environment is None and not sweep.recorded:
            environment = self._machines.environment(self._machines.destination(sweep).engine, look=False)
        earlier = self._measured.completed_runs(environment) if environment else ()
        return progress_of(sweep, time.time(), earlier)

    def waiting(self, sweep_id: str) -> QueuePlace | None:
        """Return the place of a sweep or a probe in the queue of all visitors, and how long it will wait; None where it
        does not wait."""
        self._workspace.rights.seen(sweep_id)
        return self._waiting.place(sweep_id)

    def why_waits(self, run: RunRecord) -> str:
        """Why a run has not begun, in sentences: what its engine says, or its place in the queue; that somebody asks to
        cancel it; empty where it waits for nothing."""
        return self.why_each_waits(self.sweep(run.request.sweep_id)).get(run.run_id, "")

    def why_each_waits(self, sweep: Sweep) -> Mapping[str, str]:
        """Say why each run of a sweep waits, by its id."""
        standing = self._standing(sweep)
        place = functools.cache(lambda: self.place_in_words(sweep.sweep_id))
        each = {}
        for run in standing.unended:
            asked = cancel_in_words([run], [run]) if run in standing.unwanted else ""
            queued = "" if sweep.running or run.run_id in standing.with_engine else place()
            if words := " ".join(filter(None, [asked, standing.reasons[run.run_id], queued])):
                each[run.run_id] = words
        return each

    def why_sweep_waits(self, sweep: Sweep) -> str:
        """Say why the runs of a sweep wait, without those that wait for one another."""
        standing = self._standing(sweep)
        if not standing.unended:
            return ""
        reasons = [reason for reason in dict.fromkeys(standing.reasons.values()) if reason != AFTER_OTHERS]
        place = "" if sweep.running or standing.with_engine else self.place_in_words(sweep.sweep_id)
        return " ".join(filter(None, [cancel_in_words(standing.unwanted, standing.unended), *reasons, place]))

    def are_unwanted(self, runs: Sequence[RunRecord]) -> bool:
        """Tell whether some of these runs have not ended, and somebody asks to cancel all of those."""
        unended = [run for run in runs if not run.state.ended]
        return bool(unended) and len(self._unwanted(unended)) == len(unended)

    def _unwanted(self, unended: Sequence[RunRecord]) -> Sequence[RunRecord]:
        return [run for run in unended if self._workspace.store.cancel_word(run.run_id) is not None]

    def _standing(self, sweep: Sweep) -> _Standing:
        unended = [run for run in sweep.runs if not run.state.ended and not sweep.recorded]
        with_job = self._workspace.supervisor.with_job
        if with_job is None:
            with_job = {run.run_id for run in unended if run.place and run.place.job}
        reasons = {run.run_id: why_it_waits(run, sweep, has_job=run.run_id in with_job) for run in unended}
        with_engine = {run.run_id for run in unended if run.run_id in with_job or run.waits}
        return _Standing(unended, reasons, with_engine, self._unwanted(unended))

    def place_in_words(self, sweep_id: str) -> str:
        """Say where a waiting sweep or probe stands in the queue, and how long it will wait."""
        place = self.waiting(sweep_id)
        return place.sentence if place else "It starts when a worker is free."

    def queue_words(self, engine: str = "") -> str:
        """Say how many sweeps of all visitors wait or run on an engine, and how long one more would wait, as a
        sentence; empty where there is none."""
        return self._waiting.words(self._machines.engine(engine).name)

    def _seconds_on(self, engine: str, runs: Sequence[RunRequest]) -> Range | None:
        environment = self._machines.environment(engine, look=False)
        return self.seconds_of(runs, environment) if environment else None

    def summary(self, run_id: str) -> RunSummary:
        """One run: what was requested and measured, with the estimate beside it."""
        (summary,) = self.summaries([self.get(run_id)])
        return summary

    def summaries(self, runs: Sequence[RunRecord]) -> Iterator[RunSummary]:
        """The same of several runs, as `get`, `sweep` and `sweeps` have them, each as it is asked for."""
        now = time.time()
        for run, estimate in zip(runs, self.expected_runs(runs), strict=True):
            yield RunSummary(
                record=run,
                estimate=estimate,
                device_time=device_time([run], now),
                place=self._locations.of(run),
                folder=self.folder(run.run_id),
            )
