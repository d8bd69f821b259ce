"""Runs a reader's cases in a process of their own, so that a hang or a full memory is an outcome and not the end.

Bounds are of processor time and of memory, since the clock says more about the machine than about the reader.
"""

import contextlib
import faulthandler
import gc
import os
import pickle
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from rankviz.errors import RankVizError

CPU_SECONDS = 2.0
WALL_SECONDS = 60.0
"""Of a reader that waits instead of computing."""
MEMORY_BYTES = 500 * 10**6
MADE = bytes(4)
"""Written once a case's input is made: the harness's own time is not the reader's."""
BATCH = 500
"""Cases of one process: what they leave behind adds up to no more."""


class Outcome(NamedTuple):
    """What became of one case."""

    index: int
    kind: str
    """"result", "refused" (an error of ours), or what broke: "traceback", "time", "memory", "died"."""
    detail: str = ""


def run_cases(make: Callable[[Random], Any], read: Callable[[Any], Any], *, seed: str, cases: range) -> list[Outcome]:
    """The outcome of each case. make: the input of a case from its own generator; read: what is tried on it."""
    outcomes: list[Outcome] = []
    at = cases.start
    while at < cases.stop:
        batch = range(at, min(at + BATCH, cases.stop))
        outcomes += (ended := _run_batch(make, read, seed, batch))
        at = ended[-1].index + 1
    return outcomes


def case(make: Callable[[Random], Any], seed: str, index: int) -> Any:
    """The input of one case, to look at it."""
    return make(Random(f"{seed}:{index}"))


def _run_batch(make, read, seed: str, batch: range) -> list[Outcome]:
    """Of as many cases as one process lives for; it ends at the first that breaks a bound."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(ours)
        _be_child(make, read, seed, batch, theirs)
    os.close(theirs)
    try:
        return _watch(pid, ours, batch)
    finally:
        os.close(ours)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _be_child(make, read, seed: str, batch: range, out: int) -> None:
    """Never returns: a fork of pytest must not go on as pytest."""
    try:
        faulthandler.disable()
        gc.freeze()  # what the tests before left is not the reader's to look through: in a whole run it takes seconds
        # A file of its own, so that what a reader prints does not mix with pytest's.
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + 8 * MEMORY_BYTES,) * 2)  # the machine's safety, not the bound
        start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for index in batch:
            given = case(make, seed, index)
            os.write(out, MADE)
            outcome = _try(read, given, index)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) * 1024
            if grown > MEMORY_BYTES:
                outcome = Outcome(index, "memory", f"{grown / 1e6:.0f} MB more than before")
            data = pickle.dumps(outcome)
            os.write(out, len(data).to_bytes(4) + data)
            if outcome.kind == "memory":
                break
    finally:
        os._exit(0)


def _try(read, given: Any, index: int) -> Outcome:
    before = time.process_time()
    try:
        read(given)
        kind, detail = "result", ""
    except RankVizError:
        kind, detail = "refused", ""
    except BaseException:
        kind, detail = "traceback", traceback.format_exc(limit=-6)[-3000:]
    if (spent := time.process_time() - before) > CPU_SECONDS:
        return Outcome(index, "time", f"{spent:.1f} s")
    return Outcome(index, kind, detail)


def _watch(pid: int, source: int, batch: range) -> list[Outcome]:
    outcomes: list[Outcome] = []
    buffer = b""
    cpu, wall = _cpu_seconds(pid), time.monotonic()
    while len(outcomes) < len(batch):
        ready, _, _ = select.select([source], [], [], 0.2)
        if ready:
            got = os.read(source, 1 << 16)
            buffer += got
            while len(buffer) >= 4 and len(buffer) >= (end := 4 + int.from_bytes(buffer[:4])):
                if end > 4:
                    outcomes.append(pickle.loads(buffer[4:end]))
                buffer = buffer[end:]
            cpu, wall = _cpu_seconds(pid), time.monotonic()
            if outcomes and outcomes[-1].kind == "memory":
                return outcomes
            if not got:
                return [*outcomes, Outcome(batch[len(outcomes)], "died")] if len(outcomes) < len(batch) else outcomes
        elif _cpu_seconds(pid) - cpu > CPU_SECONDS or time.monotonic() - wall > WALL_SECONDS:
            return [*outcomes, Outcome(batch[len(outcomes)], "time", "ended by the harness")]
    return outcomes


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
