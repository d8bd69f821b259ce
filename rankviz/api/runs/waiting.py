"""Where a sweep that waits stands in the queue, and how long it will wait."""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rankviz import units
from rankviz.core.quantity import Range
from rankviz.errors import RankVizError
from rankviz.shared import rights
from rankviz.visitor import SERVER, acting_as

if TYPE_CHECKING:
    from rankviz.api.workspace import Workspace
    from rankviz.core.probe import ProbeRequest
    from rankviz.core.runs.record import Sweep
    from rankviz.core.runs.request import RunRequest
    from rankviz.jobs.queue import Batch
    from rankviz.store.journal import Record

KNOWN_SECONDS = 60.0
"""The time of what goes first is taken as known for so long: pages ask each second."""
MOST_KNOWN = 5_000
MOST_AT_ONCE = 40
"""Times that one answer finds out, a few milliseconds each; the next answers find out more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuePlace:
    """Where a sweep stands in the queue of all visitors."""

    ahead: int
    """Sweeps and probes that go first, the running one among them."""
    seconds: Range | None
    """Until its turn; None where the time of one of those is not known."""
    trouble: str = ""
    """Why nothing starts at all, as a sentence."""

    @property
    def sentence(self) -> str:
        """For who waits."""
        if self.trouble:
            return f"Waiting. {self.trouble}"
        if not self.ahead:
            return "Next in the queue."
        first = f"Place {self.ahead + 1:,} in the queue: {units.counted(self.ahead, 'sweep')} before it."
        return f"{first} {wait_in_words(self.seconds)}"


class Waiting:
    """The queue, for whoever asks: what goes before a sweep is told by number and time alone, whoever's it is.

    Args:
        time_of: What runs take on an engine.
        seconds_left: What a sweep that runs still takes.
    """

    def __init__(
        self,
        workspace: Workspace,
        time_of: Callable[[str, list[RunRequest]], Range | None],
        seconds_left: Callable[[Sweep], float | None],
    ):
        self._workspace, self._time_of, self._seconds_left = workspace, time_of, seconds_left
        self._known: dict[Hashable, tuple[float, Range | None]] = {}
        self._settings: dict[tuple[str, ...], Hashable] = {}

    def place(self, sweep_id: str) -> QueuePlace | None:
        """Return where a sweep or a probe stands; None where a worker has it, or nothing of it waits."""
        from rankviz.jobs import queue

        supervisor, store = self._workspace.supervisor, self._workspace.store
        records, with_job = store.unended(), supervisor.with_job or ()
        started = [record for record in records if record.state == "running" or record.run_id in with_job]
        mine = next((batch for batch in self._batches(records) if batch.sweep_id == sweep_id), None)
        if mine is None or any(record.request.sweep_id == sweep_id for record in started):
            return None
        engine = supervisor.engine_of(mine)
        waiting, running = self._on(engine, records)
        owners = {batch.owner for batch in waiting}
        served = queue.served_at(store.records(), owners, self._owner_of, now=time.time()) if len(owners) > 1 else {}
        order = queue.in_turn(waiting, served, Counter(self._owner_of(record.run_id) for record in running))
        before = order[: order.index(mine)]
        trouble = self._workspace.why_not_write() or rights.shown_text(self._workspace, supervisor.away.get(engine, ""))
        places = max(supervisor.places(engine), len(running))
        if len(running) + len(before) < places:
            return QueuePlace(ahead=0, seconds=Range(0.0, 0.0, 0.0), trouble=trouble)
        sweeps = len({record.request.sweep_id for record in running})
        return QueuePlace(
            ahead=sweeps + len(before), seconds=self._until_free(engine, running, before), trouble=trouble
        )

    def words(self, engine: str) -> str:
        """Return how many sweeps and probes of all visitors have not ended on an engine, and how long they take
        together, as a sentence for who has not started one; empty where there is none."""
        waiting, running = self._on(engine, self._workspace.store.unended())
        count = len(waiting) + len({record.request.sweep_id for record in running})
        if not count:
            return ""
        wait = "wait or run" if count > 1 else "waits or runs"
        seconds = self._until_free(engine, running, waiting)
        return f"{units.counted(count, 'sweep')} {wait} here now. {wait_in_words(seconds)}"

    def _owner_of(self, run_id: str) -> str:
        return self._workspace.store.listed_ownership(run_id).owner

    def _on(self, engine: str, records: Sequence[Record]) -> tuple[Sequence[Batch], Sequence[Record]]:
        """What waits for an engine, without the rest of what runs, and what runs there."""
        running = [record for record in records if record.state == "running"]
        sweeps, engine_of = {record.request.sweep_id for record in running}, self._workspace.supervisor.engine_of
        here = [
            batch for batch in self._batches(records) if batch.sweep_id not in sweeps and engine_of(batch) == engine
        ]
        return here, [record for record in running if record.engine in ("", engine)]

    def _batches(self, records: Sequence[Record]) -> Sequence[Batch]:
        from rankviz.jobs import queue

        return queue.batches(records, self._owner_of, self._workspace.supervisor.place_of)

    def _until_free(self, engine: str, running: Sequence[Record], batches: Sequence[Batch]) -> Range | None:
        """When the engine has a free place after all these."""
        with acting_as(SERVER):
            times = [self._running_time(record.request) for record in running] + self._times(engine, batches)
        places = max(self._workspace.supervisor.places(engine), len(running))
        return None if None in times else first_free(times, places)

    def _running_time(self, request: RunRequest | ProbeRequest) -> Range | None:
        if hasattr(request, "time_limit_seconds"):
            return Range(0.0, request.time_limit_seconds, request.time_limit_seconds)
        left = self._seconds_left(self._workspace.store.sweep(request.sweep_id))
        return None if left is None else Range(0.0, left, left)

    def _times(self, engine: str, batches: Sequence[Batch]) -> list[Range | None]:
        """Of each on an engine. What takes as long as another one is found out once."""
        times, since, found = [], time.monotonic() - KNOWN_SECONDS, 0
        for batch in batches:
            if batch.run_ids not in self._settings:
                self._settings[batch.run_ids] = _setting(batch)
            key = engine, self._settings[batch.run_ids]
            at, known = self._known.get(key, (-math.inf, None))
            if at < since and found < MOST_AT_ONCE:
                found += 1
                known = self._time(engine, batch)
                self._known[key] = time.monotonic(), known
            times.append(known)
        for known in (self._known, self._settings):
            while len(known) > MOST_KNOWN:
                del known[next(iter(known))]
        return times

    def _time(self, engine: str, batch: Batch) -> Range | None:
        """What it should take, and at most what the server lets it take."""
        requests = [record.request for record in batch.records]
        if hasattr(requests[0], "time_limit_seconds"):
            return self._running_time(requests[0])
        try:
            seconds = self._time_of(engine, requests)
        except RankVizError:
            return None  # its base or its data has gone; the worker will say so
        if seconds is None or (minutes := self._workspace.limits.run_minutes) is None:
            return seconds
        most = 60.0 * minutes * len(requests)
        return Range(*(min(each, most) for each in (seconds.low, seconds.expected, seconds.high)))


def _setting(batch: Batch) -> Hashable:
    """What its time depends on."""
    requests = [record.request for record in batch.records]
    if hasattr(requests[0], "time_limit_seconds"):
        return requests[0].time_limit_seconds
    return tuple(replace(request, created_at=0.0, run_id="", sweep_id="") for request in requests)


def wait_in_words(seconds: Range | None) -> str:
    """Return the wait, at most, since whoever goes first may give up their turn at once."""
    return f"Expected wait: {'not known' if seconds is None else f'up to {units.duration(seconds.high)}'}."


def first_free(times: Sequence[Range], places: int) -> Range:
    """Return when one of so many places is free after these jobs, each begun as soon as there is a place for it."""

    def free(seconds_of: Sequence[float]) -> float:
        free_at = [0.0] * places
        for seconds in seconds_of:
            heapq.heapreplace(free_at, free_at[0] + seconds)
        return free_at[0]

    ends = [(each.low, each.expected, each.high) for each in times]
    return Range(*(free(each) for each in zip(*ends, strict=True)))
