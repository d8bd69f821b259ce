"""An engine that shares no disk with the store: each job runs in a packed folder of its own, as on another machine."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

from rankviz.api import Api
from rankviz.jobs import End, Live, bundle
from rankviz.jobs.local import Local
from rankviz.jobs.remote import Remote, RemoteJob
from rankviz.paths import IMPORT_ROOT
from rankviz.store import RunStore
from tests.support.processes.workers import COMPLETE_ALL, Patient

SAYS_ITS_CODE = 'echo $$ > pid; "$@"; echo $? > code'


class Elsewhere(Remote):
    """So many machines, played by folders below `there`."""

    name = "elsewhere"
    title = "Other machines"
    about = "They are in the other room."
    divides = True

    def __init__(self, store: RunStore, there: Path, command: Sequence[str], machines: int = 2):
        super().__init__(store, at_once=machines, poll_seconds=0.03)
        self._there, self._command = there, command

    def submit(self, job: RemoteJob) -> str:
        folder = shutil.copytree(job.folder, self._there / job.name)
        subprocess.Popen(
            ["sh", "-c", SAYS_ITS_CODE, "sh", *self._command, str(folder), *map(str, job.job.attempts)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(IMPORT_ROOT)},
            stdout=(folder / "output").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return job.name

    def poll(self, job: RemoteJob) -> Live | None:
        folder = self._there / job.name
        if not folder.exists():
            return None
        is_alive, code = self._pid(job) is not None, folder / "code"
        exit_code = int(code.read_text()) if code.exists() and code.read_text() else None
        lost, why = exit_code is None or exit_code > 128, f"The other machine ended with code {exit_code}."
        end = None if is_alive else End(exit_code, lost=lost, why=why)
        return Live(job=job.job, handle=job.name, where="another machine", end=end)

    def read(self, job: RemoteJob, path: str, offset: int, most: int) -> bytes:
        return bundle.read_plain(self._there / job.name / path, offset, most)

    def cancel_job(self, job: RemoteJob) -> None:
        pid = self._pid(job)
        with contextlib.suppress(ProcessLookupError):
            if pid and pid > 0:
                os.killpg(pid, signal.SIGKILL)

    def unsend(self, job: RemoteJob) -> None:
        shutil.rmtree(self._there / job.name)

    def kill_all(self) -> None:
        """As if all machines lost their power."""
        for folder in self._there.glob("*/pid"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(folder.read_text()), signal.SIGKILL)

    def _pid(self, job: RemoteJob) -> int | None:
        """The leader of what still runs; it is there before `submit` returns, or a moment later."""
        file = self._there / job.name / "pid"
        if not file.exists() or not file.read_text().endswith("\n"):
            return -1
        pid = int(file.read_text())
        with contextlib.suppress(psutil.NoSuchProcess):
            return pid if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else None
        return None


def page_with_elsewhere(place: Path, *, shared: bool = False) -> tuple[Api, Elsewhere]:
    """A page whose owner has set up this engine beside the machine itself. Whatever runs completes at once."""
    api = Api(home=place / "home", shared=shared)
    there = Elsewhere(api.workspace.store, place / "elsewhere", COMPLETE_ALL)
    here = Local(api.workspace.home, commands={"finetune": COMPLETE_ALL})
    api.workspace.supervisor = Patient(api.workspace.store, engines=[here, there], poll_seconds=0.05)
    return api, there
