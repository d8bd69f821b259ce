"""A stand-in for the Hub on loopback: Jobs, commits to a dataset repository, and a bucket, by the routes that
huggingface_hub calls.

It really starts what a job says, as a process group on this machine. A job's mounts are folders here: where its command
names a mount path, the folder stands instead. What it cannot show is in docs/spaces_and_engines.md.
"""

import base64
import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from rankviz.api import Api
from rankviz.jobs.hf_jobs import HfJobs
from rankviz.jobs.hub import Logins
from rankviz.paths import IMPORT_ROOT
from rankviz.store import RunStore
from rankviz.store.journal import WantedEngine
from tests.support.runs import questions
from tests.support.web.loopback import Answering, Loopback

HARDWARE = [
    ("cpu-basic", "CPU Basic", 167, None),
    ("t4-small", "Nvidia T4 - small", 6667, ("T4", "16 GB")),
    ("l4x1", "1x Nvidia L4", 13333, ("L4", "24 GB")),
    ("a100-large", "Nvidia A100 - large", 41667, ("A100", "80 GB")),
]
TIMEOUT = "Job timeout"
TOKENS = {"hf_alice": "alice", "hf_ben": "ben"}


@dataclass
class StandInJob:
    """A job, with its process."""

    id: str
    namespace: str
    spec: Mapping
    created: float
    stage: str = "SCHEDULING"
    message: str = ""
    started: float | None = None
    ended: float | None = None
    process: subprocess.Popen | None = None
    log: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while it begins or ends."""

    def json(self) -> dict:
        return {
            "id": self.id,
            "createdAt": datetime.fromtimestamp(self.created, UTC).isoformat().replace("+00:00", "Z"),
            "dockerImage": self.spec["dockerImage"],
            "command": self.spec["command"],
            "arguments": [],
            "environment": {},
            "flavor": self.spec["flavor"],
            "labels": self.spec.get("labels"),
            "volumes": self.spec.get("volumes"),
            "status": {"stage": self.stage, "message": self.message or None},
            "owner": {"id": "1", "name": self.namespace, "type": "user"},
            "durations": self._durations(),
        }

    def _durations(self) -> dict:
        now = self.ended or time.time()
        return {
            "totalSecs": math.ceil(now - self.created),
            "schedulingSecs": self.started and math.ceil(self.started - self.created),
            "runningSecs": self.started and math.ceil(now - self.started),
        }


class StandInHub:
    """What the tests look at and change.

    place: Folders of repositories and buckets lie below it.
    """

    def __init__(self, place: Path, environment: Mapping[str, str] | None = None):
        self.place = place
        python = str(Path(sys.executable).parent)
        path = os.pathsep.join([python, os.environ.get("PATH", "")])
        self.environment = {**os.environ, "PATH": path, **(environment or {})}
        self.jobs: dict[str, StandInJob] = {}
        self.tokens = dict(TOKENS)
        self.calls: list[str] = []
        self.refuses: dict[str, tuple[int, str]] = {}
        """Status and words by the beginning of "METHOD /path"."""
        self.holds = threading.Event()
        """While it is set, jobs stay in SCHEDULING."""
        self.shows: dict[str, bytes | None] = {}
        """What the bucket shows instead of a file, by the end of its path; None: nothing."""
        self.public: set[str] = set()
        """Names of repositories and buckets that everybody can read."""
        self.loses_answers = 0.0
        """So many jobs are started and the answer says 503."""
        self.lists_nothing = False
        """Whether lists of jobs are empty, as for a while after a start."""
        self.lists_all = False
        """Whether lists of jobs have those with other labels too."""
        self.unpacks = False
        """Whether jobs run the code that they are sent, and not that of this machine, which takes seconds less."""
        self.hangs: set[str] = set()
        """Beginnings of "METHOD /path" that are answered once they are no longer here."""
        self._server = Loopback(_Handler, hub=self)
        self.url = self._server.url

    def close(self) -> None:
        self.hangs.clear()
        for job in self.jobs.values():
            if job.process:
                _kill(job.process)
        self._server.stop()

    def folder(self, kind: str, repository: str) -> Path:
        return self.place / kind / repository

    def start(self, namespace: str, spec: Mapping) -> StandInJob:
        job = StandInJob(f"{len(self.jobs) + 1:024x}", namespace, spec, time.time())
        self.jobs[job.id] = job
        threading.Thread(target=self._run, args=(job,), daemon=True).start()
        return job

    def end(self, job: StandInJob, stage: str, message: str = "") -> None:
        """As where its machine is lost, its time is over, or somebody cancels it."""
        with job.lock:
            job.stage, job.message, job.ended = stage, message, time.time()
            if job.process:
                _kill(job.process)

    def _run(self, job: StandInJob) -> None:
        while self.holds.is_set() and job.stage == "SCHEDULING":
            time.sleep(0.02)
        with job.lock:  # one that is ended meanwhile does not begin
            if job.stage != "SCHEDULING":
                return
            job.process = self._begin(job)
            job.stage, job.started = "RUNNING", time.time()
        timer = threading.Timer(job.spec.get("timeoutSeconds", 1800), self.end, (job, "ERROR", TIMEOUT))
        timer.daemon = True
        timer.start()
        for line in job.process.stdout:
            job.log.append(line.decode(errors="replace").rstrip("\n"))
        code = job.process.wait()
        timer.cancel()
        _kill(job.process)
        with job.lock:
            if job.stage == "RUNNING":
                job.ended = time.time()
                failed = "ERROR", f"Job failed with exit code: {code}"
                job.stage, job.message = ("COMPLETED", "") if code == 0 else failed

    def _begin(self, job: StandInJob) -> subprocess.Popen:
        command = [self._mounted(text, job.spec["volumes"]) for text in job.spec["command"]]
        if command[0] == "sh" and not self.unpacks:
            command = [sys.executable, "-m", "rankviz.jobs.inside", *command[5:]]
        return subprocess.Popen(
            command,
            cwd=self.place,
            env={**self.environment, "PYTHONPATH": str(IMPORT_ROOT)} if not self.unpacks else self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _mounted(self, text: str, volumes: list[Mapping]) -> str:
        for volume in volumes:
            folder = self.folder(volume["type"], volume["source"])
            folder.mkdir(parents=True, exist_ok=True)
            text = text.replace(volume["mountPath"], str(folder))
        return text


def _kill(process: subprocess.Popen) -> None:
    """All that a container would take with it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class _Handler(Answering):
    hub: StandInHub

    def answer(self) -> None:
        method = self.command
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        body = self.body()
        call = f"{method} {path}"
        self.hub.calls.append(call)
        while any(call.startswith(start) for start in self.hub.hangs.copy()):
            time.sleep(0.02)
        user = self.hub.tokens.get(self.token)
        refused = next((each for start, each in self.hub.refuses.items() if call.startswith(start)), None)
        if refused:
            return self.reply({"error": refused[1]}, refused[0])
        if user is None and path != "/api/jobs/hardware":
            return self.reply({"error": "Invalid credentials"}, 401)
        parts = path.strip("/").split("/")
        match [method, *parts]:
            case ["GET", "api", "whoami-v2"]:
                self.reply({"name": user, "type": "user"})
            case ["GET", "api", "jobs", "hardware"]:
                self.reply([_hardware(*each) for each in HARDWARE])
            case [_, "api", "jobs", namespace, *_] if namespace != user:
                self.reply({"error": "Forbidden"}, 403)
            case ["POST", "api", "jobs", namespace]:
                status = 503 if self.hub.loses_answers > 0 else 200
                self.hub.loses_answers -= 1
                self.reply(self.hub.start(namespace, json.loads(body)).json(), status)
            case ["GET", "api", "jobs", namespace]:
                self.reply(self._listed(namespace, query))
            case [_, "api", "jobs", _, job_id, *rest]:
                self._of_job(job_id, rest)
            case ["POST", "api", "repos", "create"]:
                wanted = json.loads(body)
                self.hub.folder("dataset", f"{user}/{wanted['name']}").mkdir(parents=True, exist_ok=True)
                self.reply({"url": f"{self.hub.url}/datasets/{user}/{wanted['name']}"})
            case ["GET", "api", "datasets", owner, name]:
                self.reply({"id": f"{owner}/{name}", "private": name not in self.hub.public})
            case ["GET", "api", "buckets", owner, name]:
                made = {"createdAt": "2026-01-01T00:00:00.000Z", "size": 0, "totalFiles": 0}
                self.reply({"id": f"{owner}/{name}", "private": name not in self.hub.public, **made})
            case ["POST", "api", "datasets", owner, name, "preupload", "main"]:
                files = json.loads(body)["files"]
                kept = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in files]
                self.reply({"files": kept})
            case ["POST", "api", "datasets", owner, name, "commit", "main"]:
                self._commit(self.hub.folder("dataset", f"{owner}/{name}"), body)
            case [_, "datasets", owner, name, "resolve", "main", *rest]:
                self._file(self.hub.folder("dataset", f"{owner}/{name}") / "/".join(rest))
            case ["POST", "api", "buckets", owner, name]:
                self.hub.folder("bucket", f"{owner}/{name}").mkdir(parents=True, exist_ok=True)
                self.reply({"url": f"{self.hub.url}/buckets/{owner}/{name}"})
            case ["GET", "buckets", owner, name, "resolve", *rest]:
                self._file(self.hub.folder("bucket", f"{owner}/{name}") / "/".join(rest))
            case _:
                self.reply({"error": f"The stand-in has no {call}"}, 404)

    def _listed(self, namespace: str, query: Mapping[str, list[str]]) -> list[dict]:
        wanted = {} if self.hub.lists_all else dict(each.split("=", 1) for each in query.get("label", ()))
        jobs = [job for job in self.hub.jobs.values() if job.namespace == namespace]
        if self.hub.lists_nothing:
            return []
        return [job.json() for job in jobs if wanted.items() <= (job.spec.get("labels") or {}).items()]

    def _of_job(self, job_id: str, rest: list[str]) -> None:
        job = self.hub.jobs.get(job_id)
        if job is None:
            return self.reply({"error": "Job not found"}, 404, {"X-Error-Code": "JobNotFound"})
        if rest == ["cancel"] and job.ended is None:
            self.hub.end(job, "CANCELED")
        self.reply(job.json())

    def _commit(self, folder: Path, body: bytes) -> None:
        for line in body.splitlines():
            row = json.loads(line)
            value = row["value"]
            match row["key"]:
                case "file":
                    target = folder / value["path"]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(base64.b64decode(value["content"]))
                case "deletedFolder":
                    shutil.rmtree(folder / value["path"].rstrip("/"), ignore_errors=True)
        url = f"{self.hub.url}/datasets/{folder.parent.name}/{folder.name}/commit/{'0' * 40}"
        self.reply({"commitOid": "0" * 40, "commitUrl": url, "pullRequestUrl": None})

    def _shown(self, file: Path) -> bytes | None:
        for end, instead in self.hub.shows.items():
            if str(file).endswith(end):
                return instead
        return file.read_bytes() if file.is_file() else None

    def _file(self, file: Path) -> None:
        data = self._shown(file)
        if data is None:
            return self.reply({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if wanted and start >= len(data):
            return self.reply({"error": "Range not satisfiable"}, 416)
        self.reply(data[start:], 206 if wanted else 200, {"ETag": '"0"', "X-Repo-Commit": "0" * 40})


def _hardware(name: str, label: str, micro_usd: int, card: tuple[str, str] | None) -> dict:
    named = {"type": "gpu", "quantity": "1", "manufacturer": "Nvidia"}
    accelerator = named | {"model": card[0], "vram": card[1]} if card else None
    machine = {"cpu": "4 vCPU", "ram": "16 GB", "ephemeralStorage": None, "accelerator": accelerator}
    costs = {"unitCostMicroUSD": micro_usd, "unitCostUSD": micro_usd / 1e6, "unitLabel": "minute"}
    return {"name": name, "prettyName": label, **machine, **costs}


@contextlib.contextmanager
def stand_in_hub(place: Path) -> Iterator[StandInHub]:
    """A hub that keeps everything in this folder, its jobs' temporary files too."""
    (place / "tmp").mkdir(parents=True)
    hub = StandInHub(place, {"TMPDIR": str(place / "tmp")})
    try:
        yield hub
    finally:
        hub.close()


@contextlib.contextmanager
def page_on(hub: StandInHub, home: Path, *, shared: bool = False) -> Iterator[Api]:
    """A page that rents from the stand-in: one's own, with a login of this machine, or a shared one."""
    api = Api(home=home, shared=shared)
    use(api, hub, "" if shared else "hf_alice")
    try:
        yield api
    finally:
        api.workspace.supervisor.stop()


def use(api: Api, hub: StandInHub, token: str = "") -> HfJobs:
    """Let an Api rent from the stand-in; on a page of one's own with this token. Returns its engine."""
    engine = next(each for each in api.workspace.supervisor.engines if isinstance(each, HfJobs))
    engine.logins = Logins(hub.url, of_machine=False)
    if token:
        engine.logins.give("", token)
    return engine


def sweep(store: RunStore, *ranks: int, owner: str = "ann", engine: str = "hf-jobs", **options: str) -> Sequence[str]:
    """Queue one for the stand-in; ids of its runs."""
    return store.run_ids(store.create(questions.sweep(ranks=ranks), owner, WantedEngine(engine, options)))


def only_job(hub: StandInHub) -> StandInJob:
    """The one that was ever started."""
    (job,) = hub.jobs.values()
    return job
