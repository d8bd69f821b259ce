"""Whose turn it is, and what starts next.

Among visitors, whoever has fewest places goes first, then who was served longest ago; of each visitor, the oldest sweep
first. When somebody was served last is read from the journals, so that a restart changes no order.
"""

import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from rankviz.core.probe import ProbeRecord
from rankviz.core.runs.events import Attempt, following, queued_at
from rankviz.core.runs.record import RunState
from rankviz.errors import OF_NAMES, EngineError, UserError, quoted
from rankviz.jobs.ending import Outcomes
from rankviz.jobs.engine import End, Engine, Job
from rankviz.jobs.live import NOT_STARTED, LiveJobs
from rankviz.machine import disk
from rankviz.store import RunStore
from rankviz.store.journal import Record

Goal = tuple[str, tuple[tuple[str, str], ...]]
"""Where a run is to be: the name of an engine, empty for that of the settings, and the options for it."""
NO_PLACES: Mapping[str, int] = MappingProxyType({})


class Batch(NamedTuple):
    """Runs for one worker: the waiting ones of a sweep, or a probe."""

    owner: str
    sweep_id: str
    records: tuple[Record, ...]

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(record.run_id for record in self.records)


def batches(records: Iterable[Record], owner_of: Callable[[str], str], goal_of: Callable[[str], Goal]) -> list[Batch]:
    """Group what waits by owner, sweep and goal; what was queued first comes first. A run that was resumed waits since
    then."""
    waiting: dict[tuple[str, str, Goal], list[Record]] = {}
    for record in sorted(records, key=queued_at):
        if record.state is RunState.QUEUED:
            key = owner_of(record.run_id), record.request.sweep_id, goal_of(record.run_id)
            waiting.setdefault(key, []).append(record)
    return [Batch(owner, sweep_id, tuple(group)) for (owner, sweep_id, _), group in waiting.items()]


def served_at(
    records: Iterable[Record], owners: Iterable[str], owner_of: Callable[[str], str], *, now: float
) -> dict[str, float]:
    """Return when a run of each of these visitors began last, unix seconds; without those of whom none has. A time in
    the future counts as now."""
    wanted, last = set(owners), {}
    for record in records:
        if record.started_at is not None and (owner := owner_of(record.run_id)) in wanted:
            last[owner] = max(last.get(owner, -math.inf), min(record.started_at, now))
    return last


def in_turn(
    waiting: Sequence[Batch], served: Mapping[str, float], places: Mapping[str, int] = NO_PLACES
) -> list[Batch]:
    """Return the order in which batches start if nothing more comes and nothing ends.

    places: How many places each visitor has now.
    """
    lines: dict[str, deque[tuple[int, Batch]]] = {}
    for number, batch in enumerate(waiting):
        lines.setdefault(batch.owner, deque()).append((number, batch))
    has, order = {owner: places.get(owner, 0) for owner in lines}, []
    while lines:
        owner = min(lines, key=lambda each: (has[each], served.get(each, -math.inf), lines[each][0][0]))
        order.append(lines[owner].popleft()[1])
        has[owner] += 1
        if not lines[owner]:
            del lines[owner]
    return order


def parts(order: Sequence[Batch], room: int, places: Mapping[str, int] = NO_PLACES, *, least: int) -> list[Batch]:
    """Divide batches among free places where fewer wait: into parts alike in size with at least `least` runs each. Of
    the visitor who would have fewest places, the batch whose parts are largest gets one more.

    places: How many places each visitor has now.
    """
    numbers, has = [1] * len(order), Counter(places)
    has.update(batch.owner for batch in order)
    while sum(numbers) < room:
        divisible = [at for at, batch in enumerate(order) if len(batch.records) >= least * (numbers[at] + 1)]
        if not divisible:
            break
        at = min(divisible, key=lambda at: (has[order[at].owner], -len(order[at].records) / numbers[at]))
        numbers[at] += 1
        has[order[at].owner] += 1
    divided = []
    for batch, number in zip(order, numbers, strict=True):
        ends = [math.ceil(len(batch.records) * part / number) for part in range(number + 1)]
        divided += [batch._replace(records=batch.records[start:end]) for start, end in itertools.pairwise(ends)]
    return divided


