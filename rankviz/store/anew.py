"""The runs of a zip under names of whoever imports them, so that no name tells what other people have here."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rankviz.core.bounds import name_alone
from rankviz.errors import InvalidSettingError
from rankviz.store.journal import request_text

if TYPE_CHECKING:
    from rankviz.store.imports import Folder
    from rankviz.store.runs import RunStore

LONGEST = 100
"""Characters of an id."""
MARK = 8
"""Characters that make a name its importer's."""


def named_anew(store: "RunStore", folders: "Sequence[Folder]", owners: Sequence[str]) -> "list[Folder]":
    """The same runs and sweeps, named the same way at each import, so that a second one finds them there. Of a data
    file only the name stays: where it is, is nothing of the importer's.
    InvalidSettingError where the importer has one of them under the zip's own name, or that of another id of theirs.

    owners: the importer's ids; the first is that of what is imported.
    """
    own = {run_id.lower() for run_id in store.names()[0] if store.ownership(run_id).owner in owners}
    for folder in folders:
        for request in (folder.request, *(_renamed(folder, owner).request for owner in owners[1:])):
            if request.run_id.lower() in own:
                raise InvalidSettingError(f"Run {request.run_id!r} is here already; nothing was imported.")
    return [_renamed(folder, owners[0]) for folder in folders]


def _renamed(folder: "Folder", owner: str) -> "Folder":
    request = folder.request
    sweep_id = _own_name(request.sweep_id, owner)
    number = request.run_id.removeprefix(request.sweep_id)
    run_id = f"{sweep_id}{number}" if number.startswith("-") else ""
    if not run_id or len(run_id) > LONGEST:
        run_id = _own_name(request.run_id, owner)
    request = replace(request, run_id=run_id, sweep_id=sweep_id, data=name_alone(request.data))
    return folder._replace(request=request, files={**folder.files, "request.json": request_text(request)})


def _own_name(name: str, owner: str) -> str:
    mark = hashlib.sha256(f"{owner}\n{name.lower()}".encode()).hexdigest()[:MARK]
    return f"{name[: LONGEST - MARK - 1]}-{mark}"
