"""A slot: the actor that holds a GPU of a node for one job, and the job's folder there.

PLACE/rankviz-ray-UID/      of RankViz alone, for one user of the machine; in it
    NAME/                   the packed job (rankviz.engines.bundle), in which its worker writes
    NAME/slot.lock          held while the slot lives
    NAME/keeper.lock        held while its keeper lives
    .NAME/                  a job that is being unpacked
    .models/                the embedded base, made once for all jobs of the machine

The worker is started and ended by a keeper (rankviz.engines.ray.keeper), which outlives the slot just as long as it
takes. Where both were killed, the next slot of the machine ends what is left.
"""

import contextlib
import fcntl
import io
import os
import shutil
import stat
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
from rankviz.core.runs.events import DISK_FULL, MODELS_VARIABLE
from rankviz.engines import bundle, listing, process
from rankviz.engines.ray.kept import Kept
from rankviz.errors import redacted
from rankviz.machine import cards, disk

SLOT_LOCK, KEEPER_LOCK = "slot.lock", "keeper.lock"
MODELS = ".models"
UNPACK_SECONDS = 60.0
"""A folder that is made for a job has a lock long before."""
LEFT_SECONDS = 10.0
"""What was killed so long ago and has not ended cannot be ended now."""
PIECE_BYTES = 2**22
JOB_VARIABLE = "WORKER_JOB_FOLDER"
"""Of the environment of everything that a job starts."""
OMP_THREADS = "OMP_NUM_THREADS"
FULL = "The disk with {place} is full. Free some space on it."


class Look(NamedTuple):
    """What a slot says of its job."""

    version: str
    node_id: str
    gpus: str
    """Those it has, for people; empty where it has none."""
    has_job: bool
    is_gone: bool
    """Whether journals are no longer there that were: somebody has cleaned up."""
    ended: bool
    exit_code: int | None
    trouble: str
    """Why it ended, as a sentence, where that is the node's fault and not that of the job."""
    gave_way: bool
    journals: Mapping[str, bytes]
    """What each holds from the given offset on, by run."""


class Slot:
    """Of one job; its methods are called from several threads.

    Args:
        place: Of all jobs on this machine, among whatever else lies there; empty: that of temporary files.
        name: As listing.FOLDER has it.
    """

    def __init__(self, place: str, name: str):
        self._place = own_folder(place)
        self._folder = self._place / name
        self._lock = threading.Lock()
        self._keeper: Kept | None = None
        threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()

    def start(self, packed: bytes, worker: Sequence[str]) -> str:
        """Begin a packed job, once; worker: instead of the true one. Why this node cannot, as a sentence; empty where
        it has begun."""
        with self._lock:
            if self._keeper is not None:
                return ""
            try:
                self._begin(packed, worker)
            except OSError as error:
                return self._explain(error)
            return ""

    def _begin(self, packed: bytes, worker: Sequence[str]) -> None:
        self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
        there = self._place.lstat()  # not what a link of somebody else's leads to
        if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.getuid():
            raise PermissionError(f"{self._place} is a link, or belongs to another user of this machine")
        sweep(self._place)
        aside = self._folder.with_name(f".{self._folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.ExitStack() as undo:
            undo.callback(shutil.rmtree, aside, ignore_errors=True)
            aside.mkdir()
            locks = [_locked(aside / name, undo) for name in (SLOT_LOCK, KEEPER_LOCK)]
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                archive.extractall(aside, filter="data")
            job = bundle.read_job(aside)
            os.replace(aside, self._folder)  # which no other slot takes for one that was left
            undo.callback(shutil.rmtree, self._folder, ignore_errors=True)
            attempts = ",".join(map(str, job.attempts))
            command = [*(worker or (sys.executable, "-m", "rankviz.worker", job.kind))]
            variables = {
                **_environment(),
                JOB_VARIABLE: str(self._folder),
                MODELS_VARIABLE: str((self._place / MODELS).absolute()),
            }
            arguments = [str(self._folder), attempts, *command]
            self._keeper = Kept(arguments, variables, self._folder / "keeper.log", locks[1])
            undo.pop_all()
        os.close(locks[1])  # it is the keeper's from here on

    def look(self, offsets: Mapping[str, int]) -> Look:
        """What is new. Whether it has ended is read first: then the journals are whole."""
        ended, exit_code = self._ended()
        sizes = {run_id: _size(bundle.journal(self._folder, run_id)) for run_id in offsets}
        return Look(
            version=__version__,
            node_id=_node_id(),
            gpus=_gpus(),
            has_job=self._keeper is not None,
            is_gone=self._keeper is not None and any(sizes[run_id] < offset for run_id, offset in offsets.items()),
            ended=ended,
            exit_code=exit_code,
            trouble=self._trouble(exit_code) if ended else "",
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
            self._keeper.end()
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
        with self._lock:
            if self._keeper is not None:
                self.end()
                shutil.rmtree(self._folder, ignore_errors=True)

    def _ended(self) -> tuple[bool, int | None]:
        if self._keeper is None:
            return False, None
        ended, exit_code = self._keeper.ended()
        return ended and (exit_code is not None or end_left(self._folder)), exit_code

    def _trouble(self, exit_code: int | None) -> str:
        is_full = exit_code == DISK_FULL or (exit_code != 0 and disk.is_full(self._place))
        return FULL.format(place=self._place) if is_full else ""

    def _explain(self, error: OSError) -> str:
        return (
            FULL.format(place=self._place)
            if error.errno in disk.FULL
            else f"It cannot begin a job: {redacted(str(error))[:500]}."
        )


def own_folder(place: str) -> Path:
    """RankViz's own in a place that is given, or else among temporary files."""
    return Path(place or tempfile.gettempdir()) / f"rankviz-ray-{os.getuid()}"


def sweep(place: Path) -> None:
    """End and remove what slots left whose keeper was killed too, also jobs that they were unpacking."""
    for folder in place.iterdir():
        if _is_of_job(folder) and not _is_in_use(folder) and end_left(folder):
            shutil.rmtree(folder, ignore_errors=True)


def end_left(folder: Path) -> bool:
    """End what a job has started and its keeper, which was killed, did not end: children have its variable. Whether all
    of it has ended."""
    deadline = time.monotonic() + LEFT_SECONDS
    while left := [each for each in psutil.process_iter() if _is_of(each, folder)]:
        if time.monotonic() > deadline:
            return False
        for each in left:
            with contextlib.suppress(psutil.Error):
                each.kill()
        time.sleep(0.02)
    return True


def _is_of_job(folder: Path) -> bool:
    is_folder = folder.is_dir() and not folder.is_symlink()
    return is_folder and listing.FOLDER.fullmatch(folder.name.removeprefix(".")) is not None


def _is_in_use(folder: Path) -> bool:
    if any(process.is_held(folder / lock) for lock in (SLOT_LOCK, KEEPER_LOCK)):
        return True
    try:
        return folder.name.startswith(".") and time.time() - folder.stat().st_mtime < UNPACK_SECONDS
    except FileNotFoundError:
        return True


def _is_of(each: psutil.Process, folder: Path) -> bool:
    try:
        return each.environ().get(JOB_VARIABLE) == str(folder) and each.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _size(path: Path) -> int:
    """-1 where it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _locked(path: Path, undo: contextlib.ExitStack) -> int:
    """A descriptor with which it is, until that is undone."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    undo.callback(os.close, descriptor)
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
