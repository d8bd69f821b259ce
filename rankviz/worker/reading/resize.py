"""Writes an adapter at lower ranks, into a folder or as a zip; without a plan it is only zipped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankviz.trained.files import pack
from rankviz.trained.read import read_adapter
from rankviz.trained.resize import plan_from, resize, zipped
from rankviz.worker.answering import answer, request_in


def main(argv: Sequence[str]) -> int:
    request = request_in(argv[0])
    return answer(lambda: written(**request))


def written(
    paths: Sequence[str], target: str, max_bytes: int, plan: Mapping[str, Any] | None = None, as_zip: bool = True
) -> Mapping[str, Any]:
    """target: a new file, or else a new folder."""
    if plan is None:
        pack(Path(paths[0]), Path(target))
        return {}
    write = zipped if as_zip else resize
    write(read_adapter([Path(path) for path in paths], max_bytes=max_bytes), plan_from(plan), Path(target))
    return {}
