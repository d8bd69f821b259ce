"""The lines of a job's log that carry journals: RANKVIZ and a JSON object.

RANKVIZ {"run": "…", "attempt": 1, "offset": 120, "text": "{\\"event\\": …}\\n"}    what stands there of a journal
RANKVIZ {"exit_code": 0}                                                       how the worker ended
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

from rankviz.core.runs.events import Attempt

MARK = "RANKVIZ "
MAX_TEXT = 4000
"""A longer line of a journal is written in pieces, since logs cut long lines."""
MAX_CODE = 2**32
"""Windows has such."""


class Piece(NamedTuple):
    """Bytes of a journal."""

    attempt: Attempt
    offset: int
    data: bytes


def written(attempt: Attempt, offset: int, data: bytes) -> Iterator[str]:
    """The log's lines of whole lines of a journal."""
    for line in data.splitlines(keepends=True):
        for start in range(0, len(line), MAX_TEXT):
            text = line[start : start + MAX_TEXT].decode("latin-1")
            row = {"run": attempt.run_id, "attempt": attempt.number, "offset": offset + start, "text": text}
            yield MARK + json.dumps(row)
        offset += len(line)


def ended(exit_code: int) -> str:
    return MARK + json.dumps({"exit_code": exit_code})


def read(line: str) -> Piece | int | None:
    """What a line of a log has: a piece, an exit code, or nothing of ours. A job may print anything."""
    at = line.find(MARK)
    if at < 0:
        return None
    try:
        row = json.loads(line[at + len(MARK) :])
        if "exit_code" in row:
            return int(row["exit_code"]) if abs(row["exit_code"]) <= MAX_CODE else None
        attempt = Attempt(str(row["run"]), int(row["attempt"]))
        piece = Piece(attempt, int(row["offset"]), row["text"].encode("latin-1"))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None
    return piece if piece.offset >= 0 and len(piece.data) <= MAX_TEXT else None
