"""Runs `python -m rankviz.worker COMMAND ...`; it imports the command's module only when it is used."""

import importlib
import sys

from rankviz import logs

COMMANDS = {
    "introspect": "introspect.layers",
    "finetune": "finetune.main",
    "probe": "probe",
    "probe_depth": "probe:depth",
    "preflight": "preflight",
    "simulate": "simulate.card",
    "adapter": "reading:adapter",
    "resize": "reading:resize",
    "data": "reading:data",
    "results": "reading:results",
    "hub": "reading:hub",
    "import": "reading:imported",
    "export": "reading:exported",
    "publish": "sending",
}


def main(argv: list[str]) -> int:
    logs.keep_tokens_out()
    if not argv or argv[0] not in COMMANDS:
        print(f"usage: python -m rankviz.worker {'|'.join(COMMANDS)} ...", file=sys.stderr)
        return 2
    module, _, function = COMMANDS[argv[0]].partition(":")
    return getattr(importlib.import_module(f"rankviz.worker.{module}"), function or "main")(argv[1:]) or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
