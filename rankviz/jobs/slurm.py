"""Slurm: one batch job per RankViz job, on the nodes of a cluster that see the runs folder under the same path.

A batch script runs the worker in the job's folder and writes its exit code there, so no accounting of Slurm is needed.
Jobs are submitted by sbatch, polled by one squeue for all of them, and cancelled by scancel. Each file is written by
one machine only, so no lock on a network disk is needed.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from rankviz.core.bounds import printable
from rankviz.core.runs.events import MODELS_VARIABLE, SLURM
from rankviz.errors import EngineDeclinedError, EngineUnavailableError, InvalidSettingError, quoted
from rankviz.jobs import bundle, local
from rankviz.jobs.engine import End, Live
from rankviz.jobs.remote import Remote, RemoteJob
from rankviz.paths import ASSETS, IMPORT_ROOT
from rankviz.settings import SLURM_AT_ONCE, SLURM_OPTIONS, SLURM_POLL_SECONDS

Row = Mapping[str, Any]
"""A job in the JSON of squeue, by names of squeue."""
GPU = re.compile(r"--(?:gres=(?:.*,)?gpu|gpus(?:-per-node)?)(?:[:=](?P<model>[A-Za-z]\w*))?(?:[:=]\d+)?(?:,.*)?")
VARIABLES = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|LD_LIBRARY_PATH|SLURM_CONF(_SERVER)?|"
    "SBATCH_(ACCOUNT|PARTITION|QOS|RESERVATION|TIMELIMIT|CONSTRAINT|WCKEY)"
)
"""Environment variables that Slurm's commands get. Secrets are left out, and variables of a Slurm job in which the page
itself runs."""
PASSED = ("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "XDG_CACHE_HOME")
"""Environment variables that tell a worker where base models are; no token, since operators can read scripts."""
MAY_HAVE_ARRIVED = re.compile(r"timed out|(send|receive|shutdown) failure|zero bytes|unexpected message", re.IGNORECASE)
"""Errors of sbatch after which the job may have been submitted nevertheless."""
EXIT_CODE, BATCH = "exit_code", "batch.sh"
MOST_OFTEN_SECONDS = 1.0
"""Shortest interval in seconds between two squeue calls while jobs are cancelled."""
NEEDED = ("sbatch", "squeue", "scancel")
NOT_HERE = "There is no {} on this machine. Start RankViz where Slurm's commands are, such as a login node."
NOT_SET_UP = (
    "Slurm is not set up here. Set RANKVIZ_SLURM_PARTITION to a partition of the cluster, or RANKVIZ_ENGINE=slurm for "
    "its default partition."
)
LOST = frozenset({"NODE_FAIL", "PREEMPTED", "BOOT_FAIL"})
"""States of a job whose node failed or was taken away; its run is tried again."""
ENDED = LOST | {"COMPLETED", "FAILED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY", "CANCELLED"}
"""States of a job that has ended. In any other state, unknown ones included, a job may still run."""
ADVICE = {
    "TIMEOUT": " Use fewer steps. A longer limit is --time in RANKVIZ_SLURM_OPTIONS.",
    "OUT_OF_MEMORY": " Use a smaller batch or a shorter length. More memory is --mem in RANKVIZ_SLURM_OPTIONS.",
}
SCRIPT = (ASSETS / "templates" / "slurm_job.sh").read_text("utf-8")
"""Batch script of a job. The trap lets the shell outlive the SIGTERM that ends the worker; the exit code replaces a
line of blanks, as the disk may be full. The embedded base is read from the runs folder if it is there, else from a
folder per node, since locks do not work between machines on some network disks."""


@dataclass(eq=False)
class Slurm(Remote):
    """Engine for batch jobs of one user on one cluster."""

    _: KW_ONLY
    partition: str = ""
    """Partition of the cluster; empty for its default."""
    options: Sequence[str] = SLURM_OPTIONS
    """More options of sbatch. Options that RankViz sets itself have no effect here, and --array is not allowed."""
    python: str = ""
    """Command that starts Python on a node; empty for the page's Python under the same path."""
    is_set_up: bool = True
    """True where the owner of this server offers Slurm. If False, no job is submitted."""
    search_path: str = ""
    """PATH with Slurm's commands; empty for the page's PATH."""
    seconds: float = 30.0
    """Time limit of one command."""
    at_once: int = SLURM_AT_ONCE
    poll_seconds: float = SLURM_POLL_SECONDS

    name = SLURM
    divides = True
    late_looks = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            self._python = shlex.split(self.python)
        except ValueError as error:
            raise InvalidSettingError(f"RANKVIZ_SLURM_PYTHON cannot be {quoted(self.python)}: {error}.") from None
        self._options = [*([f"--partition={self.partition}"] if self.partition else []), *self.options]
        gpus = [match for option in self._options if (match := GPU.fullmatch(option))]
        self.gpu_models, self.has_gpu = [gpu["model"].upper() for gpu in gpus if gpu["model"]], bool(gpus)
        self._environment = {name: text for name, text in os.environ.items() if VARIABLES.fullmatch(name)}
        if self.search_path:
            self._environment["PATH"] = self.search_path
        self._lock = threading.Lock()
        self._asked_at, self._trouble = float("-inf"), "Slurm does not answer (squeue)."
        self._rows: Mapping[str, Row] | None = None
        """This user's jobs by name, as squeue listed them last; None after a failed call."""

    @property
    def title(self) -> str:
        return f"Slurm cluster, partition {self.partition}" if self.partition else "Slurm cluster"

    @property
    def about(self) -> str:
        options = " ".join(self._options) or "no options"
        return f"The runs are sent to nodes of this cluster as batch jobs ({options}), with their data."

    def why_not(self) -> str:
        path = self._environment.get("PATH")
        absent = next((name for name in NEEDED if not shutil.which(name, path=path)), "")
        return NOT_HERE.format(absent) if absent else "" if self.is_set_up else NOT_SET_UP

    def submit(self, job: RemoteJob) -> str:
        """Submit a batch job and return its number. The supervisor, not Slurm, tries runs of failed nodes again."""
        if not self.is_set_up:
            raise EngineDeclinedError(NOT_SET_UP)
        script = job.folder / BATCH
        (job.folder / EXIT_CODE).write_text("   \n")
        script.write_text(self._script(job))
        done = self._run(
            *("sbatch", "--parsable", *self._options, f"--job-name={self._name(job)}", f"--chdir={job.folder}"),
            f"--output=runs/{job.job.attempts[0].run_id}/worker.log",
            *("--open-mode=append", "--export=NONE", "--no-requeue", "--nodes=1", "--ntasks=1", str(script)),
        )
        handle = done.stdout.strip().partition(";")[0]  # its cluster may stand after it
        if done.returncode == 0 and handle.isascii() and handle.isdigit():
            return handle
        problem = _problem(done.stderr)
        if done.returncode <= 0 or MAY_HAVE_ARRIVED.search(problem):
            raise EngineUnavailableError(f"Slurm's answer was lost: {problem}")
        raise EngineDeclinedError(f"Slurm does not take the job: {problem}")

    def poll(self, job: RemoteJob) -> Live | None:
        row = self._listed(job).get(self._name(job))
        exit_code = read_exit_code(job.folder)
        if row is None:
            return None if exit_code is None else Live(job=job.job, handle=job.handle, end=local.end_by(exit_code))
        states, reason, waits = states_of(row), _line(row, "state_reason").removesuffix("None"), ""
        if states & {"PENDING", "CONFIGURING"}:
            waits = f"Slurm has not started the job yet: {reason or 'no reason given yet'}."
        elif states & {"SUSPENDED", "STOPPED"}:
            waits = "Slurm has suspended the job."
        end, where = end_of(states, exit_code, reason), _line(row, "nodes")
        return Live(job=job.job, handle=str(_number(row["job_id"])), where=where, waits=waits, end=end)

    def read(self, job: RemoteJob, path: str, offset: int, most: int) -> bytes:
        return bundle.read_plain(job.folder / path, offset, most)

    def cancel_job(self, job: RemoteJob) -> None:
        """Cancel a job by number and name, since job numbers start again where a cluster is set up anew."""
        done = self._run("scancel", "--quiet", f"--name={self._name(job)}", *filter(None, [job.handle]))
        if done.returncode != 0:
            raise EngineUnavailableError(f"Slurm has not ended the job (scancel): {_problem(done.stderr)}")

    def _listed(self, job: RemoteJob) -> Mapping[str, Row]:
        """Return this user's jobs by name, from a squeue call that is recent and began after `job` was submitted or
        cancelled. Jobs that ended recently are included (MinJobAge). Older versions of squeue ignore filters with
        --json and print other users' jobs too, which read_jobs leaves out."""
        with self._lock:
            most = min(MOST_OFTEN_SECONDS, self.poll_seconds) if job.submission.cancelled else self.poll_seconds
            if time.monotonic() - self._asked_at >= most or self._asked_at < job.asked_at:
                self._asked_at, self._rows = time.monotonic(), None
                done = self._run("squeue", "--me", "--states=all", "--json")
                self._trouble = f"Slurm cannot be asked (squeue): {_problem(done.stderr)}"
                if done.returncode == 0:
                    try:
                        self._rows = read_jobs(done.stdout, user=os.getuid())
                    except ValueError as error:
                        self._trouble = f"squeue --json printed something else: {printable(str(error), 100)}."
            if self._rows is None:
                raise EngineUnavailableError(self._trouble)
            return self._rows

    def _run(self, name: str, *arguments: str) -> subprocess.CompletedProcess:
        """Run a command of Slurm; raise EngineDeclinedError where it cannot be started, and EngineUnavailableError
        where it takes too long. Then its process group is killed, since clusters wrap these commands in scripts."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        try:
            process = subprocess.Popen(
                [name, *arguments], env=self._environment, text=True, errors="replace", start_new_session=True, **pipes
            )
        except OSError:
            raise EngineDeclinedError(NOT_HERE.format(name)) from None
        try:
            stdout, stderr = process.communicate(timeout=self.seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # one may not let itself be killed
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate(timeout=1.0)
            raise EngineUnavailableError(f"Slurm does not answer ({name}).") from None
        return subprocess.CompletedProcess(name, process.returncode, stdout, stderr)

    def _script(self, job: RemoteJob) -> str:
        worker = self.worker or [*(self._python or [sys.executable]), "-m", "rankviz.worker", "finetune"]
        command = [*worker, str(job.folder), *map(str, job.job.attempts)]
        variables = {name: os.environ[name] for name in PASSED if name in os.environ} | {"PYTHONUNBUFFERED": "1"}
        if not self._python:  # another one has RankViz installed itself
            search_path = [str(IMPORT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
            variables["PYTHONPATH"] = os.pathsep.join(search_path)
        return SCRIPT.format(
            folder=shlex.quote(str(job.folder)),
            exports="\n".join(f"export {name}={shlex.quote(text)}" for name, text in variables.items()),
            models=MODELS_VARIABLE,
            shared=shlex.quote(str(self.store.home.absolute() / "models")),
            of_nodes=shlex.quote(str(self.place / "models")),
            command=shlex.join(command),
            exit_code=EXIT_CODE,
        )

    def _name(self, job: RemoteJob) -> str:
        return f"rankviz-{self.home_id}-{job.name}"


def read_exit_code(folder: Path) -> int | None:
    """Return the exit code of a job's worker, negative for a signal; None where the worker goes on or left no exit
    code. Raise EngineUnavailableError where the file cannot be read now."""
    try:
        text = (folder / EXIT_CODE).read_text()
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise EngineUnavailableError(f"Files of jobs cannot be read now ({error.strerror}).") from error
    return local.from_shell(int(text)) if re.fullmatch(r"\d{1,3} *\n", text, re.ASCII) else None


def read_jobs(text: str, user: int) -> Mapping[str, Row]:
    """Parse the output of `squeue --json` into a user's jobs by name. Where several jobs have one name, a job that has
    not ended has priority, then the newest. Raise ValueError where the output has another form."""
    try:
        rows = [row for row in json.loads(text)["jobs"] if _number(row["user_id"]) == user]
        rows.sort(key=lambda row: (not states_of(row) & ENDED, _number(row["job_id"])))
        return {str(row["name"]): row for row in rows}
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"no list of jobs: {error!r}") from None


def states_of(row: Row) -> frozenset[str]:
    """Return a job's state with flags such as COMPLETING; older versions print a text, newer ones a list."""
    words = row["job_state"]
    return frozenset([words.split(" ")[0]] if isinstance(words, str) else map(str, words))


