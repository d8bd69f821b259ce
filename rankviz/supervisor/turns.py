"""Whose turn it is: who has fewest places, then who was served longest ago; of each visitor, the oldest sweep first.

When somebody was served last is read from the journals, so that a restart changes no order; whoever was served and then
deleted it is remembered as long as the supervisor runs.
"""

import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from rankviz.core.probe import ProbeRecord
from rankviz.core.runs.events import queued_at
from rankviz.core.runs.record import RunRecord, RunState

Record = RunRecord | ProbeRecord
Place = tuple[str, tuple[tuple[str, str], ...]]
"""The name of an engine, empty for that of the settings, and the options for it."""
NO_PLACES: Mapping[str, int] = MappingProxyType({})


class Batch(NamedTuple):
    """What one worker is given: the waiting runs of a sweep, or a probe."""

    owner: str
    sweep_id: str
    records: tuple[Record, ...]

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(record.run_id for record in self.records)

    @property
    def was_lost(self) -> bool:
        """Whether some of them have been lost with their place."""
        return any(record.lost_attempts for record in self.records)

    def apart(self) -> "list[Batch]":
        """What was lost with its place, and what was not."""
        groups = ([record for record in self.records if bool(record.lost_attempts) is lost] for lost in (True, False))
        return [self._replace(records=tuple(group)) for group in groups if group]


def batches(records: Iterable[Record], owner_of: Callable[[str], str], place_of: Callable[[str], Place]) -> list[Batch]:
    """What waits, what was queued first at the front. A run that was resumed waits since then, whenever it was made.
    Runs of one sweep that are to be in different places are not together."""
    waiting: dict[tuple[str, str, Place], list[Record]] = {}
    for record in sorted(records, key=queued_at):
        if record.state is RunState.QUEUED:
            key = owner_of(record.run_id), record.request.sweep_id, place_of(record.run_id)
            waiting.setdefault(key, []).append(record)
    return [Batch(owner, sweep_id, tuple(group)) for (owner, sweep_id, _), group in waiting.items()]


def served_at(
    records: Iterable[Record], owners: Iterable[str], owner_of: Callable[[str], str], *, now: float
) -> dict[str, float]:
    """When a run of each of these visitors began last, unix seconds; without those of whom none has. What a clock that
    went wrong puts into the future counts as now."""
    wanted, last = set(owners), {}
    for record in records:
        if record.started_at is not None and (owner := owner_of(record.run_id)) in wanted:
            last[owner] = max(last.get(owner, -math.inf), min(record.started_at, now))
    return last


def in_turn(
    waiting: Sequence[Batch], served: Mapping[str, float], places: Mapping[str, int] = NO_PLACES
) -> list[Batch]:
    """The order in which they are taken up if nothing more comes and nothing ends.

    places: How many each visitor has now.
    """
    lines: dict[str, deque[tuple[int, Batch]]] = {}
    for place, batch in enumerate(waiting):
        lines.setdefault(batch.owner, deque()).append((place, batch))
    has, order = {owner: places.get(owner, 0) for owner in lines}, []
    while lines:
        owner = min(lines, key=lambda each: (has[each], served.get(each, -math.inf), lines[each][0][0]))
        order.append(lines[owner].popleft()[1])
        has[owner] += 1
        if not lines[owner]:
            del lines[owner]
    return order


def parts(order: Sequence[Batch], room: int, places: Mapping[str, int] = NO_PLACES, *, least: int) -> list[Batch]:
    """What is started where there is room for so many: the first in the order. Where fewer wait, they are divided into
    parts alike in size with at least `least` runs each: of the visitor who would have fewest places, the batch whose
    parts are largest gets one more.

    places: How many each visitor has now.
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
    return [part for batch, number in zip(order, numbers, strict=True) for part in _divided(batch, number)]


def _divided(batch: Batch, number: int) -> list[Batch]:
    """Into so many parts, of which some have one run more than others."""
    ends = [math.ceil(len(batch.records) * part / number) for part in range(number + 1)]
    return [batch._replace(records=batch.records[start:end]) for start, end in itertools.pairwise(ends)]
