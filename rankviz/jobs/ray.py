"""Ray: one Ray job per RankViz job, through the Jobs API of an existing cluster.

The page sends HTTP to the dashboard of the cluster's head and needs no other port. The packed job goes to a storage
that all nodes can access, and journals and adapters come back there (rankviz.jobs.inside). Ray retries nothing: the
supervisor tries a run again whose node was lost.
"""

import contextlib
import re
import shlex
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from rankviz import installed
from rankviz.core.runs.events import RAY
from rankviz.errors import EngineDeclinedError, EngineError, EngineUnavailableError, redacted
from rankviz.jobs import local
from rankviz.jobs.engine import End, Nodes
from rankviz.jobs.inside import Storage
from rankviz.jobs.remote import OWN_LIMITS, JobLimits, Remote, RemoteJob, Status
from rankviz.settings import RAY_RESOURCES
from rankviz.store import RunStore

AT_ONCE, CALL_SECONDS, GIVEN_UP_SECONDS = 8, 30.0, 120.0
ARGUMENTS = {"GPU": "entrypoint_num_gpus", "CPU": "entrypoint_num_cpus", "memory": "entrypoint_memory"}
"""Arguments of submit_job, by resource, for resources that have their own argument."""
NO_LABELS: Mapping[str, str] = MappingProxyType({})
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


