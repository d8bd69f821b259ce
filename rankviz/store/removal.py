"""Removes runs for good, and ended runs of visitors that go by themselves."""

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Container, Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from rankviz.core.probe import ProbeRecord
from rankviz.core.runs.record import RunRecord, RunState
from rankviz.errors import InvalidSettingError, RunNotFoundError
from rankviz.store import durable
from rankviz.store.durable import OLDER_ASIDES, remove_left
from rankviz.store.journal import Record
from rankviz.store.ownership import UNKNOWN_OWNER
from rankviz.store.runs import IMPORTED, RunStore
from rankviz.visitor import data_folder

ABANDONED_SECONDS = 3600.0
_DIGEST = re.compile("[0-9a-f]{16}")


def remove(store: RunStore, run_ids: Sequence[str], ended: Container[str] = ()) -> None:
    """Remove the folders of these runs and probes, and the copies of data that no run is left to read.

    ended: of which it is known that they have ended, though their journals had no room for it.

    InvalidSettingError where one has not ended, OSError where one cannot be set aside; then none is removed.
    """
    store.wait_until_read()  # of copies of data it must be known who has them
    with store.publishing():
        data = {folder for run_id in run_ids for folder in _data_of(store, run_id, ended)}
        here = [run_id for run_id in dict.fromkeys(run_ids) if store.run_dir(run_id).is_dir()]
        aside = durable.take(store.runs_dir, f"{durable.GOING}{secrets.token_hex(4)}", here)
        store.forget(run_ids)
        store.tell_of_all()
        for folder in _unused(store, data):
            shutil.rmtree(folder, ignore_errors=True)
    for folder in aside:
        shutil.rmtree(folder, ignore_errors=True)


def folders_of(store: RunStore, run_ids: Sequence[str]) -> list[Path]:
    """What goes with all of these runs and probes, which have ended: their folders, and copies of data."""
    data = {folder for run_id in run_ids for folder in _data_of(store, run_id, run_ids)}
    return [*map(store.run_dir, run_ids), *_unused(store, data, besides=frozenset(run_ids))]


def tidy(store: RunStore) -> None:
    """Remove what an app that was killed left half removed or half written, and copies of data that no run names."""
    store.wait_until_read()
    with store.publishing():  # first: what is half published is whole then, and what has half gone has gone
        for folder in _abandoned_data(store):
            shutil.rmtree(folder, ignore_errors=True)
        left = list(store.runs_dir.glob(f"{durable.GOING}*"))  # here: of what is just going, some may come back
    remove_left(store.home, ABANDONED_SECONDS)  # where others may write too
    for folder in (store.runs_dir, *_copies(store.home)):
        remove_left(folder, ABANDONED_SECONDS, OLDER_ASIDES)
    for folder in store.runs_dir.glob(".new-*"):
        if _is_old(folder):  # otherwise published in a moment
            left.append(folder)
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)


def _abandoned_data(store: RunStore) -> list[Path]:
    """The folders of copies of data that no run names, whosever; none where that cannot be known."""
    return [each for each in _unused(store, set(_copies(store.home))) if _is_old(each)]


def _unused(store: RunStore, folders: Set[Path], besides: Container[str] = ()) -> list[Path]:
    """Those of these copies that no run names, besides some; none where that cannot be known. A run that cannot be read
    counts too, since a later version may read it."""
    named, read = set(), set()
    for record in store.records():
        read.add(record.run_id)
        if record.run_id not in besides:
            named |= _copies_of(store, record)
    try:
        for run_id in store.names()[0] - read:
            with contextlib.suppress(FileNotFoundError):  # someone else's folder
                request = (store.run_dir(run_id) / "request.json").read_text(errors="replace")
                named |= _owners_copies(store, run_id, set(_DIGEST.findall(request)))
    except OSError:
        return []
    return sorted(folders - named)


def _copies_of(store: RunStore, record: Record) -> set[Path]:
    if not isinstance(record, RunRecord):
        return set()
    return _owners_copies(store, record.run_id, {Path(record.request.data).parent.name})


def _owners_copies(store: RunStore, run_id: str, contents: Set[str]) -> set[Path]:
    """The copies with these contents that belong to the owner of a run: those of others are not kept for it, whatever
    its request names. Anybody's where its owner is not known."""
    owner = store.listed_ownership(run_id).owner
    if owner == UNKNOWN_OWNER:
        return {folder for folder in _copies(store.home) if folder.name in contents}
    return {data_folder(store.home, owner) / content for content in contents if _DIGEST.fullmatch(content)}


def _copies(home: Path) -> Iterator[Path]:
    """The folders of all copies of data, whosever."""
    for pattern in ("data/*", "visitors/*/data/*"):
        yield from (folder for folder in home.glob(pattern) if _DIGEST.fullmatch(folder.name))


def _is_old(folder: Path) -> bool:
    with contextlib.suppress(OSError):  # gone meanwhile
        return time.time() - folder.stat().st_mtime > ABANDONED_SECONDS
    return False


def _data_of(store: RunStore, run_id: str, ended: Container[str]) -> set[Path]:
    """The copies of a run that may go; nothing is known of one that cannot be read, which no worker takes up."""
    try:
        record = store.record(run_id)
    except RunNotFoundError:
        return set()
    if not record.state.ended and run_id not in ended and store.run_dir(run_id).is_dir():
        raise InvalidSettingError(f"{run_id!r} has not ended. Cancel it first, then delete it.")
    return _copies_of(store, record)


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
