"""Runs `python -m rankviz.worker probe HOME PROBE_ID@ATTEMPT`: each depth in its own process, with limits of time and
memory.

This process loads no torch: it starts depth.py, reads its messages, watches the memory it takes and ends it at a limit.
Running out of memory is a result; running out of time is one too as long as two depths are known.
"""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from rankviz import machine, units
from rankviz.core.probe import BUSY_SHARE, FREE_MEMORY_SHARE, MOST_TRIES
from rankviz.core.runs.events import Attempt, DepthDidNotFit, DepthMeasured, DepthSkipped, ProbeCompleted, RunStarted
from rankviz.errors import UserError
from rankviz.store import RunStore
from rankviz.worker.journal import Journal, admit_probe, redirect_output

COMMAND = (sys.executable, "-m", "rankviz.worker", "probe_depth")
POLL_SECONDS = 0.02
"""Between two looks at the memory: what is allocated meanwhile may go past the limit."""


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
    killed = {probe_id, *(probe.run_id for probe in store.probes() if probe.state.ended)}
    for left in store.runs_dir.glob("*/base-*"):
        if left.parent.name in killed:
            shutil.rmtree(left, ignore_errors=True)
    try:
        admit_probe(store, journal.request)
        Probe(store, journal, home).run()
    except Exception as error:
        return journal.fail(error)
    return 0


class Probe:
    """The depths of one probe, one after the other."""

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
        """Bytes of this machine's own memory for one process. With a GPU the requested limit is the card's, which the
        process keeps itself: torch for CUDA alone takes some GiB here."""
        return (None if self._cuda else self.request.memory_limit_bytes) or self.free_bytes

    def run(self) -> None:
        """Measure what fits; a depth that is known not to fit isn't tried."""
        for depth in self.request.depths:
            if (reason := self._reason_to_skip(depth)) is not None:
                self.journal.append(DepthSkipped(time=time.time(), depth=depth, reason=reason))
                continue
            try:
                fitted = self._measure(depth)
            except OutOfTime as error:
                if self.store.probe(self.request.probe_id).extrapolated is None:
                    raise
                self.journal.append(DepthSkipped(time=time.time(), depth=depth, reason=str(error)))
                break
            if not fitted:
                break
        self.journal.append(ProbeCompleted(time=time.time()))

    def _reason_to_skip(self, depth: int) -> str | None:
        """Why the whole model is not tried, once the shallower depths tell what it takes."""
        record = self.store.probe(self.request.probe_id)
        known = record.extrapolated
        if known is None or depth != self.request.total_depth:
            return None
        needed = max(each.baseline_bytes for each in record.measured) + max(known.peak_bytes, known.load_peak_bytes)
        if record.environment.get("device") != "cuda" and needed > self.limit_bytes:
            return (
                f"All {depth} blocks would need {units.memory_size(needed)}, and the limit is "
                f"{units.memory_size(self.limit_bytes)}, so they were not tried."
            )
        last = record.measured[-1]
        steps = last.first_step_seconds / last.step_seconds + self.request.timed_steps
        seconds = max(each.took_seconds - sum(each.timed_steps) for each in record.measured)
        seconds += steps * known.step_seconds
        left = self.deadline - time.monotonic()
        if seconds > left:
            return (
                f"All {depth} blocks would take about {units.duration(seconds)} and {units.duration(max(0.0, left))} "
                "were left of the time limit, so they were not tried."
            )
        return None

    def _measure(self, depth: int) -> bool:
        """Whether the depth fitted; its result is in the journal either way. Measured again where something else kept
        the machine busy, as long as a third of the time left is enough for that, and the quietest one counts."""
        tries: list[DepthMeasured] = []
        while True:
            event = self._try(depth, " again, since the machine was busy" if tries else "")
            if not isinstance(event, DepthMeasured):
                break
            tries.append(event)
            to_come = 1 + sum(each > depth for each in self.request.depths)
            too_late = 3 * to_come * event.took_seconds > self.deadline - time.monotonic()
            if event.busy_elsewhere <= BUSY_SHARE or len(tries) == MOST_TRIES or too_late:
                break
        self.journal.append(min(tries, key=lambda each: each.busy_elsewhere) if tries else event)
        return bool(tries)

    def _try(self, depth: int, again: str) -> DepthMeasured | DepthDidNotFit:
        """Start a process for the depth and watch it."""
        folder, started = self.store.run_dir(self.request.probe_id) / f"base-{depth}", time.monotonic()
        child = subprocess.Popen(
            [*COMMAND, str(self.home), self.request.probe_id, str(depth), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        stage, seen_bytes, lines = "starting", 0, _Lines(child.stdout.fileno())

        def did_not_fit(why: str, limit_bytes: int) -> DepthDidNotFit:
            short = {"limit_bytes": limit_bytes, "short_bytes": seen_bytes - limit_bytes, "stage": stage, "why": why}
            return DepthDidNotFit(time=time.time(), depth=depth, **short)

        try:
            while not lines.ended:
                for message in lines.within(POLL_SECONDS):
                    ((kind, value),) = message.items()
                    if kind == "stage":
                        stage = value
                        self.journal.stages.begin(f"{depth} blocks{again}: {stage}")
                    elif kind == "environment":
                        self._start(value)
                    elif kind == "measured":
                        child.wait()
                        value |= {"timed_steps": tuple(value["timed_steps"]), "depth": depth}
                        return DepthMeasured(time=time.time(), took_seconds=time.monotonic() - started, **value)
                    elif kind == "did_not_fit":
                        return DepthDidNotFit(time=time.time(), depth=depth, **value)
                    else:
                        raise UserError(value)
                with suppress(psutil.Error):
                    seen_bytes = max(seen_bytes, psutil.Process(child.pid).memory_info().rss)
                if seen_bytes > self.limit_bytes:
                    return did_not_fit("memory limit", self.limit_bytes)
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
        if code == -9:  # not by us: the kernel ends the largest process when memory runs out
            return did_not_fit("system", seen_bytes)
        raise UserError(f"The process that measured {depth} blocks ended with code {code} without a result.")

    def _start(self, environment: dict) -> None:
        self._cuda = environment["device"] == "cuda"
        if not self._started:
            self._started = True
            self.journal.append(RunStarted(time=time.time(), environment=environment))


class _Lines:
    """JSON lines from a pipe, as they come."""

    def __init__(self, fd: int):
        self._fd, self._rest = fd, b""
        self.ended = False

    def within(self, seconds: float) -> list[dict]:
        """Return the lines that come, waiting at most so long; `ended` once the other side has closed the pipe."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return []
        data = os.read(self._fd, 65536)
        self.ended = not data
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in whole if line]
