"""The interface of an engine, which runs jobs somewhere, returns their journals and reports whether they still run.

A job is one base with its runs, one attempt of each, in one worker; or one probe. The worker is the same program
everywhere (`python -m rankviz.worker finetune HOME RUN_ID@ATTEMPT ...`) and does not know the engine. A run's journal
decides the run's state; the engine only reports whether the worker may still write to the journal.

To add an engine that runs jobs elsewhere: a `Remote` (remote.py), its place in `engines`, and in the fixture of
tests/jobs/test_contract.py. Train, the command line and the endpoints then offer it.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from rankviz.core.runs.events import HF_JOBS, LOCAL, RAY, SLURM, Attempt
from rankviz.errors import InvalidSettingError, quoted
from rankviz.store import RunStore

if TYPE_CHECKING:
    from rankviz.settings import Settings

Kind = Literal["finetune", "probe"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job: runs that one worker process trains one after the other, or one probe."""

    attempts: tuple[Attempt, ...]
    """Attempts in the order in which the worker runs them."""
    kind: Kind = "finetune"
    owner: str = ""
    """Id of the visitor who owns the runs; empty for the owner of the server."""
    sweep_id: str = ""
    engine: str = ""
    """Name of the engine that the runs ask for; empty for the default one."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of the job's engine, by name: {"flavor": "l4x1"}."""

    @property
    def name(self) -> str:
        """Unique name of the job: RUN_ID-aATTEMPT of its first attempt, since each attempt is in one job only."""
        return str(self.attempts[0]).replace("@", "-a") if self.attempts else ""

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(attempt.run_id for attempt in self.attempts)


class End(NamedTuple):
    """End of a job, as its engine reports it."""

    exit_code: int | None = None
    lost: bool = False
    """True where the machine failed and not the run: a lost node, a killed worker. The run is then tried again."""
    why: str = ""
    """Reason for the end: a sentence for the owner of the runs."""
    is_final: bool = False
    """True where the job's runs that have not begun fail too, instead of going to another job."""
    by_us: bool = False
    """True where RankViz ended the job. Unfinished runs are queued again, without counting a lost attempt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Live:
    """State of a started job, as its engine last saw it."""

    job: Job
    handle: str = ""
    """Id of the job on the engine, such as a process id. The engine finds the job by this id after a restart."""
    where: str = ""
    """Place of the job for display: "GPU 1", "node-3"; at most 200 characters, empty while not known."""
    waits: str = ""
    """Reason why the job has not begun, as a sentence; empty once its worker runs."""
    end: End | None = None
    """End of the job; None while its worker runs or may still start."""
    seconds: float | None = None
    """Billed seconds so far; None where not known, or where machines cost nothing."""


class Engine(Protocol):
    """A place where jobs run.

    One supervisor calls an engine, from one thread, several times a second: an engine that needs the network calls it
    in threads and caches the answers. Any method may raise EngineUnavailableError where the place cannot be reached;
    the supervisor then leaves the engine's jobs as they are.
    """

    name: str
    """Name in `--engine NAME` and RANKVIZ_ENGINE."""
    shares_disk: bool
    """True where the engine's workers write into the store's own run folders. Otherwise the engine copies journals and
    files of a job into them, completely before it reports the job's end."""
    is_limited: bool = True
    """True where the server's time limit per run applies; False where the owner of the runs pays."""
    sees_folders: bool = True
    """True where workers see the folders of this machine under the same paths."""
    divides: bool = False
    """True where a sweep is divided into jobs that run at the same time; False where each job costs money."""
    about: str = ""
    """Description of the engine and its needs in one or two sentences, for people who choose where to train."""
    gpu_models: Sequence[str] = ()
    """GPU models of an engine elsewhere, as names in the table of GPUs begin: "L4", "A100"."""
    has_gpu: bool = False
    """True where each job of an engine elsewhere gets a GPU; False where it gets none or where this is not known."""

    @property
    def title(self) -> str:
        """Display name of the engine: "This machine", "Ray cluster 10.0.0.1:8265"."""
        return self.name

    def why_not(self) -> str:
        """Return why this server cannot use the engine and how its owner can change that; empty where the engine is
        set up. Checks settings and installed packages only."""
        return ""

    def room(self) -> int:
        """Return how many more jobs the engine would start now."""
        ...

    def start(self, job: Job) -> Live | None:
        """Start a job and return it; None where the start must wait a moment. Starting the same job twice starts it
        once. `live` lists a started job, also after a restart.

        Raises EngineUnavailableError where the job must wait, with the reason; EngineError, or OSError for a missing
        file, where the job cannot start, so that its runs fail; another OSError where the start is tried again.
        """
        ...

    def live(self) -> Sequence[Live]:
        """Return every job that was started and not forgotten, ended jobs included."""
        ...

    def cancel(self, live: Live) -> End | None:
        """Cancel a job: end all its processes. Return its end, or None: then call this again."""
        ...

    def forget(self, live: Live) -> None:
        """Remove an ended job's folder and the engine's record of it, after all its files were read."""

    def release(self) -> None:
        """Drop all state in memory, since another supervisor may take over. Jobs go on."""


KNOWN = (LOCAL, HF_JOBS, RAY, SLURM)


def require(name: str, known: Collection[str] = KNOWN) -> str:
    """Return `name` where an engine has this name; raise InvalidSettingError otherwise."""
    if name not in known:
        raise InvalidSettingError(f"There is no engine {quoted(name)}. Known: {', '.join(known)}.")
    return name


def engines(store: RunStore, settings: "Settings") -> Sequence[Engine]:
    """Return all engines, the default one first. An engine that is not set up here reports this when it is used."""
    from rankviz.jobs.hf_jobs import HfJobs
    from rankviz.jobs.hub import Logins
    from rankviz.jobs.local import Local
    from rankviz.jobs.ray import Ray
    from rankviz.jobs.slurm import Slurm
    from rankviz.machine import memory_bytes

    def chosen(prefix: str, *names: str) -> dict:
        return {name: getattr(settings, f"{prefix}_{name}") for name in names}

    first, limits = require(settings.engine), settings.limits
    for name, value in (("RANKVIZ_RAY_ADDRESS", settings.ray_address), ("RANKVIZ_RAY_STORAGE", settings.ray_storage)):
        if first == RAY and not value:
            raise InvalidSettingError(f"RANKVIZ_ENGINE is ray, so {name} must be set.")
    percent, logins = settings.limits.worker_memory_percent, Logins(of_machine=not settings.shared)
    most = math.inf if percent is None else memory_bytes() * percent / 100
    with_slurm = bool(settings.slurm_partition) or first == SLURM
    ray = chosen("ray", "address", "resources", "labels", "storage")
    made = [
        Local(store.home, most_gpus=settings.gpus, niceness=settings.niceness, memory_bytes=most),
        HfJobs(store, logins, limits=limits, **chosen("jobs", "image", "spend", "flavor")),
        Ray(store, sees_folders=settings.ray_same_folders, limits=limits, **ray),
        Slurm(store, is_set_up=with_slurm, **chosen("slurm", "partition", "options", "python")),
    ]
    return sorted(made, key=lambda engine: engine.name != first)
