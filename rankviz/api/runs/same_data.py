"""The data of a sweep that goes on: a file with the content that its runs were trained on, and no other of its name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from rankviz import dataset
from rankviz.core.runs.environment import fingerprints
from rankviz.errors import BadDataError, InvalidSettingError, quoted
from rankviz.store.copies import digest_of
from rankviz.visitor import data_folder

if TYPE_CHECKING:
    from rankviz.api.workspace import Workspace
    from rankviz.core.runs.record import Sweep

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
    digests, owner = _digests(sweep, data), workspace.store.ownership(sweep.runs[0].run_id).owner
    kept = (data_folder(workspace.store.home, owner) / digest / PurePath(data).name for digest in digests)
    same = next((file for file in (*kept, *_named(workspace, data)) if _is_one_of(file, digests)), None)
    return data if same is None else str(same.absolute())


def require(workspace: Workspace, sweep: Sweep, data: str) -> None:
    """BadDataError where what a run of a sweep names is no sample, and no file that the sweep was trained on."""
    if dataset.is_sample(data, workspace.assets):
        return
    is_whole = PurePath(data).is_absolute()  # a worker stands in another folder
    if not is_whole or not any(_is_one_of(file, _digests(sweep, data)) for file in _named(workspace, data)):
        raise BadDataError(GIVE_AGAIN.format(quoted(PurePath(data).name)))


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
        return digest_of(file) in digests
    except OSError:
        return False