class RunQueue:
    """Gives what waits to engines that have room, visitor by visitor.

    Args:
        default: The engine of runs that name none.
        split_runs: A sweep is divided among free places of an engine as long as each part has so many runs, since each
            loads the base once more.
    """

    def __init__(self, store: RunStore, jobs: LiveJobs, outcomes: Outcomes, *, default: str, split_runs: int):
        self._store, self._jobs, self._outcomes = store, jobs, outcomes
        self._default, self.split_runs = default, split_runs
        self._served: dict[str, float] = {}
        self._state: Hashable = None
        self._waiting: dict[str, list[Batch]] = {}
        self._began: Mapping[str, float] = {}
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
        self._look()
        for name, waiting in self._waiting.items():
            if rooms.get(name, 0) > 0:
                with self._jobs.reaching(name):
                    self._fill(self._jobs.engines[name], waiting, rooms[name])
            elif name not in self._jobs.engines:
                end = End(why=f"There is no engine {quoted(name)} here. Known: {', '.join(self._jobs.engines)}.")
                self._outcomes.give_up([record for batch in waiting for record in batch.records], end)

    def engine_of(self, batch: Batch) -> str:
        """Return the name of the engine that is to have a batch."""
        return self.goal_of(batch.run_ids[0])[0] or self._default

    def goal_of(self, run_id: str) -> Goal:
        """Return where a run is to be."""
        there = self._store.listed_destination(run_id)
        return there.engine, tuple(sorted(there.options.items()))

    def _owner_of(self, run_id: str) -> str:
        return self._store.listed_ownership(run_id).owner

    def _look(self) -> None:
        """See what no job has, where something came, went, began or ended since."""
        in_jobs, unwritten = frozenset(self._jobs.run_ids), frozenset(self._outcomes.unwritten)
        if self._state == (self._store.turns(), in_jobs, unwritten):
            return
        with self._store.publishing():
            free = [
                record
                for record in self._store.unended()
                if record.run_id not in in_jobs | unwritten and not self._store.is_begun(record.run_id)
            ]
            self._state = self._store.turns(), in_jobs, unwritten
        waiting = batches(free, self._owner_of, self.goal_of)
        owners = {batch.owner for batch in waiting}
        self._began = {}
        if len(owners) > 1:
            self._began = served_at(self._store.records(), owners, self._owner_of, now=time.time())
        self._waiting = {}
        for batch in waiting:
            self._waiting.setdefault(self.engine_of(batch), []).append(batch)

    def _fill(self, engine: Engine, waiting: Sequence[Batch], room: int) -> None:
        here = [live for each, live in self._jobs if each is engine and live.end is None and live.job.attempts]
        places = Counter(self._owner_of(live.job.attempts[0].run_id) for live in here)
        order = in_turn(waiting, {**self._began, **self._served}, places)
        for batch in parts(order, room, places, least=self.split_runs) if engine.divides else order:
            with self._jobs.sparing():
                if room > 0 and self._start(engine, batch):
                    room -= 1

    def _start(self, engine: Engine, batch: Batch) -> bool:
        job = Job(
            attempts=tuple(self._next_attempt(record) for record in batch.records),
            kind="probe" if isinstance(batch.records[0], ProbeRecord) else "finetune",
            owner=batch.owner,
            options=dict(self.goal_of(batch.run_ids[0])[1]),
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
        if self._jobs.was_declined(current):
            return current
        engine = self._jobs.engines.get(record.engine)
        used = bool(record.engine) and (engine is None or not engine.shares_disk)
        return Attempt(record.run_id, following(record.attempt)) if used else current
