"""Writes runs, recorded ones among them, into a zip that another RankViz imports."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankviz import store
from rankviz.worker.answering import answer, request_in


def main(argv: Sequence[str]) -> int:
    request = request_in(argv[0])
    return answer(lambda: written(**request))


def written(homes: Sequence[str], run_ids: Sequence[str], target: str) -> Mapping[str, Any]:
    """homes: runs folders; the first that has a run is taken."""
    store.export_runs([store.RunStore(Path(home)) for home in homes], run_ids, Path(target))
    return {}
