"""Brings the runs of an exported zip into the runs folder, and prints their ids."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankviz import store
from rankviz.api.visitors.quota import require_kept
from rankviz.errors import UserError
from rankviz.store.ownership import Ownership
from rankviz.worker.answering import answer, error_json, request_in


def main(argv: Sequence[str]) -> int:
    asked = request_in(argv[0])
    return answer(lambda: imported(asked))


def imported(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """All runs of the zip, or none. An error is of the zip; for what is in the runs folder it is refused."""
    shipped = store.recorded(Path(asked["assets"]))
    folders = store.read_export(Path(asked["source"]), shipped, store.ImportLimits(*asked["limits"]))
    try:
        require_kept(asked["runs_kept"], asked["kept"], len(folders))
        run_ids = store.take_in(store.RunStore(Path(asked["home"])), folders, shipped, Ownership(asked["owner"]))
    except UserError as error:
        return {"run_ids": [], "refused": error_json(error)}
    return {"run_ids": run_ids, "refused": None}
