"""Prints what result files hold, each as a small file of its own or with the reason why it cannot be read."""

from collections.abc import Sequence
from pathlib import Path

from rankviz.catalog import own_studies
from rankviz.worker.answering import answer, request_in


def main(argv: Sequence[str]) -> int:
    paths = [Path(path) for path in request_in(argv[0])["paths"]]
    return answer(lambda: {"results": [result._asdict() for result in own_studies.read(paths)]})
