"""How a short-lived child answers: one JSON object on standard output, an error of ours with exit code 2."""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from rankviz.children import REQUEST
from rankviz.errors import OF_THE_DISK, RankVizError
from rankviz.machine import disk

TOO_LARGE = "It needs more memory than RankViz allows for reading it."


def own_output() -> TextIO:
    """Return this process's standard output for its answer alone: what libraries print goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def answer(result: Callable[[], Mapping[str, Any]], *, too_large: str = TOO_LARGE) -> int:
    """Print what `result` returns, or its error; the exit code."""
    out = own_output()
    try:
        reply, code = result(), 0
    except RankVizError as error:
        reply, code = error_json(error), 2
    except MemoryError:
        reply, code = {"error": "", "message": too_large}, 2
    except OSError as error:
        if error.errno in disk.FULL:
            reply, code = {"error": "StorageError", "message": disk.explain(error)}, 2
        elif error.errno in OF_THE_DISK:
            reply, code = {"error": "RankVizError", "message": f"It cannot be unpacked here: {error.strerror}."}, 2
        else:
            raise
    with contextlib.suppress(BrokenPipeError), out:
        json.dump(reply, out)
    return code


def error_json(error: RankVizError) -> dict[str, str]:
    """Return an error as children.remade reads it."""
    return {"error": type(error).__name__, "message": str(error)}


def request_in(folder: str) -> Any:
    """Return the request that a child finds in its folder."""
    return json.loads((Path(folder) / REQUEST).read_bytes())
