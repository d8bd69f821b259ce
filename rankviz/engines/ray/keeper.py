"""Starts a job's worker on a node and ends all of it: `... ray.keeper FOLDER RUN_ID@N,RUN_ID@N WORKER ...`.

It leaves its parent, so that nobody who ends the slot's children ends it. Its standard input is a pipe from the slot,
which ends with the slot however that dies; then the worker is ended, with every process it has started. Should the
keeper be killed itself, the kernel kills the worker, and the next slot of the machine ends the worker's children.

It says two lines of JSON on its standard output: [errno, why] where the worker could not be started, else [null, ""];
and once all of it is gone, the worker's exit code.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from rankviz import logs
from rankviz.core.runs.events import Attempt
from rankviz.engines import process
from rankviz.engines.process import Worker
from rankviz.errors import EngineEndingError

GRACE_SECONDS = 2.0
LOOK_SECONDS = 0.1
PR_SET_CHILD_SUBREAPER = 36


def main(argv: Sequence[str]) -> int:
    logs.keep_tokens_out()
    if os.fork():
        os._exit(0)
    # What the worker's children leave behind when they end becomes a child of this process, and not of init.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    folder, attempts = Path(argv[0]), [Attempt.parse(text) for text in argv[1].split(",")]
    try:
        worker = process.launch(
            argv[2:],
            home=folder,
            attempts=attempts,
            log=folder / "runs" / attempts[0].run_id / "worker.log",
            dies_with_parent=True,
        )
    except OSError as error:
        _end_children()
        _say([error.errno, str(error)])
        return 1
    _say([None, ""])
    while worker.alive() and not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
        pass
    exit_code = _end(worker)
    _end_children()
    _say(exit_code)
    return 0


def _end(worker: Worker) -> int | None:
    """However long that takes."""
    while True:
        with contextlib.suppress(EngineEndingError):
            return worker.end(GRACE_SECONDS)


def _end_children() -> None:
    while children := psutil.Process().children(recursive=True):
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.send_signal(signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _say(word: Any) -> None:
    """To the slot; nobody hears it where that has gone."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(word).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
