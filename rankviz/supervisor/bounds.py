"""How long jobs may go on: a run to its limit, a sweep until its turn is over, and while others' places are idle.

Counted from when this supervisor saw it begin, by a clock that nobody sets. Of a run that cannot be read now counts
what is known of it, so that no limit depends on a file.
"""

import math
from collections.abc import Callable

from rankviz.core.runs.record import RunState
from rankviz.engines import Engine, Live
from rankviz.store.index import viewing
from rankviz.supervisor.jobs import Jobs
from rankviz.supervisor.launching import Launching
from rankviz.supervisor.stopwatch import Stopwatch


class Bounds:
    """Of all jobs.

    Args:
        end_run: Ends a job in the middle of this run.
    """

    def __init__(
        self,
        jobs: Jobs,
        launching: Launching,
        *,
        run_minutes: float,
        turn_minutes: float,
        end_run: Callable[[Engine, Live, str], None],
    ):
        self._jobs, self._launching = jobs, launching
        self._run_minutes, self._turn_minutes = run_minutes, turn_minutes
        self._end_run = end_run
        self._clocks: dict[str, tuple[Stopwatch, Stopwatch]] = {}
        self._dividing: set[str] = set()
        """Jobs that were asked to give way to their own sweep."""

    def check(self) -> None:
        """End the run that takes longer than it may, and ask jobs to end after their run where others wait."""
        with viewing():
            jobs = [(engine, live) for engine, live in self._jobs if live.end is None and self._has_begun(live)]
        self._clocks = {live.job.name: self._clocks.get(live.job.name, (Stopwatch(), Stopwatch())) for _, live in jobs}
        over = []
        for engine, live in jobs:
            turn, run = self._clocks[live.job.name]
            running = self._jobs.running(live) if engine.is_limited and self._run_minutes < math.inf else ""
            if running and run.minutes(running) >= self._run_minutes:
                with self._jobs.sparing():
                    self._end_run(engine, live, running)
            elif turn.minutes(live.job.name) >= self._turn_minutes:
                over.append((engine, live))
        self._take_turns(over)
        self._divide(jobs)

    def _has_begun(self, live: Live) -> bool:
        """Whether it has its place: one that waits in the queue of a cluster has none, and nothing to give. One that
        has begun may wait too, as while its cluster does not answer."""
        has_run = (record.attempt_seconds is not None for record in self._jobs.each_record(live))
        return bool(live.job.attempts) and (not live.waits or any(has_run))

    def forget(self) -> None:
        self._clocks.clear()
        self._dividing.clear()

    def _take_turns(self, over: list[tuple[Engine, Live]]) -> None:
        """As many jobs whose turn is over give way as visitors wait who have none on that engine."""
        if not over:
            return
        waiting = self._launching.waiting()
        for name, engine in self._jobs.engines.items():
            owners = {batch.owner for batch in waiting.get(name, ())} - self._launching.places_of_owners(engine).keys()
            with self._jobs.reaching(name):
                for live in [live for each, live in over if each is engine][: len(owners)]:
                    engine.give_way(live)

    def _divide(self, jobs: list[tuple[Engine, Live]]) -> None:
        """Where places have become free and nothing waits for that engine, sweeps give way to themselves: the one with
        most left first, and no more than these places are enough for."""
        self._dividing &= {live.job.name for _, live in jobs}
        least = self._launching.split_runs
        for name, engine in self._jobs.engines.items():
            if not engine.divides or name in self._jobs.away:
                continue
            with viewing():
                left = [(self._left(live), live) for each, live in jobs if each is engine]
            worth_two = [(runs, live) for runs, live in left if runs >= 2 * least]
            if not worth_two or self._launching.waiting().get(name):
                continue
            worth_two.sort(key=lambda each: (each[1].job.name not in self._dividing, -each[0]))
            with self._jobs.reaching(name):
                room = engine.sound_room()
                for runs, live in worth_two:
                    if room > 0 or live.job.name in self._dividing:
                        engine.give_way(live)
                        self._dividing.add(live.job.name)
                        room -= runs // least - 1

    def _left(self, live: Live) -> int:
        return sum(record.state is RunState.QUEUED for record in self._jobs.records(live))
