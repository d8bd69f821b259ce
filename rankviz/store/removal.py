"""Removes runs for good: set aside together (together.py) while nobody takes up the queue, then deleted. It needs no
room on the disk."""

import contextlib
import re
import secrets
import shutil
import time
from collections.abc import Container, Iterator, Sequence, Set
from pathlib import Path

from rankviz.core.runs.record import RunRecord
from rankviz.errors import InvalidSettingError, RunNotFoundError
from rankviz.store import together
from rankviz.store.durable import OLDER_ASIDES, remove_left
from rankviz.store.journal import Record
from rankviz.store.ownership import UNKNOWN_OWNER
from rankviz.store.runs import RunStore
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
        aside = together.take(store.runs_dir, f"{together.GOING}{secrets.token_hex(4)}", here)
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
        left = list(store.runs_dir.glob(f"{together.GOING}*"))  # here: of what is just going, some may come back
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
