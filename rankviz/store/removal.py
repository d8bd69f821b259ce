"""Removes runs for good: set aside while nobody takes up the queue, then deleted. It needs no room on the disk."""

import contextlib
import re
import secrets
import shutil
import time
from collections.abc import Container, Sequence, Set
from pathlib import Path

from rankviz.core.runs.record import RunRecord
from rankviz.errors import InvalidSettingError, RunNotFoundError
from rankviz.store.runs import RunStore
from rankviz.visitor import is_data_folder

ASIDE = ".gone-"
ABANDONED_SECONDS = 3600.0
_DIGEST = re.compile("[0-9a-f]{16}")


def remove(store: RunStore, run_ids: Sequence[str], ended: Container[str] = ()) -> None:
    """Remove the folders of these runs and probes, and the copies of data that no run is left to read.

    ended: of which it is known that they have ended, though their journals had no room for it.

    InvalidSettingError where one has not ended; then none is removed.
    """
    store.wait_until_read()  # of copies of data it must be known who has them
    with store.publishing():
        data = {name for run_id in run_ids for name in _data_of(store, run_id, ended)}
        aside = {run_id: store.runs_dir / f"{ASIDE}{secrets.token_hex(4)}-{run_id}" for run_id in run_ids}
        for run_id, folder in aside.items():
            with contextlib.suppress(FileNotFoundError):  # somebody else has removed it meanwhile
                store.run_dir(run_id).rename(folder)
        store.forget(run_ids)
        store.tell_of_all()
        for folder in _unused(store, data):
            shutil.rmtree(folder, ignore_errors=True)
    for folder in aside.values():
        shutil.rmtree(folder, ignore_errors=True)


def folders_of(store: RunStore, run_ids: Sequence[str]) -> list[Path]:
    """What goes with all of these runs and probes, which have ended: their folders, and copies of data."""
    data = {name for run_id in run_ids for name in _data_of(store, run_id, run_ids)}
    return [*map(store.run_dir, run_ids), *_unused(store, data, besides=run_ids)]


def tidy(store: RunStore) -> None:
    """Remove what an app that was killed left half removed or half written, and copies of data that no run names."""
    store.wait_until_read()
    left = list(store.runs_dir.glob(f"{ASIDE}*"))
    for folder in store.runs_dir.glob(".new-*"):
        if _is_old(folder):  # otherwise published in a moment
            left.append(folder)
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    with store.publishing():
        for folder in _abandoned_data(store):
            shutil.rmtree(folder, ignore_errors=True)


def _abandoned_data(store: RunStore) -> list[Path]:
    """The folders of copies of data that no run names, whosever; none where that cannot be known."""
    try:
        named = _named(store)
    except OSError:
        return []
    return [
        folder
        for pattern in ("data/*", "visitors/*/data/*")
        for folder in store.home.glob(pattern)
        if _DIGEST.fullmatch(folder.name) and folder.name not in named and _is_old(folder)
    ]


def _named(store: RunStore) -> set[str]:
    """By their contents, the copies that runs name; also a run that cannot be read, since a later version may."""
    records = store.records()
    named = {Path(record.request.data).parent.name for record in records if isinstance(record, RunRecord)}
    return named | _named_unread(store, frozenset(record.run_id for record in records))


def _named_unread(store: RunStore, besides: Set[str]) -> set[str]:
    """By runs that are not among those. OSError where that cannot be known now."""
    named = set()
    for run_id in store.names()[0] - besides:
        with contextlib.suppress(FileNotFoundError):  # someone else's folder
            named.update(_DIGEST.findall((store.run_dir(run_id) / "request.json").read_text(errors="replace")))
    return named


def _is_old(folder: Path) -> bool:
    with contextlib.suppress(OSError):  # gone meanwhile
        return time.time() - folder.stat().st_mtime > ABANDONED_SECONDS
    return False


def _data_of(store: RunStore, run_id: str, ended: Container[str]) -> set[str]:
    """Of a run that may go; nothing is known of one that cannot be read, which no worker takes up."""
    try:
        record = store.record(run_id)
    except RunNotFoundError:
        return set()
    if not record.state.ended and run_id not in ended and store.run_dir(run_id).is_dir():
        raise InvalidSettingError(f"{run_id!r} has not ended. Cancel it first, then delete it.")
    return {record.request.data} if isinstance(record, RunRecord) else set()


def _unused(store: RunStore, data: set[str], besides: Sequence[str] = ()) -> list[Path]:
    """The folders of these copies that no run names any more, besides some. A request may name any path: only <digest>
    in a data folder of this home is RankViz's own."""
    going, records = frozenset(besides), store.records()
    runs = [each for each in records if isinstance(each, RunRecord) and each.run_id not in going]
    folders = {Path(name).parent for name in data} - {Path(run.request.data).parent for run in runs}
    try:
        unread = _named_unread(store, going.union(record.run_id for record in records))
    except OSError:
        return []
    return [
        each
        for each in folders
        if is_data_folder(store.home, each.parent) and _DIGEST.fullmatch(each.name) and each.name not in unread
    ]
