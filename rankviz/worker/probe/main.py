"""Runs `python -m rankviz.worker probe HOME PROBE_ID@ATTEMPT`: each depth in its own process, with limits of time and
memory.

This process loads no torch: it starts depth.py, reads what that says, watches the memory it takes and ends it
at a limit. That memory ran out is a result; that time ran out is one too as long as two depths are known.
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
LOOK_SECONDS = 0.02
"""How often memory is looked at: what is asked for meanwhile may go past the limit."""


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
        self._label = ""

    @property
    def limit_bytes(self) -> int:
        """Of this machine's own memory, for one process. With a GPU the limit that was asked for is the card's, which
        the process keeps itself: torch for CUDA alone takes some GiB here."""
        limit = None if self._cuda else self.request.memory_limit_bytes
        return limit or self.free_bytes

    def run(self) -> None:
        """Measure what fits; what is known not to fit isn't tried."""
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
        """Of the whole model, once the shallower depths tell what it takes."""
        record = self.store.probe(self.request.probe_id)
        known = record.extrapolated
        if known is None or depth != self.request.total_depth:
            return None
        baseline = max(each.baseline_bytes for each in record.measured)
        needed = baseline + max(known.peak_bytes, known.load_peak_bytes)
        if record.environment.get("device") != "cuda" and needed > self.limit_bytes:
            return (
                f"All {depth} blocks would need {units.memory_size(needed)}, and the limit is "
                f"{units.memory_size(self.limit_bytes)}, so they were not tried."
            )
        steps = record.measured[-1].first_step_seconds / record.measured[-1].step_seconds + self.request.timed_steps
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
        event = self._try(depth)
        while isinstance(event, DepthMeasured):
            tries.append(event)
            if event.busy_elsewhere <= BUSY_SHARE or len(tries) == MOST_TRIES:
                break
            to_come = 1 + sum(each > depth for each in self.request.depths)
            if 3 * to_come * event.took_seconds > self.deadline - time.monotonic():
                break
            event = self._try(depth, again=True)
        self.journal.append(min(tries, key=lambda each: each.busy_elsewhere) if tries else event)
        return bool(tries)

    def _try(self, depth: int, *, again: bool = False) -> DepthMeasured | DepthDidNotFit:
        self._label = f"{depth} blocks{' again, since the machine was busy' if again else ''}"
        started = time.monotonic()
        folder = self.store.run_dir(self.request.probe_id) / f"base-{depth}"
        try:
            return self._watch(depth, folder, started)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _watch(self, depth: int, folder: Path, started: float) -> DepthMeasured | DepthDidNotFit:
        child = subprocess.Popen(
            [*COMMAND, str(self.home), self.request.probe_id, str(depth), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        stage, seen_bytes, lines = "starting", 0, _Lines(child.stdout.fileno())
        try:
            while True:
                for message in lines.within(LOOK_SECONDS):
                    if "stage" in message:
                        stage = message["stage"]
                        self.journal.stages.begin(f"{self._label}: {stage}")
                    elif "environment" in message:
                        self._start(message["environment"])
                    elif "measured" in message:
                        child.wait()
                        seconds = time.monotonic() - started
                        return _measured(message["measured"], depth=depth, took_seconds=seconds)
                    elif "did_not_fit" in message:
                        return DepthDidNotFit(time=time.time(), depth=depth, **message["did_not_fit"])
                    elif "error" in message:
                        raise UserError(message["error"])
                if lines.ended:
                    break
                seen_bytes = max(seen_bytes, _resident_bytes(child.pid))
                if seen_bytes > self.limit_bytes:
                    return self._did_not_fit(depth, seen_bytes, stage, "memory limit")
                if time.monotonic() > self.deadline:
                    raise OutOfTime(
                        f"The time limit of {units.duration(self.request.time_limit_seconds)} was reached with "
                        f"{depth} blocks ({stage}): give more time, or a smaller batch or length."
                    )
            code = child.wait()
        finally:
            child.kill()
            child.wait()
        if code == -9:
            # Not by us: the kernel ends the largest process when memory runs out.
            return self._did_not_fit(depth, seen_bytes, stage, "system")
        raise UserError(f"The process that measured {depth} blocks ended with code {code} without a result.")

    def _did_not_fit(self, depth: int, seen_bytes: int, stage: str, why: str) -> DepthDidNotFit:
        limit_bytes = self.limit_bytes if why == "memory limit" else seen_bytes
        return DepthDidNotFit(
            time=time.time(),
            depth=depth,
            limit_bytes=limit_bytes,
            short_bytes=seen_bytes - limit_bytes,
            stage=stage,
            why=why,
        )

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
        """What has come, waiting at most so long; `ended` once the other side has closed it."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return []
        data = os.read(self._fd, 65536)
        self.ended = not data
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in whole if line]


def _measured(fields: dict, *, depth: int, took_seconds: float) -> DepthMeasured:
    fields = {**fields, "timed_steps": tuple(fields["timed_steps"])}
    return DepthMeasured(time=time.time(), depth=depth, took_seconds=took_seconds, **fields)


def _resident_bytes(pid: int) -> int:
    with suppress(psutil.Error):
        return psutil.Process(pid).memory_info().rss
    return 0
