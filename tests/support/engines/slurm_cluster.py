"""A stand-in for Slurm: sbatch, squeue and scancel as executables, and a controller in this process with a queue
and nodes, which really starts what a job's script says.

A node has room for one job. The executables hand their arguments and environment to the controller through a socket.
As with Slurm, all that a job started ends with it. What this cannot show is in docs/spaces_and_engines.md.
"""

import contextlib
import json
import os
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import NamedTuple

import psutil

from rankviz.jobs.slurm import Slurm
from rankviz.store import RunStore
from tests.support.processes.workers import processes_with

COMMAND = """#!{python} -SE
import json, os, socket, sys
asked = {{"name": {name!r}, "arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}}
with socket.socket(socket.AF_UNIX) as line:
    line.connect({socket!r})
    line.sendall(json.dumps(asked).encode() + b"\\n")
    answer = json.loads(line.makefile("rb").readline())
sys.stdout.write(answer["stdout"])
sys.stderr.write(answer["stderr"])
sys.exit(answer["code"])
"""
MARK = "STAND_IN_JOB"
"""Of the environment of everything that a job starts."""
KILL_WAIT_SECONDS = 2.0
TIMED_OUT = "Batch job submission failed: Socket timed out on send/recv operation"


class Question(NamedTuple):
    """A command as it was run."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    script: str
    """What sbatch is given as a file, which it sends at once."""

    def option(self, name: str) -> str:
        return next(text.partition("=")[2] for text in self.arguments if text.startswith(f"--{name}="))


@dataclass
class BatchJob:
    """Of the queue, those that have ended too."""

    id: int
    name: str
    options: Mapping[str, str]
    question: Question
    """By which it was sent."""
    state: str = "PENDING"
    is_completing: bool = False
    reason: str = "None"
    node: str = ""
    is_listed: bool = True
    process: subprocess.Popen | None = field(default=None, repr=False)

    @property
    def has_ended(self) -> bool:
        return self.state not in ("PENDING", "RUNNING") and not self.is_completing


class SlurmCluster:
    """A cluster with so many nodes."""

    def __init__(self, nodes: int = 2):
        self.place = Path(tempfile.mkdtemp(prefix="rv-"))  # short: a socket lies below it
        self.nodes = [f"node-{number}" for number in range(nodes)]
        self.jobs: list[BatchJob] = []
        self.faults: dict[str, Callable[[Callable[[], dict]], dict]] = {}
        """What happens instead of an answer, by command: it is given what would answer."""
        self.asked: list[tuple[str, Question]] = []
        """The commands that were run."""
        self._ids = count(101)
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._server = _serve(self.place / "line", self._answer)
        (self.place / "bin").mkdir()
        for name in ("sbatch", "squeue", "scancel"):
            file = self.place / "bin" / name
            file.write_text(COMMAND.format(python=sys.executable, name=name, socket=str(self.place / "line")))
            file.chmod(0o755)

    def engine(self, store: RunStore, worker: Sequence[str] = (), *, seconds: float = 30.0, **settings) -> Slurm:
        path = f"{self.place / 'bin'}:{os.environ['PATH']}"
        settings = {"poll_seconds": 0.1, "at_once": len(self.nodes), **settings}
        return Slurm(store, search_path=path, seconds=seconds, worker=worker, **settings)

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        """End all that still runs."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        for job in self.jobs:
            self._signal(job, signal.SIGKILL)
        shutil.rmtree(self.place, ignore_errors=True)

    def schedule(self) -> None:
        """Start what can start."""
        with self._lock:
            for job in [job for job in self.jobs if job.state == "PENDING"]:
                busy = {each.node for each in self.jobs if not each.has_ended}
                free = [name for name in self.nodes if name not in busy]
                if free:
                    self._start(job, free[0])
                else:
                    job.reason = "Resources"

    def forget_ended(self) -> None:
        """Some minutes later (MinJobAge)."""
        for job in self.jobs:
            job.is_listed = job.is_listed and not job.has_ended

    def processes(self, job: BatchJob) -> list[psutil.Process]:
        """Everything that a job started, whatever its group, as a cgroup knows it."""
        return processes_with(MARK, f"{self.place} {job.name}")

    def _answer(self, asked: dict) -> dict:
        name = asked["name"]
        question = Question(asked["arguments"], asked["environment"], _script(asked["arguments"]))
        self.asked.append((name, question))

        def answer() -> dict:
            with self._lock:
                return getattr(self, f"_{name}")(question)

        return self.faults[name](answer) if name in self.faults else answer()

    def _sbatch(self, question: Question) -> dict:
        options = dict(option.removeprefix("--").partition("=")[::2] for option in question.arguments[:-1])
        if options.get("partition", "gpu") != "gpu":
            return failure("sbatch", "Batch job submission failed: Invalid partition name specified")
        job = BatchJob(id=next(self._ids), name=options["job-name"], options=options, question=question)
        self.jobs.append(job)
        self.schedule()
        return success(f"{job.id}\n")

    def _squeue(self, question: Question) -> dict:
        return success(json.dumps({"jobs": [self._row(job) for job in self.jobs if job.is_listed], "errors": []}))

    def _scancel(self, question: Question) -> dict:
        for job in self.jobs:
            is_meant = (str(job.id), job.name) == (question.arguments[-1], question.option("name"))
            if is_meant and not job.has_ended:
                self._end(job, "CANCELLED")
        return success("")

    def _row(self, job: BatchJob) -> dict:
        flags = ["COMPLETING"] if job.is_completing else []
        return {
            "job_id": job.id,
            "name": job.name,
            "user_id": os.getuid(),
            "job_state": [job.state, *flags],
            "state_reason": job.reason,
            "nodes": job.node,
        }

    def _start(self, job: BatchJob, node: str) -> None:
        """As slurmstepd does: the script as it was sent, in the job's folder, with a clean environment or its
        sender's."""
        job.state, job.reason, job.node = "RUNNING", "None", node
        folder = Path(job.options["chdir"])
        script = self.place / f"{job.id}.sh"
        script.write_text(job.question.script)
        own = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = own if job.options.get("export") == "NONE" else job.question.environment
        with contextlib.ExitStack() as stack:
            output = stack.enter_context((folder / job.options["output"]).open("ab")) if folder.is_dir() else None
            job.process = subprocess.Popen(
                ["sh", str(script)],
                cwd=folder if folder.is_dir() else self.place,
                env={**environment, "SLURM_JOB_ID": str(job.id), MARK: f"{self.place} {job.name}"},
                stdin=subprocess.DEVNULL,
                stdout=output or subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        threading.Thread(target=self._follow, args=(job,), daemon=True).start()

    def _follow(self, job: BatchJob) -> None:
        code = job.process.wait()
        while self.processes(job):
            self._signal(job, signal.SIGKILL)
            time.sleep(0.01)
        with self._lock:
            if job.state == "RUNNING":
                job.state, job.reason = ("COMPLETED", "None") if code == 0 else ("FAILED", "NonZeroExitCode")
            job.is_completing = False
            if not self._closed.is_set():
                self.schedule()

    def _end(self, job: BatchJob, state: str) -> None:
        job.is_completing, job.state = job.process is not None, state
        self._signal(job, signal.SIGTERM)
        timer = threading.Timer(KILL_WAIT_SECONDS, self._signal, (job, signal.SIGKILL))
        timer.daemon = True
        timer.start()

    def _signal(self, job: BatchJob, number: signal.Signals) -> None:
        for process in self.processes(job):
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)


def success(text: str) -> dict:
    return {"stdout": text, "stderr": "", "code": 0}


def failure(name: str, text: str) -> dict:
    return {"stdout": "", "stderr": f"{name}: error: {text}\n", "code": 1}


def _script(arguments: Sequence[str]) -> str:
    file = Path(arguments[-1])
    return file.read_text() if file.is_file() else ""


def _serve(path: Path, answer: Callable[[dict], dict]) -> socketserver.BaseServer:
    class Line(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(BrokenPipeError):
                self.wfile.write(json.dumps(answer(json.loads(self.rfile.readline()))).encode() + b"\n")

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True
        block_on_close = False

    server = Server(str(path), Line)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server
