"""The order in which visitors and sweeps start.

The visitor with the fewest places goes first, then the visitor served longest ago; within a visitor, the oldest sweep.
The time when a visitor was last served is read from the journals, so a restart does not change the order.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from rankviz.core.probe import ProbeRecord
from rankviz.core.runs.events import Attempt, queued_at
from rankviz.core.runs.record import RunState
from rankviz.jobs.engine import Job
from rankviz.store import RunStore
from rankviz.store.journal import Record


def waiting_jobs(
    records: Iterable[Record],
    store: RunStore,
    attempt: Callable[[Record], Attempt] = lambda record: Attempt(record.run_id, record.attempt),
) -> list[Job]:
    """Return jobs of the queued records: records of the same owner, sweep, engine and options are one job. Jobs are in
    the order of their first queued record; a resumed run counts from the time when it was resumed. attempt: Returns the
    attempt of a record that is to start."""
    groups: dict[tuple, list[Record]] = {}
    for record in sorted(records, key=queued_at):
        if record.state is RunState.QUEUED:
            there, owner = store.listed_destination(record.run_id), store.listed_ownership(record.run_id).owner
            options = tuple(sorted(there.options.items()))
            groups.setdefault((owner, record.request.sweep_id, there.engine, options), []).append(record)
    return [
        Job(
            attempts=tuple(map(attempt, group)),
            kind="probe" if isinstance(group[0], ProbeRecord) else "finetune",
            owner=owner,
            sweep_id=sweep_id,
            engine=engine,
            options=dict(options),
        )
        for (owner, sweep_id, engine, options), group in groups.items()
    ]


def served_at(records: Iterable[Record], store: RunStore, *, now: float) -> dict[str, float]:
    """Return the time at which each visitor's latest run began, by visitor id, in unix seconds and at most `now`.
    Visitors without such a run are left out."""
    last: dict[str, float] = {}
    for record in records:
        if record.started_at is not None:
            owner = store.listed_ownership(record.run_id).owner
            last[owner] = max(last.get(owner, -math.inf), min(record.started_at, now))
    return last


def in_turn(waiting: Sequence[Job], served: Mapping[str, float], places: Mapping[str, int]) -> list[Job]:
    """Return the jobs in the order in which they start if nothing else is queued or ends. served: Time when each
    visitor was last served, unix seconds. places: Number of places that each visitor has now."""
    lines: dict[str, deque[tuple[int, Job]]] = {}
    for number, job in enumerate(waiting):
        lines.setdefault(job.owner, deque()).append((number, job))
    has, order = {owner: places.get(owner, 0) for owner in lines}, []
    while lines:
        owner = min(lines, key=lambda each: (has[each], served.get(each, -math.inf), lines[each][0][0]))
        order.append(lines[owner].popleft()[1])
        has[owner] += 1
        if not lines[owner]:
            del lines[owner]
    return order


def parts(order: Sequence[Job], room: int, *, least: int) -> list[Job]:
    """Divide jobs among `room` free places: each into about equal parts of at least `least` runs."""
    divided: list[Job] = []
    for at, job in enumerate(order):
        attempts = job.attempts
        share = math.ceil((room - len(divided)) / (len(order) - at))
        number = max(1, min(share, len(attempts) // least))
        ends = [math.ceil(len(attempts) * part / number) for part in range(number + 1)]
        divided += [replace(job, attempts=attempts[start:end]) for start, end in itertools.pairwise(ends)]
    return divided