class Ray(Remote):
    """Engine for jobs of an existing cluster.

    Args:
        sees_folders: True where nodes see the folders of this machine under the same paths.
        at_once: Number of jobs in Ray at most, waiting jobs included.
        given_up_seconds: Seconds without an answer of the cluster after which a cancelled job is left to it.
        address: URL of the cluster's dashboard.
        storage: A folder, or a URI of fsspec, that this machine and all nodes can access.
        resources: Resources of one job, by Ray's names.
        labels: Labels that a node must have.
        worker: Command that replaces the real worker in tests.
    """

    name = RAY
    divides = True

    def __init__(
        self,
        store: RunStore,
        *,
        address: str = "",
        storage: str = "",
        resources: Mapping[str, float] = RAY_RESOURCES,
        labels: Mapping[str, str] = NO_LABELS,
        sees_folders: bool = False,
        at_once: int = AT_ONCE,
        given_up_seconds: float = GIVEN_UP_SECONDS,
        poll_seconds: float = 2.0,
        limits: JobLimits = OWN_LIMITS,
        worker: Sequence[str] = (),
    ):
        self.sees_folders, self._address, self._storage = sees_folders, address, storage
        self._resources, self._labels, self._worker = dict(resources), dict(labels), tuple(worker)
        seconds = {"poll_seconds": poll_seconds, "given_up_seconds": given_up_seconds}
        super().__init__(store, at_once=at_once, limits=limits, **seconds)
        self._client: Any = None
        self._lock = threading.Lock()

    @property
    def title(self) -> str:
        return f"Ray cluster {urlsplit(self._address).netloc}".strip()

    @property
    def about(self) -> str:
        each = ", ".join(f"{name} {amount:g}" for name, amount in self._resources.items())
        labels = "".join(f", on a node with {name}={value}" for name, value in self._labels.items())
        sent = "" if self.sees_folders else " The base must be the embedded one or come from the Hub."
        return f"The runs are sent to nodes of this cluster ({each} per worker{labels}), with their data.{sent}"

    def why_not(self) -> str:
        if not self._address:
            return NO_ADDRESS
        if not installed.has("ray", "aiohttp"):
            return NOT_INSTALLED
        return "" if self._storage else NO_STORAGE

    def send(self, job: RemoteJob) -> None:
        with self._storing():
            Storage(f"{self._folder(job)}/in").write_all(job.folder)

    def submit(self, job: RemoteJob) -> str:
        client, handle = self._connected(), self._submission_id(job)
        given = {ARGUMENTS[name]: amount for name, amount in self._resources.items() if name in ARGUMENTS}
        if "entrypoint_memory" in given:
            given["entrypoint_memory"] = int(given["entrypoint_memory"])
        command = ["python", "-m", "rankviz.jobs.inside", *(f"{self._folder(job)}/{part}" for part in ("in", "out"))]
        try:
            client.submit_job(
                entrypoint=shlex.join([*command, *self._worker]),
                submission_id=handle,
                runtime_env={"env_vars": {"PYTHONUNBUFFERED": "1"}},
                metadata={"rankviz": job.name},
                entrypoint_resources={k: v for k, v in self._resources.items() if k not in ARGUMENTS} or None,
                entrypoint_label_selector=self._labels or None,
                **given,
            )
        except Exception as error:
            if re.search(r"status code 4\d\d|Invalid|must be", str(error)) and NOT_FOUND not in str(error):
                raise EngineError(f"Ray does not take the job: {_in_a_line(error)}") from error
            raise self._unreached(error) from error
        return handle

    def poll(self, job: RemoteJob) -> Status | None:
        client, handle = self._connected(), self._submission_id(job)
        try:
            details = client.get_job_info(handle)
        except Exception as error:
            if NOT_FOUND in str(error):
                return None
            raise self._unreached(error) from error
        state, message = str(details.status), _in_a_line(details.message or "")
        return Status(
            handle=handle,
            where=urlsplit(details.driver_agent_http_address or "").hostname or (details.driver_node_id or "")[:8],
            waits=f"Ray has not started the job yet: {message}" if state == "PENDING" else "",
            end=end_of(state, details.driver_exit_code, message),
            was_cancelled=state == "STOPPED",
        )

    def read(self, job: RemoteJob, path: str, offset: int, most: int) -> bytes:
        with self._storing():
            return Storage(f"{self._folder(job)}/out").read(path, offset, most)

    def end(self, job: RemoteJob) -> None:
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
                    self._client = Client(self._address)
                except Exception as error:
                    raise EngineDeclinedError(str(self._unreached(error))) from error
            return self._client

    def _folder(self, job: RemoteJob) -> str:
        return f"{self._storage.rstrip('/')}/{self._submission_id(job)}"

    def _submission_id(self, job: RemoteJob) -> str:
        """Return the job's id in Ray, which Ray accepts only once."""
        return f"rankviz-{self.home_id}-{re.sub(r'[^A-Za-z0-9_-]', '_', job.name)}"

    def _unreached(self, error: Exception) -> EngineUnavailableError:
        text = _in_a_line(error)
        why = f"Does its head run, with a dashboard (pip install 'ray[default]')? {text}"
        if "token" in text.lower() or "Unauthenticated" in text:
            why = "It wants its token: set RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN as on its nodes."
        return EngineUnavailableError(f"The Ray cluster at {self._address} cannot be reached. {why}")

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each file system has errors of its own
            why = f"The storage of Ray (RANKVIZ_RAY_STORAGE) cannot be used: {_in_a_line(error)}"
            raise EngineUnavailableError(why) from error

    def nodes(self) -> Nodes:
        return Nodes(has_gpu="GPU" in self._resources)

    def room(self) -> int:
        """Return 1 where Ray is not set up: `start` then says why."""
        return 1 if self.why_not() else super().room()


def end_of(state: str, exit_code: int | None, message: str) -> End | None:
    """Return a job's end, from Ray's state and message and the exit code of jobs.inside; None while it goes on."""
    if state == "STOPPED":
        return End(why=STOPPED_THERE)
    if state not in ("SUCCEEDED", "FAILED"):
        return None
    if state == "SUCCEEDED" or exit_code is not None:
        code = local.from_shell(exit_code or 0)
        return End(code, local.is_lost(code), local.describe_exit(code))
    if NEVER_PLACED in message:
        return End(by_us=True, why=message)
    return End(lost=True, why=f"Ray lost the job: {message}"[:500])


def _in_a_line(error: Exception | str) -> str:
    return redacted(" ".join(str(error).split()))[:500]
