"""Writes runs, recorded ones among them, into a zip that another RankViz imports."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rankviz import store
from rankviz.api.visitors import rights
from rankviz.settings import Settings, read
from rankviz.worker.answering import answer, request_in


def main(argv: Sequence[str]) -> int:
    request = request_in(argv[0])
    return answer(lambda: written(**request))


def written(homes: Sequence[str], run_ids: Sequence[str], target: str, for_visitor: bool) -> Mapping[str, Any]:
    """homes: runs folders; the first that has a run is taken. for_visitor: without what is the server's owner's own."""
    stores = [store.RunStore(Path(home)) for home in homes]
    shown = partial(rights.taken_along, settings=read(Settings, shared=True)) if for_visitor else None
    store.export_runs(stores, run_ids, Path(target), shown)
    return {}
