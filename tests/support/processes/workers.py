"""Stand-ins for the worker: small programs that write journals as the true one does, and die as it may."""

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from rankviz.core.runs.events import RunRequeued
from rankviz.jobs.local import COMMANDS, Local
from rankviz.jobs.supervisor import Supervisor
from rankviz.store import RunStore
from tests.support.runs import questions

_PRELUDE = """
import os, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path
from rankviz.core.runs.events import (AdapterAttached, AdapterSaved, Evaluated, RunCompleted, RunFailed, RunStarted,
                                      StageReached, StepLogged)
from rankviz.store import RunStore

store = RunStore(Path(sys.argv[1]))
attempts = dict(text.split("@") for text in sys.argv[2:])
run_ids = list(attempts)

def write(run_id, event):
    store.append(run_id, replace(event, attempt=int(attempts[run_id])))

def begin(run_id):
    if not store.begin(run_id, int(attempts[run_id])):
        return False
    write(run_id, RunStarted(time=time.time(), environment={"device": "cpu", "pid": os.getpid()}))
    return True

def step(run_id, number=1):
    write(run_id, StepLogged(time=time.time(), step=number, loss=3.0 / number, learning_rate=1e-3,
                              tokens=10 * number, seconds=0.5 * number, memory_bytes=1000))

def complete(run_id, number=1):
    step(run_id, number)
    write(run_id, RunCompleted(time=time.time(), train_seconds=1.0, peak_memory_bytes=2000,
                                peak_memory_kind="process resident"))
"""


def worker(program: str) -> tuple[str, ...]:
    """A command for Patient(command=...): it is given HOME and attempts, as the true worker is."""
    return (sys.executable, "-c", _PRELUDE + program)


COMPLETE_ALL = worker("for run_id in run_ids:\n    begin(run_id) and complete(run_id)")
HANG_IN_EACH = worker("for run_id in run_ids:\n    if begin(run_id):\n        step(run_id)\n        time.sleep(600)")

FIRST_HANGS = worker(
    "for run_id in run_ids:\n"
    "    if begin(run_id):\n"
    "        step(run_id)\n"
    "        while attempts[run_id] == '1' and run_id.endswith('r4'): time.sleep(0.02)\n"
    "        complete(run_id)"
)
"""A worker that holds the first attempt of the run with r = 4."""


def waiting_for(go: Path) -> tuple[str, ...]:
    """A worker that holds each run at its first step until the file `go` is there."""
    return worker(
        f"for run_id in run_ids:\n"
        f"    if begin(run_id):\n"
        f"        step(run_id)\n"
        f"        while not os.path.exists({str(go)!r}): time.sleep(0.02)\n"
        f"        complete(run_id)"
    )


def each_waits_for(place: Path) -> tuple[str, ...]:
    """A worker that holds each run until a file there has its rank."""
    return worker(
        "for run_id in run_ids:\n"
        "    if begin(run_id):\n"
        "        step(run_id)\n"
        f"        while not os.path.exists(os.path.join({str(place)!r}, run_id.rpartition('-')[2])): time.sleep(0.02)\n"
        "        complete(run_id)"
    )


def sweep(store: RunStore, *ranks: int) -> list[str]:
    """Queue a sweep over these ranks and return its run ids."""
    return store.run_ids(store.create(questions.sweep(ranks=ranks)))


class Patient(Supervisor):
    """Runs a command as the worker of this machine, or has other engines. Waits as long as a busy machine needs."""

    def __init__(self, store, *, command=None, probe=None, grace_seconds=2.0, engines=(), **settings):
        commands = {"finetune": command or COMMANDS["finetune"], "probe": probe or COMMANDS["probe"]}
        here = Local(store.home, commands=commands, grace_seconds=grace_seconds)
        super().__init__(store, engines=engines or [here], **settings)

    def settle(self, timeout_seconds: float = 600.0) -> None:
        """Wait until every run has ended and no job is left."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            if self._thread is None:
                self.tick()
            with self._mutex:
                if not any(self._jobs.values()) and not self.store.unended():
                    return
            assert time.monotonic() < deadline, "runs are still going"
            time.sleep(min(self.poll_seconds, 0.05))

    def finish(self) -> None:
        self.settle()
        self.stop()

    def cancel(self, run_or_sweep_id: str, timeout_seconds: float = 600.0) -> None:
        self.cancel_runs(self.store.run_ids(run_or_sweep_id), timeout_seconds)

    def cancel_runs(self, run_ids: Sequence[str], timeout_seconds: float = 600.0, **by: bool) -> None:
        super().cancel_runs(run_ids, timeout_seconds, **by)


def supervise(store: RunStore, command: tuple[str, ...], **settings) -> Patient:
    supervisor = Patient(store, command=command, poll_seconds=0.05, **settings)
    supervisor.start()
    return supervisor


def on_cluster(store, cluster, started):
    """The fixture `supervise`: starts a supervisor with the stand-in cluster's engine and a command."""

    def start(command=COMPLETE_ALL, **settings) -> Patient:
        here = RunStore(store.home)
        return started(here, cluster.engine(here, command, **settings))

    return start


def wait_for(condition, seconds: float = 900.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def processes_of(home: Path) -> list[psutil.Process]:
    """Every live process that was given this home."""
    processes = []
    for process in psutil.process_iter():
        try:
            if str(home) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
        except psutil.Error:
            continue
    return processes


def processes_with(name: str, value: str) -> list[psutil.Process]:
    """Every live process with this variable in its environment, whatever its group."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def states(store: RunStore, run_ids: list[str]) -> list[str]:
    return [store.get(run_id).state.value for run_id in run_ids]


def lost_reasons(store: RunStore, run_id: str) -> list[str]:
    """Why attempts of a run were lost."""
    return [event.lost for event in store.events(run_id) if isinstance(event, RunRequeued)]
