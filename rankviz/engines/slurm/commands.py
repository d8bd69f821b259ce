"""Slurm's commands, each with a limit of time: sbatch, squeue, sacct, scancel."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence

from rankviz.core.bounds import printable
from rankviz.engines.slurm import states
from rankviz.engines.slurm.states import Seen
from rankviz.errors import EngineError, EngineUnavailableError

GIVEN = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|LD_LIBRARY_PATH|SLURM_CONF(_SERVER)?|"
    "SBATCH_(ACCOUNT|PARTITION|QOS|RESERVATION|TIMELIMIT|CONSTRAINT|WCKEY)"
)
"""The variables that a command gets. No other, so that no secret of the page reaches a plugin of Slurm's, and nothing
of a job in which the page itself may run gets into its jobs."""
MAY_HAVE_ARRIVED = re.compile(r"timed out|(send|receive|shutdown) failure|zero bytes|unexpected message", re.IGNORECASE)
"""What sbatch says where the controller may have the job all the same. By its exit code it cannot be told."""
WILL_NOT_BE_TAKEN = re.compile(
    r"invalid|specification|unrecognized option|not permitted|permission denied|configuration is not available|"
    r"not in this partition|requested than permitted|no partition specified",
    re.IGNORECASE,
)
"""What it says of a job that is wrong as it is. All else may pass: a limit of submitted jobs, a partition that is down.
Compared with Slurm's own table of errors (slurm_errno.c)."""
CHANGE = " Change {}, and start RankViz again."
KILLED_SECONDS = 1.0
"""So long what a command has started is waited for once it was killed."""
NEEDED = ("sbatch", "squeue", "scancel")
NOT_HERE = (
    "There is no {name} on this machine. Start RankViz where Slurm's commands are, such as a login node of the cluster."
)


class NotAnsweredError(Exception):
    """Whether Slurm has the job is not known."""


class Commands:
    """Of one user on one cluster.

    Args:
        search_path: Where they are, as PATH; empty: as the page's.
        seconds: After which one that hangs is ended.
    """

    def __init__(self, search_path: str = "", seconds: float = 30.0):
        self._seconds = seconds
        self._variables = {name: text for name, text in os.environ.items() if GIVEN.fullmatch(name)}
        if search_path:
            self._variables["PATH"] = search_path

    def why_not(self) -> str:
        """Which of them is not here, and what to do, as a sentence; empty where all are that are needed."""
        path = self._variables.get("PATH")
        return next((NOT_HERE.format(name=name) for name in NEEDED if not shutil.which(name, path=path)), "")

    def submit(self, arguments: Sequence[str]) -> str:
        """Send a job; returns its id. EngineError: it is wrong as it is. EngineUnavailableError: not now.
        NotAnsweredError: Slurm may have it."""
        try:
            done = self._run("sbatch", "--parsable", *arguments)
        except subprocess.TimeoutExpired:
            raise NotAnsweredError from None
        job_id = done.stdout.strip().partition(";")[0]  # its cluster may stand after it
        if done.returncode == 0 and job_id.isascii() and job_id.isdigit():
            return job_id
        problem = _problem(done.stderr)
        if done.returncode <= 0 or MAY_HAVE_ARRIVED.search(problem):
            raise NotAnsweredError
        if WILL_NOT_BE_TAKEN.search(problem):
            raise EngineError(f"Slurm does not take the job: {problem}{_what_to_change(problem)}")
        raise EngineUnavailableError(f"Slurm does not take the job now: {problem}")

    def jobs(self) -> Mapping[str, Seen]:
        """This user's jobs by name, those too that have ended a while ago (MinJobAge). Older versions ignore filters
        where they print JSON, and then others' jobs are among them."""
        try:
            done = self._run("squeue", "--me", "--states=all", "--json")
        except subprocess.TimeoutExpired:
            raise EngineUnavailableError("Slurm does not answer (squeue).") from None
        if done.returncode != 0:
            raise EngineUnavailableError(f"Slurm cannot be asked (squeue): {_problem(done.stderr)}")
        try:
            return states.read_jobs(done.stdout, user=os.getuid())
        except ValueError as error:
            problem = printable(str(error), 100)
            raise EngineUnavailableError(f"squeue --json printed something else: {problem}.") from None

    def ended(self, job_ids: Sequence[str]) -> Mapping[str, Seen]:
        """What accounting has of jobs that squeue no longer lists, by name; nothing where it is off."""
        columns = "--format=JobIDRaw,JobName,State,NodeList"
        try:
            done = self._run(
                "sacct", "--allocations", "--parsable2", "--noheader", columns, f"--jobs={','.join(job_ids)}"
            )
        except (subprocess.TimeoutExpired, EngineUnavailableError):
            return {}
        rows = [line.split("|") for line in done.stdout.splitlines()]
        jobs = {
            name: Seen(job_id, states.states_of(state), nodes=states.on_one_line(nodes))
            for job_id, name, state, nodes in (row for row in rows if len(row) == 4)
        }
        return {name: seen for name, seen in jobs.items() if seen.states & states.ENDED}

    def cancel(self, job_id: str, name: str) -> None:
        """Ask for the end of a job that has this id and this name. EngineUnavailableError."""
        try:
            done = self._run("scancel", "--quiet", f"--name={name}", job_id)
        except subprocess.TimeoutExpired:
            raise EngineUnavailableError("Slurm does not answer (scancel).") from None
        if done.returncode != 0:
            raise EngineUnavailableError(f"Slurm has not ended the job (scancel): {_problem(done.stderr)}")

    def _run(self, name: str, *arguments: str) -> subprocess.CompletedProcess:
        """subprocess.TimeoutExpired where it hangs. Clusters have scripts around these commands, so all is ended that
        it started."""
        command = [name, *arguments]
        try:
            process = subprocess.Popen(
                command,
                env=self._variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError:
            raise EngineUnavailableError(NOT_HERE.format(name=name)) from None
        try:
            stdout, stderr = process.communicate(timeout=self._seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # one may not let itself be killed
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate(timeout=KILLED_SECONDS)
            raise
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def _what_to_change(problem: str) -> str:
    """The setting that is wrong, as a sentence."""
    is_partition = "partition" in problem.lower() and "account" not in problem.lower()
    options = "RANKVIZ_SLURM_OPTIONS"
    return CHANGE.format(f"RANKVIZ_SLURM_PARTITION or {options}" if is_partition else options)


def _problem(text: str) -> str:
    """The last line that says something, without what stands before it: "sbatch: error: "."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1].split("error: ")[-1] if lines else "it says nothing"
    return printable(last.rstrip("."), 300) + "."
