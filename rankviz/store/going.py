"""Ended runs that go by themselves: those of visitors once they are old, where a visitor has too many their probes, and
where the server is full, what can be had again. A run that was trained here goes by its age alone."""

import contextlib
import os
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from rankviz.core.probe.record import ProbeRecord
from rankviz.core.runs.record import RunRecord, RunState
from rankviz.errors import InvalidSettingError
from rankviz.store.ownership import UNKNOWN_OWNER
from rankviz.store.removal import remove
from rankviz.store.runs import IMPORTED, RunStore


class Going(NamedTuple):
    """Runs of one sweep that go together, or a probe."""

    run_ids: tuple[str, ...]
    written_at: float
    """When something was last written of one of them, unix seconds, by the disk: an import brings its own times."""


def expired(store: RunStore, before: float) -> list[Going]:
    """Ended sweeps and probes of visitors, of which nothing was written since; the host's own stay."""
    return [
        going
        for owner, records in _ended(store)
        if owner not in ("", UNKNOWN_OWNER) and (going := _going(store, records)).written_at < before
    ]


def replaceable(store: RunStore, besides: str = "") -> list[Going]:
    """What makes room for others, the oldest first: of each ended sweep the imported runs, which are copies, and those
    that were not completed.

    besides: a sweep that somebody is at.
    """
    others = (records for _, records in _ended(store) if records[0].request.sweep_id != besides)
    groups = ([record for record in records if _is_replaceable(store, record)] for records in others)
    return sorted((_going(store, group) for group in groups if group), key=lambda going: going.written_at)


def ended_probes(store: RunStore, owners: Collection[str]) -> list[Going]:
    """What of a visitor makes room for more of theirs, who has no list of probes to delete some: those first that were
    not completed, on which no estimate rests, and each time the oldest."""
    store.wait_until_read()
    ended = [each for each in store.probes() if each.state.ended and store.ownership(each.run_id).owner in owners]
    return [_going(store, [each]) for each in sorted(ended, key=lambda each: each.state is RunState.COMPLETED)]


def enough(going: Iterable[Going], count: int) -> list[Going]:
    """The first of them that are so many runs; none where all of them are fewer."""
    chosen = []
    for each in going:
        chosen.append(each)
        count -= len(each.run_ids)
        if count <= 0:
            return chosen
    return []


def let_go(store: RunStore, going: Iterable[Going]) -> None:
    """Remove them. To be called while nobody else is admitted (RunStore.admission): then none of them is resumed
    meanwhile."""
    for each in going:
        with contextlib.suppress(InvalidSettingError):  # somebody trains it again, who does not wait to be admitted
            remove(store, each.run_ids)


def _ended(store: RunStore) -> list[tuple[str, Sequence[RunRecord | ProbeRecord]]]:
    """The owner and the records of each sweep of which nothing waits or runs."""
    store.wait_until_read()
    groups: dict[tuple[str, str], list[RunRecord | ProbeRecord]] = {}
    for record in store.records():
        groups.setdefault((store.ownership(record.run_id).owner, record.request.sweep_id), []).append(record)
    return [(owner, group) for (owner, _), group in groups.items() if all(record.state.ended for record in group)]


def _is_replaceable(store: RunStore, record: RunRecord | ProbeRecord) -> bool:
    return record.state is not RunState.COMPLETED or (store.run_dir(record.run_id) / IMPORTED).exists()


def _going(store: RunStore, records: Sequence[RunRecord | ProbeRecord]) -> Going:
    run_ids = tuple(record.run_id for record in records)
    return Going(run_ids, max(_written_at(store, run_id) for run_id in run_ids))


def _written_at(store: RunStore, run_id: str) -> float:
    times = [0.0]
    for name in ("request.json", "events.jsonl"):
        with contextlib.suppress(OSError):  # gone meanwhile
            times.append(os.stat(store.run_dir(run_id) / name).st_mtime)
    return max(times)
