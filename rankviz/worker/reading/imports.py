"""Brings the runs of an exported zip into the runs folder, and prints their ids."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankviz import store, units
from rankviz.api.visitors.quota import require_runs
from rankviz.api.workspace import Workspace
from rankviz.errors import LimitError
from rankviz.store.ownership import Ownership
from rankviz.worker.answering import answer, request_in


def main(argv: Sequence[str]) -> int:
    asked = request_in(argv[0])
    return answer(lambda: {"run_ids": imported(asked)})


def imported(asked: Mapping[str, Any]) -> Sequence[str]:
    """All runs of the zip, or none."""
    shipped = store.recorded(Path(asked["assets"]))
    folders = store.read_export(Path(asked["source"]), shipped, store.ImportLimits(*asked["limits"]))
    size, most_bytes = sum(len(content) for folder in folders for content in folder.files.values()), asked["most_bytes"]
    if most_bytes is not None and size > most_bytes:
        raise LimitError(
            f"These runs take {units.file_size(size)}, and this server has {units.file_size(max(0, most_bytes))} left "
            "for files of yours. Export and delete some of yours first."
        )
    workspace, owner = Workspace(Path(asked["home"])), asked["owner"]
    with workspace.writing(), workspace.store.admission():
        most, most_in_total = asked["most"], asked["most_in_total"]
        require_runs(workspace.store, owner, len(folders), most=most, most_in_total=most_in_total)
        return store.take_in(workspace.store, folders, shipped, Ownership(owner))
