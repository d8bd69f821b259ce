"""Runs `python -m rankviz.worker COMMAND ...`; it imports the command's module only when it is used."""

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rankviz import logs
from rankviz.children import REQUEST
from rankviz.errors import DISK_ERRNOS, RankVizError
from rankviz.machine import disk

PROGRAMS = {
    "finetune": "finetune.main:main",
    "probe": "probe:main",
    "probe_depth": "probe:depth",
    "preflight": "device:preflight",
}
"""Functions by command. Each gets the other arguments and returns the exit code."""
ANSWERS = {
    "introspect": "introspect.layers:introspect_file",
    "simulate": "simulate.card:simulated",
    **{name: f"reading:{name}" for name in ("adapter", "resize", "data", "results", "hub")},
    "import": "reading:imported",
    "export": "reading:exported",
    "publish": "sending:published",
    "answer": "trying:answered",
}
"""Functions by command. Each gets the entries of the request in a folder; its result or error is printed as JSON."""


TOO_LARGE = "It needs more memory than RankViz allows for reading it."


def main(argv: list[str]) -> int:
    logs.keep_tokens_out()
    if not argv or argv[0] not in PROGRAMS | ANSWERS:
        print(f"usage: python -m rankviz.worker {'|'.join(PROGRAMS | ANSWERS)} ...", file=sys.stderr)
        return 2
    module, _, name = (PROGRAMS | ANSWERS)[argv[0]].partition(":")

    def function() -> Callable[..., Any]:
        return getattr(importlib.import_module(f"rankviz.worker.{module}"), name)

    if argv[0] in PROGRAMS:
        return function()(argv[1:])
    request = json.loads(Path(argv[1], REQUEST).read_bytes())
    return answer(lambda: function()(**request))


def answer(result: Callable[[], Mapping[str, Any]]) -> int:
    """Print the JSON that `result` returns, or its error as JSON, and return the exit code: 0, or 2 for an error. All
    else that is printed goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        reply, code = result(), 0
    except RankVizError as error:
        reply, code = {"error": type(error).__name__, "message": str(error)}, 2
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
