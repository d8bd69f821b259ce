"""Ends every process that has a variable of this value once whoever started the guard has closed the pipe to it, or has
gone, however that was; then removes the folder that the value names.

`python -m tests.support.processes.guard NAME VALUE`.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence

import psutil


def main(name: str, value: str) -> None:
    sys.stdin.buffer.read()
    while left := having(name, value):
        for number in (signal.SIGSTOP, signal.SIGKILL):  # all of them, before any can start another
            for process in left:
                with contextlib.suppress(psutil.Error, OSError):
                    os.kill(process.pid, number)
        time.sleep(0.02)
    shutil.rmtree(value, ignore_errors=True)


def having(name: str, value: str) -> Sequence[psutil.Process]:
    """Live processes with this variable, which children inherit."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
