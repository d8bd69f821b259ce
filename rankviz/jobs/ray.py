"""Ray: one Ray job per RankViz job, through the Jobs API of an existing cluster.

The page sends HTTP to the dashboard of the cluster's head and needs no other port. The packed job goes to a storage
that all nodes can access, and journals and adapters come back there (rankviz.jobs.inside). Ray retries nothing: the
supervisor tries a run again whose node was lost.
"""

import contextlib
import re
import shlex
import threading
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any
from urllib.parse import urlsplit

from rankviz import installed
from rankviz.core.runs.events import RAY
from rankviz.errors import EngineDeclinedError, EngineError, EngineUnavailableError, in_a_line
from rankviz.jobs import local
from rankviz.jobs.bundle import files_in
from rankviz.jobs.engine import End, Live
from rankviz.jobs.inside import Storage
from rankviz.jobs.remote import Remote, RemoteJob
from rankviz.settings import RAY_RESOURCES

CALL_SECONDS = 30.0
ARGUMENTS = {"GPU": "entrypoint_num_gpus", "CPU": "entrypoint_num_cpus", "memory": "entrypoint_memory"}
"""Arguments of submit_job, by resource, for resources that have their own argument."""
NOT_INSTALLED = (
    "Ray is not installed here. For RANKVIZ_RAY_ADDRESS, run pip install '.[ray]' in the RankViz folder, or pip "
    "install ray."
)
NO_ADDRESS = (
    "No Ray cluster is set up here. Set RANKVIZ_RAY_ADDRESS to the address of its dashboard, such as "
    "http://10.0.0.1:8265, and start RankViz again."
)
NO_STORAGE = (
    "Ray has no storage here. Set RANKVIZ_RAY_STORAGE to a folder or URI that this machine and all nodes of the "
    "cluster see, such as /shared/rankviz or s3://bucket/rankviz."
)
STOPPED_THERE = "The job was stopped in Ray."
NEVER_PLACED = "failed to start within"
"""Part of Ray's message for a job that waited too long for a node, and so never began."""
NOT_FOUND = "status code 404"
NOT_CONNECTED = re.compile("Failed to connect to Ray|NewConnectionError|NameResolutionError|ConnectTimeoutError")
"""Messages of Ray's client, and urllib3's names in them, on errors before anything was sent."""


