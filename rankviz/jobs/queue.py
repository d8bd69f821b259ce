"""Whose turn it is.

Among visitors, whoever has fewest places goes first, then who was served longest ago; of each visitor, the oldest sweep
first. When somebody was served last is read from the journals, so that a restart changes no order.
"""

import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from rankviz.core.runs.events import queued_at
from rankviz.core.runs.record import RunState
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
