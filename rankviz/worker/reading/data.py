"""Prints what a data file holds: its first rows and its lengths."""

from collections.abc import Sequence
from pathlib import Path

from rankviz.api.data_files import look, look_json
from rankviz.worker.answering import answer, request_in


def main(argv: Sequence[str]) -> int:
    request = request_in(argv[0])
    return answer(lambda: look_json(look(request["data"], Path(request["assets"]))))
