"""Runs `python -m rankviz.worker probe HOME PROBE_ID@ATTEMPT`: each depth in a process of its own, with limits.
This process loads no torch: it starts depth.py, which writes the journal meanwhile, watches its memory, and ends it at
a limit of time or memory. Running out of memory is a result; so is running out of time after two measured depths."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from rankviz import machine, units
from rankviz.core.probe import FREE_MEMORY_SHARE, ProbeRequest
from rankviz.core.runs.events import Attempt, DepthDidNotFit, DepthSkipped, ProbeCompleted
from rankviz.errors import UserError
from rankviz.store import RunStore
from rankviz.worker.journal import Journal, admit_probe, redirect_output

COMMAND = (sys.executable, "-m", "rankviz.worker", "probe_depth")
POLL_SECONDS = 0.02
"""Seconds between two checks of memory; what is allocated in between may exceed the limit."""


class OutOfTime(UserError):
    """The probe's time limit was reached."""


def main(argv: Sequence[str]) -> int:
    home, (probe_id, attempt) = Path(argv[0]).resolve(), Attempt.parse(argv[1])
    store = RunStore(home)
    if not store.begin(probe_id, attempt):
        return 0
    os.chdir(home)  # Unsloth writes its compiled cache into the working directory
    journal = Journal(store, probe_id, attempt)
    redirect_output(store.run_dir(probe_id) / "worker.log")
    ended = {probe_id, *(probe.run_id for probe in store.probes() if probe.state.ended)}
    for left in store.runs_dir.glob("*/base-*"):  # of a worker that was killed
        if left.parent.name in ended:
            shutil.rmtree(left, ignore_errors=True)
    try:
        admit_probe(store, journal.request)
        return measure(journal, argv[1])
    except Exception as error:
        return journal.fail(error)


def measure(journal: Journal, attempt: str) -> int:
    """Measure the depths in rising order, until one does not fit or time is over; return the exit code."""
    request, store = journal.request, journal.store
    limit_bytes = memory_limit(request, cuda=machine.here()["device"] == "cuda")
    deadline = time.monotonic() + request.time_limit_seconds
    for depth in request.depths:
        try:
            code = _measure(journal, attempt, depth, limit_bytes, deadline)
        except OutOfTime as error:
            if store.probe(request.probe_id).extrapolated is None:
                raise
            journal.append(DepthSkipped(time=time.time(), depth=depth, reason=str(error)))
            break
        if code:
            return code
        if store.probe(request.probe_id).did_not_fit:
            break
    journal.append(ProbeCompleted(time=time.time()))
    return 0


def memory_limit(request: ProbeRequest, *, cuda: bool) -> int:
    """Return the bytes of this machine's own memory for one process. With a GPU the requested limit is that of the
    card, which the process keeps itself, because torch for CUDA alone takes some GiB of this memory."""
    free_bytes = min(psutil.virtual_memory().available, machine.memory_bytes())
    return (None if cuda else request.memory_limit_bytes) or round(FREE_MEMORY_SHARE * free_bytes)


def _measure(journal: Journal, attempt: str, depth: int, limit_bytes: int, deadline: float) -> int:
    """Let a process measure one depth and write the journal; return its exit code, or 0 where memory ran out."""
    request, store = journal.request, journal.store
    folder, seen_bytes = store.run_dir(request.probe_id) / f"base-{depth}", 0
    child = subprocess.Popen([*COMMAND, str(store.home), attempt, str(depth), str(folder)], stdin=subprocess.DEVNULL)

    def stage() -> str:
        return store.probe(request.probe_id).stage.partition(": ")[2] or "starting"

    def did_not_fit(limit: int, short: int, why: str) -> int:
        values = {"depth": depth, "limit_bytes": limit, "short_bytes": short, "stage": stage(), "why": why}
        journal.append(DepthDidNotFit(time=time.time(), **values))
        return 0

    try:
        while (code := child.poll()) is None:
            with suppress(psutil.Error):
                seen_bytes = max(seen_bytes, psutil.Process(child.pid).memory_info().rss)
            if seen_bytes > limit_bytes or time.monotonic() > deadline:
                child.kill()  # first of all, so that one process writes the journal
                child.wait()
                if seen_bytes > limit_bytes:
                    return did_not_fit(limit_bytes, seen_bytes - limit_bytes, "memory limit")
                raise OutOfTime(
                    f"The time limit of {units.duration(request.time_limit_seconds)} was reached with {depth} blocks "
                    f"({stage()}): give more time, or a smaller batch or length."
                )
            time.sleep(POLL_SECONDS)
    finally:
        child.kill()
        child.wait()
        shutil.rmtree(folder, ignore_errors=True)
    if code == -9:  # by the kernel, which ends the largest process when memory runs out
        return did_not_fit(seen_bytes, 0, "system")
    if code and not store.probe(request.probe_id).state.ended:
        raise UserError(f"The process that measured {depth} blocks ended with code {code} without a result.")
    return code
