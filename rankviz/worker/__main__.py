"""Runs `python -m rankviz.worker COMMAND ...`; it imports the command's module only when it is used."""

import importlib
import json
import sys
from pathlib import Path

from rankviz import logs
from rankviz.children import REQUEST
from rankviz.worker.answering import answer

PROGRAMS = {
    "finetune": "finetune.main:main",
    "probe": "probe:main",
    "probe_depth": "probe:depth",
    "preflight": "preflight:main",
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
"""Functions by command, whose argument is a folder with a request. Each gets the request's entries; its result or error
is printed as JSON."""


def main(argv: list[str]) -> int:
    logs.keep_tokens_out()
    if not argv or argv[0] not in PROGRAMS | ANSWERS:
        print(f"usage: python -m rankviz.worker {'|'.join(PROGRAMS | ANSWERS)} ...", file=sys.stderr)
        return 2
    module, _, name = (PROGRAMS | ANSWERS)[argv[0]].partition(":")
    if argv[0] in ANSWERS:
        request = json.loads(Path(argv[1], REQUEST).read_bytes())
        return answer(lambda: getattr(importlib.import_module(f"rankviz.worker.{module}"), name)(**request))
    return getattr(importlib.import_module(f"rankviz.worker.{module}"), name)(argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
