"""The engine: each job is a folder in HOME/slurm-jobs, which the nodes see too.

slurm-jobs/RUN_ID-aN/    the packed job (rankviz.engines.bundle), in which its worker writes, and its papers
    batch.sh             what sbatch is given
slurm-jobs/missing/      jobs that are looked for

None of Slurm's commands is waited for here: each may hang, and others' runs go on meanwhile.
"""

import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rankviz.core.runs.events import SLURM, YIELD_FILE, Attempt
from rankviz.engines import bundle, listing
from rankviz.engines.engine import End, Engine, Job, Live, Nodes
from rankviz.engines.slurm import papers, script, states
from rankviz.engines.slurm.calls import Cancels
from rankviz.engines.slurm.commands import Commands, NotAnsweredError
from rankviz.engines.slurm.missing import Missing
from rankviz.engines.slurm.options import check_options, nodes_of, python_command
from rankviz.engines.slurm.place import Place
from rankviz.engines.slurm.sending import Sending
from rankviz.engines.slurm.states import Seen
from rankviz.engines.slurm.watch import Look, Watch
from rankviz.errors import EngineEndingError, EngineError, EngineUnavailableError
from rankviz.paths import IMPORT_ROOT
from rankviz.settings import SLURM_AT_ONCE, SLURM_OPTIONS, SLURM_POLL_SECONDS
from rankviz.store import RunStore
from rankviz.store.durable import aside_of

MISSING_SECONDS = 60.0
"""So long Slurm may not list a job that it may have; then it has none. Its commands and its controller give each other
up much sooner (MessageTimeout, 10 s)."""
REFUSED_POLLS = 3
"""After Slurm has refused a job for now, the next is sent so many polls later."""
RARER = 6
"""So many times rarer Slurm is asked while it is for missing jobs alone."""
BATCH = "batch.sh"
SENT = "It is sent to Slurm."
ENDING = "Slurm has not ended the job yet. What you cancelled ends with it."
ASKED = "Slurm is asked how its job does."
NOT_KNOWN = "It is not known yet whether Slurm has the job."
NOT_SET_UP = (
    "Slurm is not set up here. Set RANKVIZ_SLURM_PARTITION to a partition of the cluster, or RANKVIZ_ENGINE=slurm for "
    "its default partition."
)


