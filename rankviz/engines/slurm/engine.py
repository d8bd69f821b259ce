"""The engine: each job is a folder in HOME/slurm-jobs, which the nodes see too.

slurm-jobs/RUN_ID-aN/    the packed job (rankviz.engines.bundle), in which its worker writes
    batch.sh             what sbatch is given
    job_id               Slurm's, once it has answered
    exit_code            the worker's, written by batch.sh
"""

import hashlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from rankviz.core.runs.attempts import SLURM, Attempt
from rankviz.core.runs.events import YIELD_FILE
from rankviz.engines import bundle
from rankviz.engines.engine import End, Engine, Job, Live, Nodes
from rankviz.engines.slurm import script, states
from rankviz.engines.slurm.commands import Commands, NotAnsweredError
from rankviz.engines.slurm.options import check_options, nodes_of, python_command
from rankviz.engines.slurm.states import Seen
from rankviz.engines.slurm.watch import Look, Watch
from rankviz.errors import EngineEndingError, EngineError, EngineUnavailableError
from rankviz.paths import IMPORT_ROOT
from rankviz.store import RunStore

ONE_GPU = ("--gres=gpu:1",)
MISSING_SECONDS = 60.0
"""So long Slurm may not list a job that it may have; then it has none. Its commands and its controller give each other
up much sooner (MessageTimeout, 10 s)."""
REFUSED_POLLS = 3
"""After Slurm has refused a job for now, the next is sent so many polls later: its data is packed for that."""
HOME_FILE = "slurm.id"
BATCH, JOB_ID = "batch.sh", "job_id"
SENT = "It is sent to Slurm."
ENDING = "Slurm has not ended the job yet. What you cancelled ends with it."
NOT_KNOWN = "It is not known yet whether Slurm has the job."
NOT_SET_UP = (
    "Set RANKVIZ_SLURM_PARTITION to a partition of the cluster, or RANKVIZ_ENGINE=slurm for its default partition."
)
GONE = "Slurm does not know the job any more, and its worker left no exit code."


