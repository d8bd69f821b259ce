"""Where a sweep that waits stands in the queue, and how long it will wait."""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rankviz import units
from rankviz.api.visitors import rights
from rankviz.core.quantity import Range
from rankviz.errors import RankVizError
from rankviz.visitor import SERVER, acting_as

if TYPE_CHECKING:
    from rankviz.api.workspace import Workspace
    from rankviz.core.probe import ProbeRequest
    from rankviz.core.runs.record import Sweep
    from rankviz.core.runs.request import RunRequest
    from rankviz.supervisor.turns import Batch

KNOWN_SECONDS = 60.0
"""So long is the time of what goes first taken as known: pages ask each second."""
MOST_KNOWN = 5_000
MOST_AT_ONCE = 40
"""Times that one answer finds out, a few milliseconds each; the next answers find out more."""
NOW = Range(0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """In the queue of all visitors."""

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
    """What goes before a sweep is told by number and time alone, whoever's it is."""

    def __init__(
        self,
        workspace: Workspace,
        time_of: Callable[[str, list[RunRequest]], Range | None],
        seconds_left: Callable[[Sweep], float | None],
    ):
        self._workspace = workspace
        self._time_of = time_of
        self._seconds_left = seconds_left
        self._known: dict[Hashable, tuple[float, Range | None]] = {}
        self._settings: dict[tuple[str, ...], Hashable] = {}

    def place(self, sweep_id: str) -> Place | None:
        """Of a sweep or a probe; None where a worker has it, or nothing of it waits."""
        from rankviz.supervisor import turns

        store = self._workspace.store
        records = store.unended()
        running = [record for record in records if record.state == "running"]
        with_job = self._workspace.supervisor.with_job or ()
        started = [record for record in records if record.state == "running" or record.run_id in with_job]
        if any(record.request.sweep_id == sweep_id for record in started):
            return None

        def owner_of(run_id: str) -> str:
            return store.listed_ownership(run_id).owner

        waiting = [
            batch
            for batch in turns.batches(records, owner_of, self._workspace.supervisor.place_of)
            if not self._is_with(batch, running)
        ]
        own = next((batch for batch in waiting if batch.sweep_id == sweep_id), None)
        if own is None:
            return None
        engine, waiting = self._on_its_engine(own, waiting)
        running = [record for record in running if record.engine in ("", engine)]
        owners = {batch.owner for batch in waiting}
        now = time.time()
        served = turns.served_at(store.records(), owners, owner_of, now=now) if len(owners) > 1 else {}
        order = turns.in_turn(waiting, served, Counter(owner_of(record.run_id) for record in running))
        before = order[: order.index(own)]
        places = max(self._workspace.supervisor.places(engine), len(running))
        away = rights.shown_text(self._workspace, self._workspace.supervisor.away.get(engine, ""))
        trouble = self._workspace.why_not_write() or away
        if len(running) + len(before) < places:
            return Place(ahead=0, seconds=NOW, trouble=trouble)
        with acting_as(SERVER):
            times = [*self._running_times(running), *self._times(engine, before)]
        seconds = None if None in times else first_free(times, places)
        sweeps = len({record.request.sweep_id for record in running})
        return Place(ahead=sweeps + len(before), seconds=seconds, trouble=trouble)

    def _on_its_engine(self, own: Batch, waiting: Sequence[Batch]) -> tuple[str, Sequence[Batch]]:
        """The engine of one that waits, and what waits for that."""
        supervisor = self._workspace.supervisor
        if len(supervisor.engines) == 1:
            return supervisor.engines[0].name, waiting
        engine = supervisor.engine_of(own)
        return engine, [batch for batch in waiting if supervisor.engine_of(batch) == engine]

    def words(self, engine: str) -> str:
        """How many sweeps and probes of all visitors have not ended on an engine, and how long they take together, as a
        sentence for who has not started one; empty where there is none."""
        from rankviz.supervisor import turns

        store = self._workspace.store
        records = store.unended()
        supervisor = self._workspace.supervisor
        running = [record for record in records if record.state == "running" and record.engine in ("", engine)]
        waiting = turns.batches(records, lambda run_id: store.listed_ownership(run_id).owner, supervisor.place_of)
        behind = [
            batch for batch in waiting if not self._is_with(batch, running) and supervisor.engine_of(batch) == engine
        ]
        count = len(behind) + len({record.request.sweep_id for record in running})
        if not count:
            return ""
        places = max(supervisor.places(engine), len(running))
        with acting_as(SERVER):
            times = [*self._running_times(running), *self._times(engine, behind)]
        wait = "wait or run" if count > 1 else "waits or runs"
        seconds = None if None in times else first_free(times, places)
        return f"{units.counted(count, 'sweep')} {wait} here now. {wait_in_words(seconds)}"

    def _is_with(self, batch: Batch, running: list) -> bool:
        """Whether it is the rest of what runs."""
        return any(record.request.sweep_id == batch.sweep_id for record in running)

    def _running_times(self, running: list) -> list[Range | None]:
        """Of the rest of each job that runs; a sweep that gives way ends its turn sooner, and one that is divided ends
        its parts at about the same time."""
        return [self._running_time(record.request) for record in running]

    def _running_time(self, request: RunRequest | ProbeRequest) -> Range | None:
        if hasattr(request, "time_limit_seconds"):
            return Range(0.0, request.time_limit_seconds, request.time_limit_seconds)
        left = self._seconds_left(self._workspace.store.sweep(request.sweep_id))
        return None if left is None else Range(0.0, left, left)

    def _times(self, engine: str, batches: Sequence[Batch]) -> list[Range | None]:
        """Of each on an engine. What takes as long as another one is found out once."""
        times, since, found = [], time.monotonic() - KNOWN_SECONDS, 0
        for batch in batches:
            setting = engine, _of(self._settings, batch.run_ids, lambda batch=batch: _setting(batch))
            at, known = self._known.get(setting, (-math.inf, None))
            if at < since and found < MOST_AT_ONCE:
                found += 1
                known = self._bounded(engine, batch)
                self._known[setting] = time.monotonic(), known
                _drop_oldest(self._known)
            times.append(known)
        return times

    def _bounded(self, engine: str, batch: Batch) -> Range | None:
        """What it should take, and at most what the server lets it take."""
        requests = [record.request for record in batch.records]
        if hasattr(requests[0], "time_limit_seconds"):
            limit = requests[0].time_limit_seconds
            return Range(0.0, limit, limit)
        try:
            seconds = self._time_of(engine, requests)
        except RankVizError:
            return None  # its base or its data has gone; the worker will say so
        if seconds is None or (minutes := self._workspace.limits.run_minutes) is None:
            return seconds
        most = 60.0 * minutes * len(requests)
        return Range(min(seconds.low, most), min(seconds.expected, most), min(seconds.high, most))


def _setting(batch: Batch) -> Hashable:
    """What its time depends on."""
    names = {"created_at": 0.0, "run_id": "", "sweep_id": ""}
    requests = [record.request for record in batch.records]
    if hasattr(requests[0], "time_limit_seconds"):
        return requests[0].time_limit_seconds
    return tuple(replace(request, **names) for request in requests)


def _of(known: dict[Any, Any], key: Any, find: Callable[[], Any]) -> Any:
    if key not in known:
        known[key] = find()
        _drop_oldest(known)
    return known[key]


def _drop_oldest(known: dict[Any, Any]) -> None:
    while len(known) > MOST_KNOWN:
        del known[next(iter(known))]


def wait_in_words(seconds: Range | None) -> str:
    """At most, since whoever goes first may give up their turn at once."""
    return f"Expected wait: {'not known' if seconds is None else f'up to {units.duration(seconds.high)}'}."


def first_free(times: Sequence[Range], places: int) -> Range:
    """When one of so many places is free after these jobs, each begun as soon as there is a place for it."""
    ends = [(each.low, each.expected, each.high) for each in times]
    return Range(*(_first_free(each, places) for each in zip(*ends, strict=True)))


def _first_free(times: Iterable[float], places: int) -> float:
    free_at = [0.0] * places
    for seconds in times:
        heapq.heapreplace(free_at, free_at[0] + seconds)
    return free_at[0]