class Slurm(Engine):
    """Batch jobs of one cluster.

    Args:
        partition: Empty: the cluster's default.
        options: More options of sbatch.
        python: The command that starts Python on a node; empty: the page's Python, by the same path.
        at_once: Jobs that Slurm is given at most, those that wait there too.
        poll_seconds: Slurm is asked no sooner than so long after the last time.
        is_set_up: Whether the owner of this server wants it to be offered. If not, nothing is sent.
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
        options: Sequence[str] = SLURM_OPTIONS,
        python: str = "",
        at_once: int = SLURM_AT_ONCE,
        poll_seconds: float = SLURM_POLL_SECONDS,
        is_set_up: bool = True,
        missing_seconds: float = MISSING_SECONDS,
        commands: Commands | None = None,
        worker: Sequence[str] = (),
    ):
        self._store, self._place = store, Place(store.home)
        self._partition, self._is_set_up = partition, is_set_up
        self._options = [*([f"--partition={partition}"] if partition else []), *check_options(options)]
        self._python, self._worker = python_command(python), tuple(worker)
        self._at_once, self._poll_seconds, self._missing_seconds = at_once, poll_seconds, missing_seconds
        self._commands = commands or Commands()
        self._watch = Watch(self._commands, poll_seconds)
        self._sending = Sending(self._send, REFUSED_POLLS * poll_seconds)
        self._cancels = Cancels(self._commands)
        self._missing = Missing(self._place, self._cancels)
        self._unlisted: dict[str, float] = {}
        """Since when Slurm does not list jobs that it may have."""
        self._look_again: dict[str, float] = {}
        """From when on it is to be seen whether jobs that are cancelled have ended."""

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
        """A job whose worker has ended takes no place any more, though Slurm has not said so yet. One that is being
        sent takes one."""
        return self._at_once - sum(papers.read_exit_code(folder) is None for folder in self._place.folders())

    def start(self, job: Job) -> Live | None:
        if not self._is_set_up:
            raise EngineUnavailableError(NOT_SET_UP)
        folder = bundle.folder_of(job, self._place.path)
        if not folder.exists():
            self._pack(job, folder)
        with papers.reading():
            self._sending.take([folder])
            return self._live(folder, self._watch.look)

    def live(self) -> Sequence[Live]:
        folders = self._place.folders()
        if self._is_set_up:
            self._sending.take(folders)
        look = self._look(folders)
        for folder in list(folders):
            if not papers.read_id(folder) and self._is_missing(folder, look):
                self._remove(folder)
                folders.remove(folder)
        return listing.each(folders, lambda folder: self._live(folder, look))

    def cancel(self, live: Live, unless: Callable[[], bool] = lambda: False) -> End | None:
        folder = bundle.folder_of(live.job, self._place.path)
        if self._sending.drop(folder):
            return None if unless() else End(why=states.CANCELLED)
        look = self._watch.since(self._look_again.setdefault(folder.name, time.monotonic()))
        if look is None:
            raise EngineEndingError(ENDING)
        self._look_again[folder.name] = time.monotonic()
        if look.trouble:
            raise EngineUnavailableError(look.trouble)
        if not self._id(folder, look):
            raise EngineUnavailableError(NOT_KNOWN)
        if unless():
            del self._look_again[folder.name]
            return None
        name = self._place.name_of(folder.name)
        if (seen := look.listed.get(name)) is None or _end(folder, seen) is not None:
            return End(papers.read_exit_code(folder), why=states.CANCELLED)
        if not states.is_ending(seen):
            papers.note_ending(folder)
            self._cancels.ask(seen.id, name)
        raise EngineEndingError(ENDING)

    def events(self, live: Live, attempt: Attempt, offset: int) -> bytes:
        return bundle.since(bundle.folder_of(live.job, self._place.path), attempt.run_id, offset)

    def collect(self, live: Live, attempt: Attempt, folder: Path) -> None:
        bundle.collect(bundle.folder_of(live.job, self._place.path), attempt.run_id, folder)

    def give_way(self, live: Live) -> None:
        with contextlib.suppress(OSError):  # it is asked again
            (bundle.folder_of(live.job, self._place.path) / YIELD_FILE).touch()

    def forget(self, live: Live) -> None:
        self._remove(bundle.folder_of(live.job, self._place.path))

    def release(self) -> None:
        self._sending.stop()

    def _pack(self, job: Job, folder: Path) -> None:
        aside = aside_of(folder)
        try:
            bundle.pack(self._store, job, aside, engine=self.name, sees_folders=True)
            papers.keep_room(aside)
            command, models = self._command(job, folder), self._store.home.absolute() / "models"
            (aside / BATCH).write_text(script.batch_script(folder, command, self._variables(), models))
            os.replace(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _send(self, folder: Path) -> None:
        """A node that fails costs a run one attempt, which the supervisor counts: Slurm itself starts nothing anew."""
        papers.ask(folder)
        try:
            job_id = self._commands.submit(
                [
                    *self._options,
                    f"--job-name={self._place.name_of(folder.name)}",
                    f"--chdir={folder}",
                    f"--output=runs/{folder.name.rpartition('-a')[0]}/worker.log",
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
        except (EngineError, EngineUnavailableError):
            papers.unask(folder)
            raise
        papers.write_id(folder, job_id)

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
        """No more is asked than is needed: for jobs that Slurm may have, and more rarely for those that are missing."""
        sent = [folder for folder in folders if self._sending.answered(folder) < math.inf]
        if not sent and not self._missing:
            return self._watch.look
        look = self._watch.latest(filter(None, map(papers.read_id, sent)), 1 if sent else RARER)
        self._missing.end(look)
        return look

    def _live(self, folder: Path, look: Look) -> Live:
        name, job_id = self._place.name_of(folder.name), self._id(folder, look)
        try:
            job = bundle.read_job(folder)
        except EngineError as error:
            return listing.unreadable(folder, str(error))
        if refusal := self._sending.refusals.get(folder.name):
            return Live(job=job, handle="", end=End(why=refusal, is_final=True))
        answered = self._sending.answered(folder)
        if answered == math.inf:
            return Live(job=job, handle="", waits=self._sending.trouble or SENT if self._is_set_up else NOT_SET_UP)
        seen = look.listed.get(name) or look.ended.get(name)
        if seen is not None:
            self._unlisted.pop(folder.name, None)
            waits = look.trouble or states.waits_of(seen)
            return Live(job=job, handle=job_id, where=seen.nodes, waits=waits, end=_end(folder, seen))
        if look.trouble or look.began < answered:
            return Live(job=job, handle=job_id, waits=look.trouble or (SENT if answered else ASKED))
        if job_id and job_id not in look.accounted:
            return Live(job=job, handle=job_id, waits=ASKED)
        end = states.end_by(papers.read_exit_code(folder), yields=papers.yields(folder))
        if end is None and self._is_missing(folder, look):
            end = End(lost=True, why=states.GONE)
        return Live(job=job, handle=job_id, waits="" if end else NOT_KNOWN, end=_by(folder, end, None))

    def _is_missing(self, folder: Path, look: Look) -> bool:
        """Whether Slurm has not listed a job for so long that it has none."""
        is_new = look.began < self._sending.answered(folder)
        if look.trouble or is_new or self._place.name_of(folder.name) in look.listed:
            self._unlisted.pop(folder.name, None)
            return False
        since = self._unlisted.setdefault(folder.name, look.began)
        return look.began - since >= self._missing_seconds

    def _id(self, folder: Path, look: Look) -> str:
        """Slurm's number of a job; one whose answer was lost is found by its name. Empty while it is not known."""
        job_id = papers.read_id(folder)
        if not job_id and (seen := look.listed.get(self._place.name_of(folder.name))):
            job_id = seen.id
            papers.write_id(folder, job_id)
        return job_id

    def _remove(self, folder: Path) -> None:
        """One that may run is looked for."""
        name, look = self._place.name_of(folder.name), self._watch.look
        seen = look.listed.get(name) or look.ended.get(name)
        has_ended = papers.read_exit_code(folder) is not None or (seen and _end(folder, seen) is not None)
        if papers.is_asked(folder) and not has_ended:
            self._missing.note(folder.name)
        self._sending.forget(folder)
        self._unlisted.pop(folder.name, None)
        self._look_again.pop(folder.name, None)
        self._place.remove(folder)


def _end(folder: Path, seen: Seen) -> End | None:
    return _by(folder, states.end_of(seen, papers.read_exit_code(folder), yields=papers.yields(folder)), seen)


def _by(folder: Path, end: End | None, seen: Seen | None) -> End | None:
    return states.by_us(end, seen) if end is not None and papers.is_ending(folder) else end
