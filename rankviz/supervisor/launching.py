"""Gives what waits to engines that have room, visitor by visitor."""

import time
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import NamedTuple

from rankviz.core.probe import ProbeRecord
from rankviz.core.runs.events import Attempt, following
from rankviz.engines import End, Engine, Job
from rankviz.errors import OF_NAMES, EngineError, UserError, quoted
from rankviz.machine import disk
from rankviz.store import RunStore
from rankviz.supervisor import turns
from rankviz.supervisor.jobs import NOT_STARTED, Jobs
from rankviz.supervisor.outcomes import Outcomes, Record
from rankviz.supervisor.turns import Batch, Place

FOR_A_SOUND_PLACE = "It waits for a place that has not just lost its worker."


class Queue(NamedTuple):
    """What waits."""

    made_of: Hashable = None
    by_engine: Mapping[str, Sequence[Batch]] = {}
    served: Mapping[str, float] = {}
    """When visitors were served last."""


class Launching:
    """What starts next.

    Args:
        default: The engine of runs that name none.
        split_runs: A sweep is divided among free places of an engine as long as each part has so many runs, since each
            loads the base once more.
        unwritten: Runs of which it is still to be written down how they ended.
    """

    def __init__(
        self,
        store: RunStore,
        jobs: Jobs,
        outcomes: Outcomes,
        *,
        default: str,
        split_runs: int,
        unwritten: Collection[str],
    ):
        self._store, self._jobs, self._outcomes = store, jobs, outcomes
        self._default, self.split_runs = default, split_runs
        self._unwritten = unwritten
        self._served: dict[str, float] = {}
        self._queue = Queue()
        self.places: dict[str, int] = {}
        """How many jobs an engine had and would have started when it was last asked, by its name."""

    def launch(self) -> None:
        """Start what there is room for."""
        live, rooms = [engine.name for engine, _ in self._jobs], {}
        for name, engine in self._jobs.engines.items():
            if name not in self._jobs.away:
                with self._jobs.reaching(name):
                    rooms[name] = engine.room()
        self.places = {name: live.count(name) + room for name, room in rooms.items()}
        if not any(room > 0 for room in rooms.values()):
            return
        queue = self._line()
        for name, batches in queue.by_engine.items():
            if name in rooms:
                with self._jobs.reaching(name):
                    self._fill(self._jobs.engines[name], batches, queue.served)
            elif name not in self._jobs.engines:
                end = End(why=f"There is no engine {quoted(name)} here. Known: {', '.join(self._jobs.engines)}.")
                self._outcomes.give_up([record for batch in batches for record in batch.records], end)

    def waiting(self) -> Mapping[str, Sequence[Batch]]:
        """What no job has, by the name of its engine."""
        return self._line().by_engine

    def engine_of(self, batch: Batch) -> str:
        """Its name."""
        return self.place_of(batch.run_ids[0])[0] or self._default

    def place_of(self, run_id: str) -> Place:
        """Where it is to be."""
        there = self._store.listed_destination(run_id)
        return there.engine, tuple(sorted(there.options.items()))

    def owner_of(self, run_id: str) -> str:
        return self._store.listed_ownership(run_id).owner

    def places_of_owners(self, engine: Engine) -> Mapping[str, int]:
        """How many jobs each visitor has there now."""
        here = [live for each, live in self._jobs if each is engine and live.end is None and live.job.attempts]
        return Counter(self.owner_of(live.job.attempts[0].run_id) for live in here)

    def _line(self) -> Queue:
        """What no job has, as it stands: made anew where something came, went, began or ended."""
        in_jobs, unwritten = frozenset(self._jobs.run_ids), frozenset(self._unwritten)
        if self._queue.made_of != (self._store.turns(), in_jobs, unwritten):
            with self._store.publishing():
                free = [
                    record
                    for record in self._store.unended()
                    if record.run_id not in in_jobs
                    and record.run_id not in unwritten
                    and not self._store.is_begun(record.run_id)
                ]
                made_of = self._store.turns(), in_jobs, unwritten
            waiting = turns.batches(free, self.owner_of, self.place_of)
            owners = {batch.owner for batch in waiting}
            served: Mapping[str, float] = {}
            if len(owners) > 1:
                served = turns.served_at(self._store.records(), owners, self.owner_of, now=time.time())
            by_engine: dict[str, list[Batch]] = {}
            for batch in waiting:
                by_engine.setdefault(self.engine_of(batch), []).append(batch)
            self._queue = Queue(made_of, by_engine, served)
        return self._queue

    def _fill(self, engine: Engine, batches: Sequence[Batch], served: Mapping[str, float]) -> None:
        room = engine.room()
        if room < 1:
            return
        sound = engine.sound_room()
        waiting = batches if sound >= room else [part for batch in batches for part in batch.apart()]
        places = self.places_of_owners(engine)
        order = turns.in_turn(waiting, {**served, **self._served}, places)
        for part in turns.parts(order, room, places, least=self.split_runs) if engine.divides else order:
            if room > 0 and sound <= 0 and part.was_lost:
                self._jobs.wait(engine, [self._next_attempt(record) for record in part.records], FOR_A_SOUND_PLACE)
                continue
            with self._jobs.sparing():
                if room > 0 and self._start(engine, part):
                    room, sound = room - 1, sound - 1

    def _start(self, engine: Engine, batch: Batch) -> bool:
        job = Job(
            attempts=tuple(self._next_attempt(record) for record in batch.records),
            kind="probe" if isinstance(batch.records[0], ProbeRecord) else "finetune",
            owner=batch.owner,
            options=dict(self.place_of(batch.run_ids[0])[1]),
        )
        try:
            live = self._jobs.start(engine, job)
        except (OSError, EngineError, UserError) as error:
            if isinstance(error, OSError) and (error.errno not in OF_NAMES or disk.trouble(self._store.home)):
                raise  # it is tried again
            because = "" if isinstance(error, EngineError) else NOT_STARTED
            self._outcomes.give_up(batch.records, End(why=f"{because}{str(error).rstrip('.')}."))
            return False
        if live is not None:
            self._served[batch.owner] = time.time()
        return live is not None

    def _next_attempt(self, record: Record) -> Attempt:
        """One that an engine elsewhere had may still live there, so its number is not given again."""
        current = Attempt(record.run_id, record.attempt)
        if self._jobs.was_refused(current):
            return current
        engine = self._jobs.engines.get(record.engine)
        used = bool(record.engine) and (engine is None or not engine.shares_disk)
        return Attempt(record.run_id, following(record.attempt)) if used else current
