"""A slot: the actor that holds a GPU of a node for one job, and the job's folder there.

PLACE/NAME-aN/          the packed job (rankviz.engines.bundle), in which its worker writes
PLACE/NAME-aN/slot.lock    held while the slot lives
PLACE/NAME-aN/keeper.lock  held while its keeper lives
PLACE/NAME-aN/ended.json   the worker's exit code, once all of it is gone
PLACE/.models/             the embedded base, made once for all jobs of the machine

The worker is started and ended by a keeper (rankviz.engines.ray.keeper), which outlives the slot just as long as it
takes. Where both were killed, the next slot of the machine ends what is left.
"""

import contextlib
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from rankviz import __version__
from rankviz.core.bounds import INSIDE
from rankviz.core.runs.events import MODELS_VARIABLE
from rankviz.engines import bundle, process
from rankviz.engines.ray.keeper import ENDED
from rankviz.machine import cards

SLOT_LOCK, KEEPER_LOCK = "slot.lock", "keeper.lock"
MODELS = ".models"
PIECE_BYTES = 2**22
JOB_VARIABLE = "WORKER_JOB_FOLDER"
"""Of the environment of everything that a job starts."""
OMP_THREADS = "OMP_NUM_THREADS"


class Look(NamedTuple):
    """What a slot says of its job."""

    version: str
    node_id: str
    gpus: str
    """Those it has, for people; empty where it has none."""
    has_job: bool
    ended: bool
    exit_code: int | None
    gave_way: bool
    journals: Mapping[str, bytes]
    """What each holds from the given offset on, by run."""


class Slot:
    """Of one job; its methods are called from several threads.

    Args:
        place: Of all jobs on this machine; empty: a folder of its own among temporary files.
    """

    def __init__(self, place: str, name: str):
        self._place = Path(place or Path(tempfile.gettempdir()) / f"rankviz-ray-{os.getuid()}")
        self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._place.stat().st_uid != os.getuid():
            raise PermissionError(f"The folder {self._place} belongs to another user of this machine.")
        sweep(self._place)
        self._folder = self._place / name
        self._lock = threading.Lock()
        self._keeper: subprocess.Popen | None = None
        threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()

    def start(self, packed: bytes, worker: Sequence[str]) -> None:
        """Begin a packed job, once; worker: instead of the true one."""
        with self._lock:
            if self._folder.exists():
                return
            aside = self._folder.with_name(f".{self._folder.name}")
            shutil.rmtree(aside, ignore_errors=True)
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                archive.extractall(aside, filter="data")
            self._slot_lock = _locked(aside / SLOT_LOCK)
            keeper_lock = _locked(aside / KEEPER_LOCK)
            job = bundle.read_job(aside)
            attempts = [str(attempt) for attempt in job.attempts]
            command = [*(worker or (sys.executable, "-m", "rankviz.worker", job.kind))]
            os.replace(aside, self._folder)  # which no other slot takes for one that was left
            self._keeper = subprocess.Popen(
                [sys.executable, "-m", "rankviz.engines.ray.keeper", str(self._folder), ",".join(attempts), *command],
                env={
                    **_environment(),
                    JOB_VARIABLE: str(self._folder),
                    MODELS_VARIABLE: str((self._place / MODELS).absolute()),
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=(self._folder / "keeper.log").open("wb"),
                start_new_session=True,
                pass_fds=(keeper_lock,),
            )
            os.close(keeper_lock)  # it is the keeper's from here on
            self._keeper.wait()  # what was started here has left a process that is nobody's child, and the pipe to it

    def look(self, offsets: Mapping[str, int]) -> Look:
        """What is new. Whether it has ended is read first: then the journals are whole."""
        ended, exit_code = self._ended()
        return Look(
            version=__version__,
            node_id=_node_id(),
            gpus=_gpus(),
            has_job=self._folder.exists(),
            ended=ended,
            exit_code=exit_code,
            gave_way=exit_code == 0 and process.yield_file(self._folder).exists(),
            journals={run_id: bundle.since(self._folder, run_id, offset) for run_id, offset in offsets.items()},
        )

    def pause(self) -> None:
        """Stop every process of the job where it stands."""
        if worker := process.find(process.lock_file(self._folder)):
            worker.pause()

    def resume(self) -> None:
        if worker := process.find(process.lock_file(self._folder)):
            worker.resume()

    def give_way(self) -> None:
        """Ask the worker to end before its next run."""
        process.yield_file(self._folder).touch()

    def end(self) -> int | None:
        """End every process of the job; its exit code, once they are gone."""
        if self._keeper is not None:
            self._keeper.stdin.close()
        while True:
            ended, exit_code = self._ended()
            if ended or self._keeper is None:
                return exit_code
            time.sleep(0.02)

    def files(self, run_id: str) -> Mapping[str, int]:
        """What lies in a run's folder: sizes by path."""
        folder = self._folder / "runs" / run_id
        found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
        return {
            name: path.stat().st_size
            for name, path in found.items()
            if path.is_file() and not path.is_symlink() and INSIDE.fullmatch(name)
        }

    def read(self, run_id: str, path: str, offset: int) -> bytes:
        """A piece of such a file."""
        with (self._folder / "runs" / run_id / path).open("rb") as file:
            file.seek(offset)
            return file.read(PIECE_BYTES)

    def close(self) -> None:
        """All of it has been read."""
        self.end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ended(self) -> tuple[bool, int | None]:
        if self._keeper is None:
            return False, None
        if process.is_held(self._folder / KEEPER_LOCK):
            return False, None
        with contextlib.suppress(FileNotFoundError):
            return True, json.loads((self._folder / ENDED).read_text())["exit_code"]
        end_left(self._folder)
        return True, None


def sweep(place: Path) -> None:
    """End and remove what slots left whose keeper was killed too."""
    for folder in place.glob("[!.]*"):
        if not any(process.is_held(folder / lock) for lock in (SLOT_LOCK, KEEPER_LOCK)):
            end_left(folder)
            shutil.rmtree(folder, ignore_errors=True)


def end_left(folder: Path) -> None:
    """End what a job has started and its keeper, which was killed, did not end: children have its variable."""
    while left := [each for each in psutil.process_iter() if _is_of(each, folder)]:
        for each in left:
            with contextlib.suppress(psutil.Error):
                each.kill()
        time.sleep(0.02)


def _is_of(each: psutil.Process, folder: Path) -> bool:
    try:
        return each.environ().get(JOB_VARIABLE) == str(folder) and each.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _die_with(raylet: int) -> None:
    """A slot whose node has gone ends, and with it its keeper. Ray sees to that too, but not where the node's process
    has died and nobody has asked how."""
    while True:
        try:
            if os.getppid() != raylet or psutil.Process(raylet).status() == psutil.STATUS_ZOMBIE:
                os._exit(1)
        except psutil.NoSuchProcess:
            os._exit(1)
        time.sleep(1.0)


def _environment() -> Mapping[str, str]:
    """Of the worker. Ray gives an actor one thread unless its node was started with another number."""
    variables = {**os.environ, cards.ORDER: cards.PCI}
    with contextlib.suppress(psutil.Error):
        if OMP_THREADS not in psutil.Process(os.getppid()).environ():
            variables.pop(OMP_THREADS, None)
    return variables


def _gpus() -> str:
    gpus = os.environ.get(cards.VISIBLE, "")
    return f"GPU {gpus}" if gpus else ""


def _node_id() -> str:
    """Empty where this is no actor."""
    ray = sys.modules.get("ray")
    return ray.get_runtime_context().get_node_id() if ray and ray.is_initialized() else ""
