"""Deletes runs, and selects ended runs of visitors that expire or may be deleted to make room."""

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from rankviz.core.runs.record import RunState
from rankviz.errors import InvalidSettingError, RunNotFoundError
from rankviz.paths import written_at
from rankviz.store import durable
from rankviz.store.journal import UNKNOWN_OWNER, Record
from rankviz.store.runs import IMPORTED, RunStore
from rankviz.visitor import data_folder

ABANDONED_SECONDS = 3600.0
_DIGEST = re.compile("[0-9a-f]{16}")
Deletion = tuple[str, ...]
"""Ids of runs to delete together: of one sweep, or of one probe."""


def remove(store: RunStore, run_ids: Sequence[str], ended: Collection[str] = ()) -> None:
    """Delete the folders of runs and probes, and copies of data that no other run uses; InvalidSettingError, and
    nothing, where one has not ended. ended: Ids that ended unrecorded, on a full disk."""
    store.update(waits=True)  # it must be known which runs name copies of data
    gone, named = [], set[Path]()
    with store.publishing():
        for run_id in dict.fromkeys(run_ids):
            with contextlib.suppress(RunNotFoundError):
                record = store.record(run_id)
                if not record.state.ended and run_id not in ended and store.run_dir(run_id).is_dir():
                    raise InvalidSettingError(f"{run_id!r} has not ended. Cancel it first, then delete it.")
                named |= _copies_named(store, run_id, record.request.data)
        for folder in filter(Path.is_dir, map(store.run_dir, dict.fromkeys(run_ids))):
            gone.append(store.runs_dir / f"{durable.GONE}{secrets.token_hex(4)}-{folder.name}")
            os.rename(folder, gone[-1])
        store.forget(run_ids)
        gone += named.intersection(_unused(store))
    for folder in gone:
        shutil.rmtree(folder, ignore_errors=True)


def deleted_folders(store: RunStore, run_ids: Collection[str]) -> list[Path]:
    """Return the folders that the deletion of these ended runs and probes removes: their own, and copies of data."""
    return [*map(store.run_dir, run_ids), *set(_unused(store, run_ids)).difference(_unused(store))]


def tidy(store: RunStore) -> None:
    """Delete files that a killed app left half deleted or half written, and copies of data that no run uses."""
    store.update(waits=True)
    with store.publishing():  # what was half published is whole then
        for copy in _unused(store):
            if time.time() - written_at(copy) > ABANDONED_SECONDS:
                shutil.rmtree(copy, ignore_errors=True)
    for folder in (store.home, store.runs_dir, *_copies(store.home)):
        durable.remove_left(folder, ABANDONED_SECONDS)


def _unused(store: RunStore, besides: Collection[str] = ()) -> list[Path]:
    """Return the copies of data that no run uses, or only runs in `besides`; empty where this cannot be known.
    Unreadable runs count, because a later version may read them."""
    records = store.records()
    named = {
        copy
        for each in records
        if each.run_id not in besides
        for copy in _copies_named(store, each.run_id, each.request.data)
    }
    try:
        for run_id in store.ids() - {record.run_id for record in records}:
            with contextlib.suppress(FileNotFoundError):  # someone else's folder
                request = store.run_dir(run_id) / "request.json"
                named |= _copies_named(store, run_id, request.read_text(errors="replace"))
    except OSError:
        return []
    return [each for each in _copies(store.home) if each not in named]


def _copies_named(store: RunStore, run_id: str, text: str) -> set[Path]:
    """Return the paths of copies whose digests are in a text: those of the run's owner, since a run uses no other
    visitor's copies; where the owner is not known, those of all visitors."""
    owner, digests = store.listed_ownership(run_id).owner, set(_DIGEST.findall(text))
    if owner == UNKNOWN_OWNER:
        return {copy for copy in _copies(store.home) if copy.name in digests}
    return {data_folder(store.home, owner) / digest for digest in digests}


def _copies(home: Path) -> list[Path]:
    found = (folder for pattern in ("data/*", "visitors/*/data/*") for folder in home.glob(pattern))
    return sorted(folder for folder in found if _DIGEST.fullmatch(folder.name))


def expired(store: RunStore, before: float) -> list[Deletion]:
    """Return visitors' (not the host's) ended sweeps and probes last written before `before`, unix seconds."""
    groups = [records for owner, records in _ended(store) if owner not in ("", UNKNOWN_OWNER)]
    return [ids for at, ids in _by_age(store, groups) if at < before]


def replaceable(store: RunStore, besides: str = "") -> list[Deletion]:
    """Return runs that may be deleted to make room, the oldest sweep first: of each ended sweep its imported runs,
    which are copies, and its runs that did not complete. besides: Id of a sweep in use, which is left out."""

    others = (records for _, records in _ended(store) if records[0].request.sweep_id != besides)
    groups = (
        [
            each
            for each in records
            if each.state is not RunState.COMPLETED or (store.run_dir(each.run_id) / IMPORTED).exists()
        ]
        for records in others
    )
    return [ids for _, ids in _by_age(store, filter(None, groups))]


def delete_all(store: RunStore, deletions: Iterable[Deletion]) -> None:
    """Delete the runs of these deletions. The caller holds RunStore.admission, so that no run is resumed meanwhile."""
    for each in deletions:
        with contextlib.suppress(InvalidSettingError):  # somebody trains it again, who does not wait to be admitted
            remove(store, each)


def _ended(store: RunStore) -> list[tuple[str, Sequence[Record]]]:
    """Return (owner, records) of each sweep or probe of which all runs have ended."""
    store.update(waits=True)
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in store.records():
        groups.setdefault((store.ownership(record.run_id).owner, record.request.sweep_id), []).append(record)
    return [(owner, group) for (owner, _), group in groups.items() if all(record.state.ended for record in group)]


def _by_age(store: RunStore, groups: Iterable[Sequence[Record]]) -> list[tuple[float, Deletion]]:
    """Return (last write in unix seconds, ids) of each group of runs, the oldest first. Times are those of files on
    this disk, because an imported run has the times of another machine."""

    def written(run_id: str) -> float:
        return max(written_at(store.run_dir(run_id) / name) for name in ("request.json", "events.jsonl"))

    ids = [tuple(record.run_id for record in records) for records in groups]
    return sorted((max(map(written, each)), each) for each in ids)