@dataclass(eq=False)
class Ray(Remote):
    """Engine for jobs of an existing cluster."""

    _: KW_ONLY
    address: str = ""
    """URL of the cluster's dashboard."""
    storage: str = ""
    """A folder, or a URI of fsspec, that this machine and all nodes can access."""
    resources: Mapping[str, float] = field(default_factory=lambda: RAY_RESOURCES)
    """Resources of one job, by Ray's names."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that a node must have to get a job."""
    sees_folders: bool = False
    """True where nodes see the folders of this machine under the same paths."""
    given_up_seconds: float = 120.0

    name = RAY
    divides = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.has_gpu = "GPU" in self.resources
        self._client: Any = None
        self._lock = threading.Lock()

    @property
    def title(self) -> str:
        return f"Ray cluster {urlsplit(self.address).netloc}".strip()

    @property
    def about(self) -> str:
        each = ", ".join(f"{name} {amount:g}" for name, amount in self.resources.items())
        labels = "".join(f", on a node with {name}={value}" for name, value in self.labels.items())
        sent = "" if self.sees_folders else " The base must be the embedded one or come from the Hub."
        return f"The runs are sent to nodes of this cluster ({each} per worker{labels}), with their data.{sent}"

    def why_not(self) -> str:
        if not self.address:
            return NO_ADDRESS
        if not installed.has("ray", "aiohttp"):
            return NOT_INSTALLED
        return "" if self.storage else NO_STORAGE

    def send(self, job: RemoteJob) -> None:
        with self._storage(job, "in") as storage:
            for file in files_in(job.folder):
                storage.write(file.relative_to(job.folder).as_posix(), file)

    def submit(self, job: RemoteJob) -> str:
        client, handle = self._connected(), self._submission_id(job)
        given = {n: int(v) if n == "memory" else v for n, v in self.resources.items() if n in ARGUMENTS}
        command = ["python", "-m", "rankviz.jobs.inside", *(f"{self._folder(job)}/{part}" for part in ("in", "out"))]
        try:
            client.submit_job(
                entrypoint=shlex.join([*command, *self.worker]),
                submission_id=handle,
                runtime_env={"env_vars": {"PYTHONUNBUFFERED": "1"}},
                metadata={"rankviz": job.name},
                entrypoint_resources={k: v for k, v in self.resources.items() if k not in ARGUMENTS} or None,
                entrypoint_label_selector=self.labels or None,
                **{ARGUMENTS[name]: amount for name, amount in given.items()},
            )
        except Exception as error:
            if re.search(r"status code 4\d\d|Invalid|must be", str(error)) and NOT_FOUND not in str(error):
                raise EngineError(f"Ray does not take the job: {in_a_line(error, 500)}") from error
            raise self._unreached(error) from error
        return handle

    def poll(self, job: RemoteJob) -> Live | None:
        client, handle = self._connected(), self._submission_id(job)
        try:
            details = client.get_job_info(handle)
        except Exception as error:
            if NOT_FOUND in str(error):
                return None
            raise self._unreached(error) from error
        state, message = str(details.status), in_a_line(details.message or "", 500)
        return Live(
            job=job.job,
            handle=handle,
            where=urlsplit(details.driver_agent_http_address or "").hostname or (details.driver_node_id or "")[:8],
            waits=f"Ray has not started the job yet: {message}" if state == "PENDING" else "",
            end=end_of(state, details.driver_exit_code, message),
        )

    def read(self, job: RemoteJob, path: str, offset: int, most: int) -> bytes:
        with self._storage(job, "out") as storage:
            return storage.read(path, offset, most)

    def cancel_job(self, job: RemoteJob) -> None:
        client = self._connected()
        try:
            client.stop_job(self._submission_id(job))
        except Exception as error:
            raise self._unreached(error) from error

    def unsend(self, job: RemoteJob) -> None:
        Storage(self._folder(job)).remove()

    def _connected(self) -> Any:
        """Return a client; raise EngineDeclinedError (nothing was submitted) where the cluster cannot be reached."""
        from ray.job_submission import JobSubmissionClient

        class Client(JobSubmissionClient):
            """Client with a time limit per request; Ray's own has none (seen with Ray 2.60)."""

            def _do_request(self, *given: Any, **named: Any) -> Any:
                return super()._do_request(*given, **{"timeout": CALL_SECONDS, **named})

        with self._lock:
            if self._client is None:
                try:
                    self._client = Client(self.address)
                except Exception as error:
                    raise EngineDeclinedError(str(self._unreached(error))) from error
            return self._client

    def _folder(self, job: RemoteJob) -> str:
        return f"{self.storage.rstrip('/')}/{self._submission_id(job)}"

    def _submission_id(self, job: RemoteJob) -> str:
        """Return the job's id in Ray, which Ray accepts only once."""
        return f"rankviz-{self.home_id}-{re.sub(r'[^A-Za-z0-9_-]', '_', job.name)}"

    def _unreached(self, error: Exception) -> EngineUnavailableError:
        """Return the error of a call that had no answer; EngineDeclinedError where the cluster has not got the call."""
        text = in_a_line(error, 500)
        why = f"Does its head run, with a dashboard (pip install 'ray[default]')? {text}"
        if "token" in text.lower() or "Unauthenticated" in text:
            why = "It wants its token: set RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN as on its nodes."
        kind = EngineDeclinedError if NOT_CONNECTED.search(text) else EngineUnavailableError
        return kind(f"The Ray cluster at {self.address} cannot be reached. {why}")

    @contextlib.contextmanager
    def _storage(self, job: RemoteJob, part: str) -> Iterator[Storage]:
        try:
            yield Storage(f"{self._folder(job)}/{part}")
        except Exception as error:  # each file system has errors of its own
            why = f"The storage of Ray (RANKVIZ_RAY_STORAGE) cannot be used: {in_a_line(error, 500)}"
            raise EngineUnavailableError(why) from error


def end_of(state: str, exit_code: int | None, message: str) -> End | None:
    """Return a job's end, from Ray's state and message and the exit code of jobs.inside; None while it goes on."""
    if state == "STOPPED":
        return End(why=STOPPED_THERE)
    if state not in ("SUCCEEDED", "FAILED"):
        return None
    if state == "SUCCEEDED" or exit_code is not None:
        return local.end_by(local.from_shell(exit_code or 0))
    if NEVER_PLACED in message:
        return End(by_us=True, why=message)
    return End(lost=True, why=f"Ray lost the job: {message}"[:500])
