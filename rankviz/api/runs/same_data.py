"""The data of a sweep that goes on: a file with the content that its runs were trained on, and no other of its name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from rankviz import dataset
from rankviz.core.runs.events import fingerprints
from rankviz.errors import BadDataError, InvalidSettingError, quoted
from rankviz.store import copies
from rankviz.visitor import data_folder

if TYPE_CHECKING:
    from rankviz.api.workspace import Workspace
    from rankviz.core.runs.record import Sweep
    from rankviz.core.runs.request import RunRequest

GIVE_AGAIN = (
    "RankViz does not find the file {} that this sweep was trained on, so its data must be given again. Start a new "
    "sweep with that file."
)
_DIGEST = re.compile("[0-9a-f]{16}")


def one_more(workspace: Workspace, sweep: Sweep, data: str) -> str:
    """What one more run of a sweep names as its data: a copy that is kept here, or the file that a run names, by its
    whole path. As it stands there where it is a sample or not here."""
    if dataset.is_sample(data, workspace.assets):
        return data
    digests, name = _digests(sweep, data), PurePath(data).name
    kept = chain.from_iterable(_kept(workspace, sweep, digest, name) for digest in digests)
    same = next((file for file in chain(kept, _named(workspace, data)) if _is_one_of(file, digests)), None)
    return data if same is None else str(same.absolute())


def again(workspace: Workspace, sweep: Sweep, data: str) -> str:
    """Where the data of a run that goes on can be read: what the run names, or, where that is a copy of its owner's
    that has gone or was changed, the same content under another name. `bring_back` makes the copy again."""
    copy = Path(data)
    folder = data_folder(workspace.store.home, _owner(workspace, sweep))
    if copy.parent.parent != folder or not _DIGEST.fullmatch(copy.parent.name):
        return data
    files = _kept(workspace, sweep, copy.parent.name, copy.name)
    return str(next((file for file in files if _is_one_of(file, [copy.parent.name])), copy))


def bring_back(workspace: Workspace, runs: Sequence[RunRequest]) -> None:
    """Make the copies again that these runs name, from the data that `again` found. OSError where one cannot be
    written."""
    there = {workspace.store.record(run.run_id).request.data: run.data for run in runs}
    for named, data in there.items():
        if named != data:
            copies.copy(Path(data), Path(named))


def require(workspace: Workspace, sweep: Sweep, data: str) -> None:
    """BadDataError where what a run of a sweep names is no sample, and no file that the sweep was trained on."""
    if dataset.is_sample(data, workspace.assets):
        return
    is_whole = PurePath(data).is_absolute()  # a worker stands in another folder
    if not is_whole or not any(_is_one_of(file, _digests(sweep, data)) for file in _named(workspace, data)):
        raise BadDataError(GIVE_AGAIN.format(quoted(PurePath(data).name)))


def _owner(workspace: Workspace, sweep: Sweep) -> str:
    return workspace.store.ownership(sweep.runs[0].run_id).owner


def _kept(workspace: Workspace, sweep: Sweep, digest: str, name: str) -> Iterator[Path]:
    """What is filed by a content for the owner of a sweep or for whoever asks: under this name first, then under any
    other, as when it was given again."""
    owners = dict.fromkeys((_owner(workspace, sweep), *workspace.visitor.ids))
    folders = [data_folder(workspace.store.home, owner) / digest for owner in owners]
    yield from (folder / name for folder in folders)
    for folder in folders:
        yield from sorted(folder.glob("[!.]*"))  # what begins with a dot is being copied


def _digests(sweep: Sweep, data: str) -> Sequence[str]:
    """Of the content that its runs have read; where none has, of that by which the file is filed here."""
    known = fingerprints(run.environment for run in sweep.runs) or {PurePath(data).parent.name}
    return sorted(filter(_DIGEST.fullmatch, known))


def _named(workspace: Workspace, data: str) -> Iterator[Path]:
    """The file that whoever asks may read by this name, if there is one."""
    with contextlib.suppress(BadDataError, InvalidSettingError):
        if path := workspace.references.data(data).path:
            yield path


def _is_one_of(file: Path, digests: Sequence[str]) -> bool:
    try:
        if not file.is_file() or file.stat().st_size > dataset.MAX_FILE_BYTES:
            return False
        return copies.digest_of(file) in digests
    except OSError:
        return False
