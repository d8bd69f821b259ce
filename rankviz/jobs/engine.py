"""The interface of an engine: it runs jobs somewhere, and says what they wrote and whether they live.

A job is one base with its runs, one attempt of each, in one worker; or one probe. The worker is the same program
everywhere (`python -m rankviz.worker finetune HOME RUN_ID@ATTEMPT ...`) and knows no engine. A run's journal decides
what happened to the run; its engine only says whether somebody still writes.

To add an engine that runs jobs elsewhere: a `Remote` (remote.py), a line in known.py, and its place in the fixture of
tests/jobs/test_contract.py. Train, the command line and the endpoints then offer it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from rankviz.core.runs.events import Attempt

Kind = Literal["finetune", "probe"]
"""A command of the worker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Runs for one worker."""

    attempts: tuple[Attempt, ...]
    """In the order in which they run."""
    kind: Kind = "finetune"
    owner: str = ""
    """The visitor whose runs they are; empty: the owner of the server."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of its engine: {"flavor": "l4x1"}."""

    @property
    def name(self) -> str:
        """A name that no other job has: each attempt is in one job."""
        return str(self.attempts[0]) if self.attempts else ""


class End(NamedTuple):
    """How a job ended, as far as its engine knows."""

    exit_code: int | None = None
    lost: bool = False
    """Whether the place failed and not the run: a node that has gone, a worker that was killed. Then the run is tried
    again."""
    why: str = ""
    """A sentence for the owner of the runs."""
    is_final: bool = False
    """Whether runs of the job that have not begun fail with it too, instead of going to another job."""
    by_us: bool = False
    """Whether RankViz ended it. Runs in the middle are queued again, and that is no lost attempt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Live:
    """A job that an engine has."""

    job: Job
    handle: str
    """The engine's id of it, such as a process id. The engine finds the job by it after a restart."""
    where: str = ""
    """For people: "GPU 1", "node-3"; at most 200 characters, empty while not known."""
    waits: str = ""
    """Why it has not begun, as a sentence; empty once its worker runs."""
    end: End | None = None
    """None while its worker lives or may come to life."""


class Nodes(NamedTuple):
    """The machines that an engine has for its jobs, as far as it can see them now."""

    gpus: Sequence[str] = ()
    """Models, as names in the table of GPUs begin: "L4", "A100"."""
    has_gpu: bool = False
    """Whether each job gets a GPU; False also where that is not known."""
    trouble: str = ""
    """Why no job would start now, as a sentence."""


class Engine(Protocol):
    """Where jobs run.

    One supervisor calls it, from one thread, some times a second: an engine that asks a network does so in threads and
    keeps the answers. Any method may raise EngineUnavailableError where the place cannot be reached; then nothing is
    decided of its jobs. An unexpected error counts as that too, and is logged with its traceback.
    """

    name: str
    """As in `--engine NAME` and RANKVIZ_ENGINE."""
    shares_disk: bool
    """Whether its workers write into the store's own run folders."""
    is_limited: bool = True
    """Whether the server's time limit of a run holds there; not where the owner of the runs pays."""
    sees_folders: bool = True
    """Whether its workers see the folders of this machine under the same paths."""
    divides: bool = False
    """Whether a sweep is divided among its free places; not where a place costs money."""
    about: str = ""
    """What happens there and what it needs, in a sentence or two, for people who choose where to train."""

    @property
    def title(self) -> str:
        """The name of the choice: "This machine", "Ray cluster 10.0.0.1:8265"."""
        return self.name

    def why_not(self) -> str:
        """Return why this server cannot use it and what its owner does about that; empty where it is set up. Looks at
        settings and installed packages only."""
        return ""

    def nodes(self) -> Nodes:
        """Return what it has elsewhere. May take seconds."""
        return Nodes()

    def room(self) -> int:
        """Return how many more jobs it would start now."""
        ...

    def start(self, job: Job) -> Live | None:
        """Start a job; None where that has to wait a moment. The same job twice starts once. From then on the job is
        among `live`, also after a restart.

        EngineUnavailableError: it waits, for the reason given. EngineError, or OSError of a file that is not there:
        it cannot start, and its runs fail with that. Another OSError: it is tried again.
        """
        ...

    def live(self) -> Sequence[Live]:
        """Return every job that was started and not forgotten, also those that have ended."""
        ...

    def cancel(self, live: Live) -> End | None:
        """End a job with every process it started. None where it has not ended yet: it goes on ending, and this is
        called again."""
        ...

    def events(self, live: Live, attempt: Attempt, offset: int) -> bytes:
        """Return an attempt's own journal from a byte offset on; its last line may be unfinished."""
        return b""

    def collect(self, live: Live, attempt: Attempt, folder: Path) -> None:
        """Copy what an attempt left beside its journal (adapter/, cuts/, worker.log) into the run's folder.
        EngineError where it is not there."""

    def forget(self, live: Live) -> None:
        """Remove what is left of an ended job, all of which has been read."""

    def release(self) -> None:
        """Keep nothing in memory: another supervisor may take over. Jobs go on."""
