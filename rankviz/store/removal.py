"""Deletion of runs, and the selection of visitors' ended runs that expire or make room."""

import contextlib
import re
import shutil
import time
from collections.abc import Collection, Container, Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from rankviz.core.runs.record import RunRecord, RunState
from rankviz.errors import InvalidSettingError, RunNotFoundError
from rankviz.store import durable
from rankviz.store.journal import Record
from rankviz.store.ownership import UNKNOWN_OWNER
from rankviz.store.runs import IMPORTED, RunStore
from rankviz.visitor import data_folder

ABANDONED_SECONDS = 3600.0
_DIGEST = re.compile("[0-9a-f]{16}")


def remove(store: RunStore, run_ids: Sequence[str], ended: Container[str] = ()) -> None:
    """Delete the folders of these runs and probes, and copies of data that no other run names. Delete none of them and
    raise InvalidSettingError where one has not ended, or OSError where one cannot be renamed. ended: Ids of runs known
    to have ended although the disk was too full to write it down."""
    store.wait_until_read()  # it must be known which runs name copies of data
    with store.publishing():
        data = {folder for run_id in run_ids for folder in _data_of(store, run_id, ended)}
        here = [run_id for run_id in dict.fromkeys(run_ids) if store.run_dir(run_id).is_dir()]
        aside = durable.take(store.runs_dir, here)
        store.forget(run_ids)
        for folder in _unused(store, data):
            shutil.rmtree(folder, ignore_errors=True)
    for folder in aside:
        shutil.rmtree(folder, ignore_errors=True)


def folders_of(store: RunStore, run_ids: Sequence[str]) -> list[Path]:
    """Return the folders to be deleted with all of these ended runs and probes: their own, and copies of data."""
    data = {folder for run_id in run_ids for folder in _data_of(store, run_id, run_ids)}
    return [*map(store.run_dir, run_ids), *_unused(store, data, besides=frozenset(run_ids))]


def tidy(store: RunStore) -> None:
    """Delete what a killed app left half deleted or half written, and copies of data that no run names."""
    store.wait_until_read()
    with store.publishing():  # what was half published or half gone is whole or gone then
        copies = set(_copies(store.home))
        for folder in filter(_is_old, _unused(store, copies)):
            shutil.rmtree(folder, ignore_errors=True)
        left = list(store.runs_dir.glob(f"{durable.GONE}*"))  # here: of what is just going, some may come back
    for folder in (*left, *filter(_is_old, store.runs_dir.glob(".new-*"))):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (store.home, store.runs_dir, *copies):
        durable.remove_left(folder, ABANDONED_SECONDS)


def _unused(store: RunStore, folders: Set[Path], besides: Container[str] = ()) -> list[Path]:
    """Return the folders among these copies of data that no run names; none where this cannot be known. Unreadable
    runs count too, since a later version may read them."""
    named, read = set(), set()
    for record in store.records():
        read.add(record.run_id)
        if record.run_id not in besides:
            named |= _data_copies(store, record)
    try:
        for run_id in store.names()[0] - read:
            with contextlib.suppress(FileNotFoundError):  # someone else's folder
                request = (store.run_dir(run_id) / "request.json").read_text(errors="replace")
                named |= _copies_of(store, run_id, _DIGEST.findall(request))
    except OSError:
        return []
    return sorted(folders - named)


def _data_of(store: RunStore, run_id: str, ended: Container[str]) -> set[Path]:
    """Return the copies of data that a run names; raise InvalidSettingError where the run has not ended."""
    try:
        record = store.record(run_id)
    except RunNotFoundError:
        return set()
    if not record.state.ended and run_id not in ended and store.run_dir(run_id).is_dir():
        raise InvalidSettingError(f"{run_id!r} has not ended. Cancel it first, then delete it.")
    return _data_copies(store, record)


def _data_copies(store: RunStore, record: Record) -> set[Path]:
    content = Path(record.request.data).parent.name if isinstance(record, RunRecord) else ""
    return _copies_of(store, record.run_id, [content]) if _DIGEST.fullmatch(content) else set()


