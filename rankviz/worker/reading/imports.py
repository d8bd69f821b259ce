"""Brings the runs of an exported zip into the runs folder, and prints their ids."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankviz import store
from rankviz.api.visitors.quota import require_runs
from rankviz.api.workspace import Workspace
from rankviz.store.ownership import Ownership
from rankviz.worker.answering import answer, request_in


def main(argv: Sequence[str]) -> int:
    asked = request_in(argv[0])
    return answer(lambda: {"run_ids": imported(asked)})


def imported(asked: Mapping[str, Any]) -> Sequence[str]:
    """All runs of the zip, or none."""
    shipped = store.recorded(Path(asked["assets"]))
    folders = store.read_export(Path(asked["source"]), shipped, store.ImportLimits(*asked["limits"]))
    workspace, owner = Workspace(Path(asked["home"])), asked["owner"]
    with workspace.writing(), workspace.store.admission():
        most, most_in_total = asked["most"], asked["most_in_total"]
        require_runs(workspace.store, owner, len(folders), most=most, most_in_total=most_in_total)
        return store.take_in(workspace.store, folders, shipped, Ownership(owner))