def end_of(states: frozenset[str], exit_code: int | None, reason: str = "") -> End | None:
    """Return how a job ended; None while some of its processes may be left. exit_code: None where not known."""
    # A node that has failed cannot say that its processes are gone; what they write counts no more.
    if not states & ENDED or ("COMPLETING" in states and "NODE_FAIL" not in states):
        return None
    for state in sorted(states & (ENDED - {"COMPLETED", "FAILED"})):
        why = f"Slurm ended the job: {state}.{ADVICE.get(state, '')}"
        return End(exit_code, lost=state in LOST, why=why)
    words = ", ".join(filter(None, [*sorted(states), reason]))
    why = f"The job ended in Slurm before its worker did: {words}. Do the nodes see the runs folder under its path?"
    return End(lost=True, why=why) if exit_code is None else local.end_by(exit_code)


def _line(row: Row, name: str) -> str:
    return printable(" ".join(str(row.get(name) or "").split()), 200)


def _number(value: Any) -> int:
    """Return a number of squeue's JSON; newer versions print some as {"set": true, "infinite": false, "number": 5}."""
    return int(value["number"] if isinstance(value, dict) else value)


def _problem(text: str) -> str:
    """Return the last line that is not empty, without a prefix such as "sbatch: error: "."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1].split("error: ")[-1] if lines else "it says nothing"
    return printable(last.rstrip("."), 300) + "."