def _copies_of(store: RunStore, run_id: str, contents: Collection[str]) -> set[Path]:
    """Return the copies with these digests that belong to the owner of a run; copies of all owners where the run's
    owner is not known. A request cannot name copies of another visitor."""
    owner = store.listed_ownership(run_id).owner
    if owner == UNKNOWN_OWNER:
        return {folder for folder in _copies(store.home) if folder.name in contents}
    return {data_folder(store.home, owner) / content for content in contents}


def _copies(home: Path) -> Iterator[Path]:
    for pattern in ("data/*", "visitors/*/data/*"):
        yield from (folder for folder in home.glob(pattern) if _DIGEST.fullmatch(folder.name))


def _is_old(folder: Path) -> bool:
    return time.time() - _written_at(folder) > ABANDONED_SECONDS


class Deletion(NamedTuple):
    """Runs of one sweep to delete together, or one probe."""

    run_ids: tuple[str, ...]
    written_at: float
    """Time of the last write to these runs in unix seconds, from the disk, since an import brings its own times."""


def expired(store: RunStore, before: float) -> list[Deletion]:
    """Return visitors' ended sweeps and probes last written before `before`, unix seconds; none of the host's."""
    deletions = [_deletion(store, records) for owner, records in _ended(store) if owner not in ("", UNKNOWN_OWNER)]
    return [deletion for deletion in deletions if deletion.written_at < before]


def replaceable(store: RunStore, besides: str = "") -> list[Deletion]:
    """Return runs that may be deleted to make room, the oldest first: of each ended sweep the imported runs, which are
    copies, and runs that were not completed. besides: Id of a sweep in use, which is left out."""

    def is_replaceable(record: Record) -> bool:
        return record.state is not RunState.COMPLETED or (store.run_dir(record.run_id) / IMPORTED).exists()

    others = (records for _, records in _ended(store) if records[0].request.sweep_id != besides)
    groups = ([record for record in records if is_replaceable(record)] for records in others)
    return sorted((_deletion(store, group) for group in groups if group), key=lambda deletion: deletion.written_at)


def ended_probes(store: RunStore, owners: Collection[str]) -> list[Deletion]:
    """Return these owners' ended probes: uncompleted ones, which no estimate uses, first; then the oldest first."""
    store.wait_until_read()
    ended = [each for each in store.probes() if each.state.ended and store.ownership(each.run_id).owner in owners]
    return [_deletion(store, [each]) for each in sorted(ended, key=lambda each: each.state is RunState.COMPLETED)]


def enough(deletions: Iterable[Deletion], count: int) -> list[Deletion]:
    """Return the first deletions that have at least `count` runs together; none where all of them have fewer."""
    chosen = []
    for each in deletions:
        chosen.append(each)
        count -= len(each.run_ids)
        if count <= 0:
            return chosen
    return []


def let_go(store: RunStore, deletions: Iterable[Deletion]) -> None:
    """Delete the runs of these deletions. The caller holds RunStore.admission, so that none is resumed."""
    for each in deletions:
        with contextlib.suppress(InvalidSettingError):  # somebody trains it again, who does not wait to be admitted
            remove(store, each.run_ids)


def _ended(store: RunStore) -> list[tuple[str, Sequence[Record]]]:
    """Return owner and records of each sweep, or probe, that has ended completely."""
    store.wait_until_read()
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in store.records():
        groups.setdefault((store.ownership(record.run_id).owner, record.request.sweep_id), []).append(record)
    return [(owner, group) for (owner, _), group in groups.items() if all(record.state.ended for record in group)]


def _deletion(store: RunStore, records: Sequence[Record]) -> Deletion:
    run_ids = tuple(record.run_id for record in records)
    files = (store.run_dir(run_id) / name for run_id in run_ids for name in ("request.json", "events.jsonl"))
    return Deletion(run_ids, max(map(_written_at, files)))


def _written_at(path: Path) -> float:
    """Return when a file or folder was written last, unix seconds; 0 where it is gone."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0
