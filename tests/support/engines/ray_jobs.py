"""A stand-in for the dashboard of a Ray cluster: its Jobs API and its list of nodes, on loopback. Entrypoints really
run, as processes of this machine, one for each slot. What this cannot show is tried on a true Ray by
tests/jobs/test_true_ray.py."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from rankviz.jobs.ray import Ray
from rankviz.paths import IMPORT_ROOT
from rankviz.store import RunStore
from tests.support.processes.workers import processes_with
from tests.support.web.loopback import Answering, Loopback

MARK = "STAND_IN_RAY_JOB"
STOP_SECONDS = 3.0
"""As RAY_JOB_STOP_WAIT_TIME_S."""


@dataclass
class RayJob:
    id: str
    request: dict
    status: str = "PENDING"
    message: str = "Job has not started yet. It may be waiting for resources."
    exit_code: int | None = None
    process: subprocess.Popen | None = None
    is_stopping: bool = False

    @property
    def details(self) -> dict:
        node = {"driver_agent_http_address": "http://node-0:52365", "driver_node_id": "a1b2c3d4e5"}
        return {
            "type": "SUBMISSION",
            "submission_id": self.id,
            "status": self.status,
            "entrypoint": self.request["entrypoint"],
            "message": self.message,
            "driver_exit_code": self.exit_code,
            **(node if self.process else {}),
        }


class RayJobs:
    """A cluster of one node with so many slots.

    Args:
        place: Of its storage and its temporary files.
    """

    def __init__(self, place: Path, slots: int = 2):
        self.place, self.slots = place, slots
        self.jobs: dict[str, RayJob] = {}
        self.faults: dict[str, tuple[int, str]] = {}
        """Status and text by the beginning of "METHOD /path"."""
        self._lock = threading.RLock()
        self._closed = False
        (place / "tmp").mkdir(parents=True, exist_ok=True)
        self._server = Loopback(_Line, cluster=self)
        self.address = self._server.url

    def engine(self, store: RunStore, worker: Sequence[str] = (), **settings) -> Ray:
        given = {
            "address": self.address,
            "storage": str(self.place / "storage"),
            "resources": {"slot": 1},
            "sees_folders": True,
            "poll_seconds": 0.1,
            "at_once": self.slots,
        }
        return Ray(store, worker=worker, **given | settings)

    def answer(self, method: str, path: str, body: dict) -> tuple[int, object]:
        parts = path.partition("?")[0].strip("/").split("/")
        with self._lock:
            if path.startswith("/api/version"):
                return 200, {"version": "4", "ray_version": "2.60.0", "ray_commit": "stand-in"}
            if method == "POST" and parts == ["api", "jobs"]:
                return self._submit(body)
            job = self.jobs.get(parts[2]) if len(parts) > 2 else None
            if job is None:
                return 404, f"Job {parts[-1]} does not exist"
            if method == "POST":
                self._stop(job)
                return 200, {"stopped": True}
            return 200, job.details

    def processes(self, job: RayJob) -> list[psutil.Process]:
        return processes_with(MARK, f"{self.place} {job.id}")

    def close(self) -> None:
        self._closed = True
        self._server.stop()
        for job in self.jobs.values():
            self._signal(job, signal.SIGKILL)

    def schedule(self) -> None:
        """Start what there is a slot for."""
        with self._lock:
            for job in [job for job in self.jobs.values() if job.status == "PENDING"]:
                if sum(each.status == "RUNNING" for each in self.jobs.values()) < self.slots and not self._closed:
                    self._start(job)

    def _submit(self, body: dict) -> tuple[int, object]:
        if body["submission_id"] in self.jobs:
            return 500, f"Job with submission_id {body['submission_id']} already exists."
        self.jobs[body["submission_id"]] = RayJob(body["submission_id"], body)
        self.schedule()
        return 200, {"job_id": body["submission_id"], "submission_id": body["submission_id"]}

    def _start(self, job: RayJob) -> None:
        job.status, job.message = "RUNNING", "Job is currently running."
        environment = {
            **os.environ,
            **job.request["runtime_env"].get("env_vars", {}),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(IMPORT_ROOT),
            "TMPDIR": str(self.place / "tmp"),
            MARK: f"{self.place} {job.id}",
        }
        job.process = subprocess.Popen(
            job.request["entrypoint"],
            shell=True,
            cwd=self.place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=(self.place / "log").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        threading.Thread(target=self._follow, args=(job,), daemon=True).start()

    def _follow(self, job: RayJob) -> None:
        code = job.process.wait()
        with self._lock:
            if job.status == "RUNNING" and not job.is_stopping:
                job.status, job.exit_code = ("FAILED" if code else "SUCCEEDED"), code
                job.message = f"Job entrypoint command ended with exit code {code}"
        self.schedule()

    def _stop(self, job: RayJob) -> None:
        if job.status == "PENDING":
            job.status = "STOPPED"
        elif job.status == "RUNNING" and not job.is_stopping:
            job.is_stopping = True
            threading.Thread(target=self._end, args=(job,), daemon=True).start()

    def _end(self, job: RayJob) -> None:
        self._signal(job, signal.SIGTERM)
        psutil.wait_procs(self.processes(job), timeout=STOP_SECONDS)
        self._signal(job, signal.SIGKILL)
        while self.processes(job):
            pass
        with self._lock:
            job.status, job.message = "STOPPED", "Job was intentionally stopped."
        self.schedule()

    def _signal(self, job: RayJob, number: signal.Signals) -> None:
        for process in self.processes(job):
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)


class _Line(Answering):
    cluster: RayJobs

    def answer(self) -> None:
        body = json.loads(self.body() or b"{}")
        asked = f"{self.command} {self.path}"
        fault = next((each for name, each in self.cluster.faults.items() if asked.startswith(name)), None)
        status, content = fault or self.cluster.answer(self.command, self.path, body)
        self.reply(content, status)
