"""An engine that shares no disk with the store: each job runs in a packed folder of its own, as on another machine."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from rankviz.api import Api
from rankviz.jobs import Attempt, End, Engine, Job, Live, Nodes, bundle
from rankviz.jobs.local import Local
from rankviz.jobs.supervisor import Supervisor
from rankviz.paths import IMPORT_ROOT
from rankviz.store import RunStore
from tests.support.processes.workers import COMPLETE_ALL

SAYS_ITS_CODE = '"$@"; echo $? > code'


class Elsewhere(Engine):
    """So many machines, played by folders below `place`."""

    name = "elsewhere"
    title = "Other machines"
    about = "They are in the other room."
    shares_disk = False
    divides = True

    def __init__(self, store: RunStore, place: Path, command: Sequence[str], machines: int = 2):
        self._store, self._place, self._command, self._machines = store, place, command, machines
        self.seen = Nodes()

    def nodes(self) -> Nodes:
        return self.seen

    def room(self) -> int:
        return self._machines - sum(live.end is None for live in self.live())

    def start(self, job: Job) -> Live | None:
        folder = self._place / job.name
        if not folder.exists():
            bundle.pack(self._store, job, folder, engine=self.name, sees_folders=True)
            subprocess.Popen(
                ["sh", "-c", SAYS_ITS_CODE, "sh", *self._command, str(folder), *map(str, job.attempts)],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(IMPORT_ROOT)},
                stdout=(folder / "output").open("wb"),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return next(live for live in self.live() if live.job.name == job.name)

    def live(self) -> Sequence[Live]:
        self._place.mkdir(exist_ok=True)
        return [self._live(folder) for folder in sorted(self._place.iterdir())]

    def cancel(self, live: Live) -> End | None:
        folder = self._place / live.job.name
        for process in _processes(folder):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        while _processes(folder):
            time.sleep(0.01)
        return End(why="It was ended.")

    def events(self, live: Live, attempt: Attempt, offset: int) -> bytes:
        return bundle.since(self._place / live.job.name, attempt.run_id, offset)

    def collect(self, live: Live, attempt: Attempt, folder: Path) -> None:
        bundle.collect(self._place / live.job.name, attempt.run_id, folder)

    def forget(self, live: Live) -> None:
        shutil.rmtree(self._place / live.job.name)

    def _live(self, folder: Path) -> Live:
        live = Live(job=bundle.read_job(folder), handle=folder.name, where="another machine")
        if _processes(folder):
            return live
        code = folder / "code"
        exit_code = int(code.read_text()) if code.exists() and code.read_text() else None
        lost = exit_code is None or exit_code > 128
        return Live(
            job=live.job,
            handle=live.handle,
            where=live.where,
            end=End(exit_code, lost=lost, why=f"The other machine ended with code {exit_code}."),
        )


def _processes(folder: Path) -> list[psutil.Process]:
    """Those that were given this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def page_with_elsewhere(place: Path, *, shared: bool = False) -> tuple[Api, Elsewhere]:
    """A page whose owner has set up this engine beside the machine itself. Whatever runs completes at once."""
    api = Api(home=place / "home", shared=shared)
    there = Elsewhere(api.workspace.store, place / "elsewhere", COMPLETE_ALL)
    here = Local(api.workspace.home, commands={"finetune": COMPLETE_ALL})
    api.workspace.supervisor = Supervisor(api.workspace.store, engines=[here, there], poll_seconds=0.05)
    return api, there
