"""Brings the runs of an exported zip into the runs folder, and prints their ids."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankviz import store, units
from rankviz.api.visitors.quota import require_runs
from rankviz.api.workspace import Workspace
from rankviz.core.runs.record import Sweep
from rankviz.errors import LimitError, UserError
from rankviz.store import removal
from rankviz.store.ownership import Ownership
from rankviz.worker.answering import answer, error_json, request_in


def main(argv: Sequence[str]) -> int:
    request = request_in(argv[0])
    return answer(lambda: imported(request))


def imported(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """All runs of the zip, or none, and the bytes that they take. An error is of the zip; for what is in the runs
    folder it is refused."""
    shipped = store.recorded(Path(request["assets"]))
    folders = store.read_export(Path(request["source"]), shipped, store.ImportLimits(*request["limits"]))
    takes = sum(len(content) for folder in folders for content in folder.files.values())
    try:
        _require_bytes(takes, request["most_bytes"])
        run_ids = _import(request, folders, shipped)
    except UserError as error:
        return {"run_ids": [], "takes": takes, "refused": error_json(error)}
    return {"run_ids": run_ids, "takes": takes, "refused": None}


def _require_bytes(size: int, most_bytes: float | None) -> None:
    if most_bytes is not None and size > most_bytes:
        raise LimitError(
            f"These runs take {units.file_size(size)}, and this server has {units.file_size(max(0, most_bytes))} left "
            "for files of yours. Export and delete some of yours first."
        )


def _import(request: Mapping[str, Any], folders: Sequence[Any], shipped: Sequence[Sweep]) -> Sequence[str]:
    workspace, owners = Workspace(Path(request["home"])), request["owners"]
    with workspace.writing(), workspace.store.admission():
        most, most_in_total = request["most"], request["most_in_total"]
        leaving = require_runs(workspace.store, owners, len(folders), most=most, most_in_total=most_in_total)
        run_ids = store.take_in(workspace.store, folders, shipped, Ownership(owners[0]), request["strangers"])
        removal.let_go(workspace.store, leaving)  # last: what is refused takes nobody's place
        return run_ids
