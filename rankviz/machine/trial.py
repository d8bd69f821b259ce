"""The trial: a worker process imports and uses, step by step, what training uses, under a time limit."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from rankviz.child import TRAINING, environment
from rankviz.core.preflight.facts import TrialStep
from rankviz.machine.cards import worker_environment
from rankviz.paths import IMPORT_ROOT

COMMAND = (sys.executable, "-m", "rankviz.worker", "preflight")
TIMEOUT_S = 180.0
"""Importing Unsloth takes up to a minute on a cold disk, the first Triton kernel some seconds."""


def run(*, command: Sequence[str] = COMMAND, timeout_s: float = TIMEOUT_S) -> tuple[TrialStep, ...]:
    """The steps that were taken, in order. Where the process hung or died, the last is the step in which it did."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rankviz-") as scratch, tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            cwd=scratch,  # Unsloth writes its compiled cache into the working directory
            env={**environment(TRAINING), **worker_environment(), "PYTHONPATH": _search_path()},
            start_new_session=True,
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return _steps(output.read().splitlines(), code, time.monotonic() - started)


def _steps(lines: Sequence[str], code: int | None, seconds: float) -> tuple[TrialStep, ...]:
    """Each step is announced as {"starting": name} and then reported."""
    steps, pending = [], "starting Python"
    for line in lines:
        try:
            message = json.loads(line)
        except ValueError:
            continue  # what a library prints, or a line cut off by the end
        if "starting" in message:
            pending = message["starting"]
        else:
            steps.append(TrialStep(**{**message, "architectures": tuple(message.get("architectures", ()))}))
            pending = ""
    if code == 0:
        return tuple(steps)
    where = f" while {pending}" if pending else ""
    end = f"ended with code {code}" if code is not None else "was stopped at its time limit"
    left = seconds - sum(step.seconds for step in steps)
    return (*steps, TrialStep(name="the process", ok=False, found=f"It {end}{where}", seconds=max(0.0, left)))


def _search_path() -> str:
    return os.pathsep.join([str(IMPORT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
