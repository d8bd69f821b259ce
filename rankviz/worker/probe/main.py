"""Runs `python -m rankviz.worker probe HOME PROBE_ID@ATTEMPT`: each depth in a process of its own, with limits.
This process loads no torch: it starts depth.py, reads its messages, watches its memory and ends it at a limit of time
or memory. Running out of memory is a result; so is running out of time after two measured depths."""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from rankviz import machine, units
from rankviz.core.probe import FREE_MEMORY_SHARE
from rankviz.core.runs.events import Attempt, DepthDidNotFit, DepthMeasured, DepthSkipped, ProbeCompleted, RunStarted
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
        Probe(store, journal, home).run()
    except Exception as error:
        return journal.fail(error)
    return 0


class Probe:
    """Measures the depths of one probe, one after the other."""

    def __init__(self, store: RunStore, journal: Journal, home: Path):
        self.store, self.journal, self.home = store, journal, home
        self.request = journal.request
        self.deadline = time.monotonic() + self.request.time_limit_seconds
        free_bytes = min(psutil.virtual_memory().available, machine.memory_bytes())
        self.free_bytes = round(FREE_MEMORY_SHARE * free_bytes)
        self._cuda = machine.here()["device"] == "cuda"
        self._started = False

    @property
    def limit_bytes(self) -> int:
        """Bytes of this machine's own memory for one process. With a GPU the requested limit is that of the card,
        which the process keeps itself, because torch for CUDA alone takes some GiB of this memory."""
        return (None if self._cuda else self.request.memory_limit_bytes) or self.free_bytes

    def run(self) -> None:
        """Measure the depths in rising order, until one does not fit or time is over."""
        for depth in self.request.depths:
            try:
                event = self._measure(depth)
            except OutOfTime as error:
                if self.store.probe(self.request.probe_id).extrapolated is None:
                    raise
                event = DepthSkipped(time=time.time(), depth=depth, reason=str(error))
            self.journal.append(event)
            if not isinstance(event, DepthMeasured):
                break
        self.journal.append(ProbeCompleted(time=time.time()))

    def _measure(self, depth: int) -> DepthMeasured | DepthDidNotFit:
        folder, started = self.store.run_dir(self.request.probe_id) / f"base-{depth}", time.monotonic()
        child = subprocess.Popen(
            [*COMMAND, str(self.home), self.request.probe_id, str(depth), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        stage, seen_bytes = "starting", 0
        try:
            for message in _messages(child.stdout.fileno()):
                for kind, value in message.items():
                    if kind == "stage":
                        stage = value
                        self.journal.stages.begin(f"{depth} blocks: {stage}")
                    elif kind == "environment":
                        self._start(value)
                    elif kind == "measured":
                        child.wait()
                        value |= {"timed_steps": tuple(value["timed_steps"]), "depth": depth}
                        return DepthMeasured(time=time.time(), took_seconds=time.monotonic() - started, **value)
                    elif kind == "did_not_fit":
                        return DepthDidNotFit(time=time.time(), depth=depth, stage=stage, **value)
                    else:
                        raise UserError(value)
                with suppress(psutil.Error):
                    seen_bytes = max(seen_bytes, psutil.Process(child.pid).memory_info().rss)
                if seen_bytes > self.limit_bytes:
                    short = {"limit_bytes": self.limit_bytes, "short_bytes": seen_bytes - self.limit_bytes}
                    return DepthDidNotFit(time=time.time(), depth=depth, **short, stage=stage, why="memory limit")
                if time.monotonic() > self.deadline:
                    raise OutOfTime(
                        f"The time limit of {units.duration(self.request.time_limit_seconds)} was reached with "
                        f"{depth} blocks ({stage}): give more time, or a smaller batch or length."
                    )
            code = child.wait()
        finally:
            child.kill()
            child.wait()
            shutil.rmtree(folder, ignore_errors=True)
        if code != -9:  # by the kernel, which ends the largest process when memory runs out
            raise UserError(f"The process that measured {depth} blocks ended with code {code} without a result.")
        return DepthDidNotFit(
            time=time.time(), depth=depth, limit_bytes=seen_bytes, short_bytes=0, stage=stage, why="system"
        )

    def _start(self, environment: dict) -> None:
        self._cuda = environment["device"] == "cuda"
        if not self._started:
            self._started = True
            self.journal.append(RunStarted(time=time.time(), environment=environment))


def _messages(fd: int) -> Iterator[dict]:
    """Yield the JSON lines of a pipe until it is closed, and an empty object where none came within POLL_SECONDS."""
    rest = b""
    while True:
        if not select.select([fd], [], [], POLL_SECONDS)[0]:
            yield {}
            continue
        if not (data := os.read(fd, 65536)):
            return
        *whole, rest = (rest + data).split(b"\n")
        yield from map(json.loads, filter(None, whole))
