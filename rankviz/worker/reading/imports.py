"""Brings the runs of an exported zip into the runs folder, and prints their ids."""

from collections.abc import Sequence
from pathlib import Path

from rankviz import store
from rankviz.store.ownership import Ownership
from rankviz.worker.answering import answer, request_in


def main(argv: Sequence[str]) -> int:
    asked = request_in(argv[0])
    runs = store.RunStore(Path(asked["home"]))
    owner = Ownership(asked["owner"])
    return answer(lambda: {"run_ids": store.import_runs(runs, Path(asked["source"]), set(asked["shipped"]), owner)})
