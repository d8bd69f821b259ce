"""Answers of short-lived child processes: one JSON object on standard output, exit code 2 for a RankVizError."""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from rankviz.errors import DISK_ERRNOS, RankVizError
from rankviz.machine import disk

TOO_LARGE = "It needs more memory than RankViz allows for reading it."


def own_output() -> TextIO:
    """Return a stream to this process's standard output for its answer; all other output goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def answer(result: Callable[[], Mapping[str, Any]]) -> int:
    """Print the JSON that `result` returns, or its error as JSON, and return the exit code: 0, or 2 for an error."""
    out = own_output()
    try:
        reply, code = result(), 0
    except RankVizError as error:
        reply, code = error_json(error), 2
    except MemoryError:
        reply, code = {"error": "", "message": TOO_LARGE}, 2
    except OSError as error:
        if error.errno in disk.FULL:
            reply, code = {"error": "StorageError", "message": disk.explain(error)}, 2
        elif error.errno in DISK_ERRNOS:
            reply, code = {"error": "RankVizError", "message": f"It cannot be unpacked here: {error.strerror}."}, 2
        else:
            raise
    with contextlib.suppress(BrokenPipeError), out:
        json.dump(reply, out)
    return code


def error_json(error: RankVizError) -> dict[str, str]:
    """Return the class name and message of an error; `children.remade` makes the error from them."""
    return {"error": type(error).__name__, "message": str(error)}