class Slurm(Engine):
    """Batch jobs of one cluster.

    Args:
        partition: Empty: the cluster's default.
        options: More options of sbatch.
        python: The command that starts Python on a node; empty: the page's Python, by the same path.
        at_once: Jobs that Slurm is given at most, those that wait there too.
        poll_seconds: Slurm is asked no sooner than so long after the last time.
        is_set_up: Whether the owner of this server wants it to be offered.
        missing_seconds: A job that Slurm does not list for so long is gone.
        commands: How Slurm is reached.
        worker: Instead of the true one.
    """

    name = SLURM
    shares_disk = False
    divides = True

    def __init__(
        self,
        store: RunStore,
        *,
        partition: str = "",
        options: Sequence[str] = ONE_GPU,
        python: str = "",
        at_once: int = 4,
        poll_seconds: float = 10.0,
        is_set_up: bool = True,
        missing_seconds: float = MISSING_SECONDS,
        commands: Commands | None = None,
        worker: Sequence[str] = (),
    ):
        self._store, self._place = store, store.home.absolute() / "slurm-jobs"
        self._partition, self._is_set_up = partition, is_set_up
        self._options = [*([f"--partition={partition}"] if partition else []), *check_options(options)]
        self._python, self._worker = python_command(python), tuple(worker)
        self._at_once, self._poll_seconds, self._missing_seconds = at_once, poll_seconds, missing_seconds
        self._commands = commands or Commands()
        self._watch = Watch(self._commands, poll_seconds)
        self._sent: dict[str, float] = {}
        self._missing: dict[str, float] = {}
        self._look_again: dict[str, float] = {}
        """From when on it is to be seen whether jobs that are cancelled have ended."""
        self._trouble: tuple[float, EngineUnavailableError] | None = None
        """Until when nothing is sent, and why."""

    @property
    def title(self) -> str:
        return f"Slurm cluster, partition {self._partition}" if self._partition else "Slurm cluster"

    @property
    def about(self) -> str:
        options = " ".join(self._options) or "no options"
        return f"The runs are sent to nodes of this cluster as batch jobs ({options}), with their data."

    def why_not(self) -> str:
        return self._commands.why_not() or ("" if self._is_set_up else NOT_SET_UP)

    def nodes(self) -> Nodes:
        return nodes_of(self._options)._replace(trouble=self.why_not())

    def room(self) -> int:
        """A job whose worker has ended takes no place any more, though Slurm has not said so yet."""
        return self._at_once - sum(script.read_exit_code(folder) is None for folder in bundle.folders_in(self._place))

    def start(self, job: Job) -> Live | None:
        folder = bundle.folder_of(job, self._place)
        if not folder.exists():
            if self._trouble is not None and time.monotonic() < self._trouble[0]:
                raise self._trouble[1]
            self._pack(job, folder)
            self._submit(job, folder)
        return self._live(folder, self._look([folder]))

    def live(self) -> Sequence[Live]:
        folders = bundle.folders_in(self._place)
        if not folders:
            return []
        look = self._look(folders)
        for folder in list(folders):
            if not _job_id(folder) and self._is_missing(folder, look):
                self._remove(folder)
                folders.remove(folder)
        return [self._live(folder, look) for folder in folders]

    def cancel(self, live: Live, unless: Callable[[], bool] = lambda: False) -> End | None:
        folder = bundle.folder_of(live.job, self._place)
        name = self._job_name(folder)
        look = self._watch.since(self._look_again.setdefault(folder.name, time.monotonic()))
        if look is None:
            raise EngineEndingError(ENDING)
        if not self._id(folder, look):
            raise EngineUnavailableError(NOT_KNOWN)
        if unless():
            del self._look_again[folder.name]
            return None
        if (seen := look.listed.get(name)) is None or _end(folder, seen) is not None:
            return End(script.read_exit_code(folder), why="The job was cancelled.")
        if not states.is_ending(seen):
            self._commands.cancel(seen.id, name)
        self._look_again[folder.name] = time.monotonic() + min(1.0, self._poll_seconds)
        raise EngineEndingError(ENDING)

    def events(self, live: Live, attempt: Attempt, offset: int) -> bytes:
        return bundle.since(bundle.folder_of(live.job, self._place), attempt.run_id, offset)

    def collect(self, live: Live, attempt: Attempt, folder: Path) -> None:
        bundle.collect(bundle.folder_of(live.job, self._place), attempt.run_id, folder)

    def give_way(self, live: Live) -> None:
        (bundle.folder_of(live.job, self._place) / YIELD_FILE).touch()

    def forget(self, live: Live) -> None:
        self._remove(bundle.folder_of(live.job, self._place))

    def _pack(self, job: Job, folder: Path) -> None:
        aside = self._aside()
        try:
            bundle.pack(self._store, job, aside, engine=self.name, sees_folders=True)
            (aside / script.EXIT_CODE).touch()
            (aside / BATCH).write_text(script.batch_script(folder, self._command(job, folder), self._variables()))
            os.replace(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _submit(self, job: Job, folder: Path) -> None:
        """A node that fails costs a run one attempt, which the supervisor counts: Slurm itself starts nothing anew."""
        self._sent[folder.name] = time.monotonic()
        try:
            job_id = self._commands.submit(
                [
                    *self._options,
                    f"--job-name={self._job_name(folder)}",
                    f"--chdir={folder}",
                    f"--output=runs/{job.attempts[0].run_id}/worker.log",
                    "--open-mode=append",
                    "--export=NONE",
                    "--no-requeue",
                    "--nodes=1",
                    "--ntasks=1",
                    str(folder / BATCH),
                ]
            )
        except NotAnsweredError:
            return  # it is looked for by its name
        except BaseException as error:
            self._remove(folder)
            if isinstance(error, EngineUnavailableError):
                self._trouble = time.monotonic() + REFUSED_POLLS * self._poll_seconds, error
            raise
        self._write_id(folder, job_id)

    def _command(self, job: Job, folder: Path) -> Sequence[str]:
        if self._worker:
            return [*self._worker, str(folder), *map(str, job.attempts)]
        return [*(self._python or [sys.executable]), *bundle.arguments(job, folder)]

    def _variables(self) -> dict[str, str]:
        """Of a worker. Another Python has RankViz installed itself."""
        search_path = [str(IMPORT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        own = {} if self._python else {"PYTHONPATH": os.pathsep.join(search_path)}
        return {**script.passed(), **own, "PYTHONUNBUFFERED": "1"}

    def _look(self, folders: Sequence[Path]) -> Look:
        return self._watch.latest(filter(None, map(_job_id, folders)))

    def _live(self, folder: Path, look: Look) -> Live:
        name, job_id = self._job_name(folder), self._id(folder, look)
        try:
            job = bundle.read_job(folder)
        except EngineError as error:
            if name in look.listed:
                self._commands.cancel(look.listed[name].id, name)
            return bundle.unreadable(folder, str(error))
        seen = look.listed.get(name) or look.ended.get(name)
        if seen is not None:
            self._missing.pop(folder.name, None)
            waits = look.trouble or states.waits_of(seen)
            return Live(job=job, handle=job_id, where=seen.nodes[:200], waits=waits, end=_end(folder, seen))
        if look.trouble or look.began < self._sent.get(folder.name, 0.0):
            return Live(job=job, handle=job_id, waits=look.trouble or SENT)
        end = states.end_by(script.read_exit_code(folder), yields=_yields(folder))
        if end is None and self._is_missing(folder, look):
            end = End(lost=True, why=GONE)
        return Live(job=job, handle=job_id, waits="" if end else NOT_KNOWN, end=end)

    def _is_missing(self, folder: Path, look: Look) -> bool:
        """Whether Slurm has not listed a job for so long that it has none."""
        if look.trouble or look.began < self._sent.get(folder.name, 0.0) or self._job_name(folder) in look.listed:
            self._missing.pop(folder.name, None)
            return False
        since = self._missing.setdefault(folder.name, look.began)
        return look.began - since >= self._missing_seconds

    def _id(self, folder: Path, look: Look) -> str:
        """Slurm's number of a job; one whose answer was lost is found by its name. Empty while it is not known."""
        job_id = _job_id(folder)
        if not job_id and (seen := look.listed.get(self._job_name(folder))):
            job_id = seen.id
            self._write_id(folder, job_id)
        return job_id

    def _write_id(self, folder: Path, job_id: str) -> None:
        aside = folder / f".{JOB_ID}"
        aside.write_text(job_id)
        os.replace(aside, folder / JOB_ID)

    def _job_name(self, folder: Path) -> str:
        return f"rankviz-{self._home_id}-{folder.name}"

    @cached_property
    def _home_id(self) -> str:
        """Of this runs folder, and of no copy of it."""
        file = self._store.home / HOME_FILE
        if not file.exists():
            file.write_text(secrets.token_hex(8))
        return hashlib.sha256(f"{self._place} {file.read_text()}".encode()).hexdigest()[:12]

    def _aside(self) -> Path:
        return self._place / f".{secrets.token_hex(4)}"

    def _remove(self, folder: Path) -> None:
        """A job that Slurm starts afterwards finds no folder and ends. What a network disk could not remove before is
        removed too."""
        self._sent.pop(folder.name, None)
        self._missing.pop(folder.name, None)
        self._look_again.pop(folder.name, None)
        os.replace(folder, self._aside())
        for gone in self._place.glob(".*"):
            shutil.rmtree(gone, ignore_errors=True)


def _end(folder: Path, seen: Seen) -> End | None:
    return states.end_of(seen, script.read_exit_code(folder), yields=_yields(folder))


def _yields(folder: Path) -> bool:
    return (folder / YIELD_FILE).exists()


def _job_id(folder: Path) -> str:
    """As far as Slurm has answered."""
    file = folder / JOB_ID
    return file.read_text() if file.exists() else ""
