"""The order in which visitors and sweeps start.

The visitor with the fewest places goes first, then the visitor served longest ago; within a visitor, the oldest sweep.
The time when a visitor was last served is read from the journals, so a restart does not change the order.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from rankviz.core.runs.events import queued_at
from rankviz.core.runs.record import RunState
from rankviz.store.journal import Record

Goal = tuple[str, tuple[tuple[str, str], ...]]
"""Target of a run: the engine's name (empty for the default engine) and the engine's options."""
NO_PLACES: Mapping[str, int] = MappingProxyType({})


class Batch(NamedTuple):
    """Runs for one worker: the waiting runs of a sweep, or a probe."""

    owner: str
    sweep_id: str
    records: tuple[Record, ...]

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(record.run_id for record in self.records)


def batches(records: Iterable[Record], owner_of: Callable[[str], str], goal_of: Callable[[str], Goal]) -> list[Batch]:
    """Group queued records by owner, sweep and goal, the first queued first; resuming a run queues it anew."""
    waiting: dict[tuple[str, str, Goal], list[Record]] = {}
    for record in sorted(records, key=queued_at):
        if record.state is RunState.QUEUED:
            key = owner_of(record.run_id), record.request.sweep_id, goal_of(record.run_id)
            waiting.setdefault(key, []).append(record)
    return [Batch(owner, sweep_id, tuple(group)) for (owner, sweep_id, _), group in waiting.items()]


def served_at(records: Iterable[Record], owner_of: Callable[[str], str], *, now: float) -> dict[str, float]:
    """Return when each visitor's latest run began, at most `now`, in unix seconds; without visitors that have none."""
    last: dict[str, float] = {}
    for record in records:
        if record.started_at is not None:
            owner = owner_of(record.run_id)
            last[owner] = max(last.get(owner, -math.inf), min(record.started_at, now))
    return last


def in_turn(
    waiting: Sequence[Batch], served: Mapping[str, float], places: Mapping[str, int] = NO_PLACES
) -> list[Batch]:
    """Return the batches in the order in which they start if nothing else is queued or ends. served: Time when each
    visitor was last served, unix seconds. places: Number of places that each visitor has now."""
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


def parts(order: Sequence[Batch], room: int, *, least: int) -> list[Batch]:
    """Divide batches among `room` free places: each into parts of about equal size, each part of at least `least`
    runs."""
    divided: list[Batch] = []
    for at, batch in enumerate(order):
        share = math.ceil((room - len(divided)) / (len(order) - at))
        number = max(1, min(share, len(batch.records) // least))
        ends = [math.ceil(len(batch.records) * part / number) for part in range(number + 1)]
        divided += [batch._replace(records=batch.records[start:end]) for start, end in itertools.pairwise(ends)]
    return divided
