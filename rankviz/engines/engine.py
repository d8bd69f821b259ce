"""What an engine is: it runs jobs somewhere, and says what they wrote and whether they live.

A job is one base with its runs, one attempt of each, in one worker; or one probe. The worker is the same program
everywhere (`python -m rankviz.worker finetune HOME RUN_ID@ATTEMPT ...`) and knows no engine. What happened to a run
is decided by its journal, never by an engine: an engine's word on a job only says whether somebody still writes.

To add an engine: a class with this interface in a file of its own, a line in engines/known.py, and its place in the
fixture of tests/engines/test_contract.py. Train, the command line and the endpoints offer it as soon as it is set up.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from rankviz.core.runs.events import Attempt

Kind = Literal["finetune", "probe"]
"""A command of the worker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What an engine is given."""

    attempts: tuple[Attempt, ...]
    """In the order they are to run."""
    kind: Kind = "finetune"
    owner: str = ""
    """Whose runs they are: a visitor's id; empty: the host's."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Of this engine, as whoever queued the runs chose them: {"flavor": "l4x1"}."""

    @property
    def name(self) -> str:
        """One job's alone: no attempt is given to two."""
        return str(self.attempts[0]) if self.attempts else ""


class End(NamedTuple):
    """How a job ended, as far as its engine knows."""

    exit_code: int | None = None
    """None where it is not known."""
    lost: bool = False
    """Whether the place failed and not the run: a node that has gone, a worker that was killed. Such a run is tried
    again."""
    why: str = ""
    """A sentence for whoever started the runs."""
    gave_way: bool = False
    """Whether it ended between two runs since it was asked to."""
    is_final: bool = False
    """Whether the runs of the job that have not begun fail with this too, and do not go to another job."""
    by_us: bool = False
    """Whether RankViz has ended it: what it had begun and is still wanted begins anew, and that is no loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Live:
    """A job that an engine has."""

    job: Job
    handle: str
    """What the engine calls it: a process id, a job id. With it the engine finds the job again after a restart."""
    where: str = ""
    """For people: "GPU 1", "node-3"; at most 200 characters, and empty while it is not known."""
    waits: str = ""
    """Why it has not begun, as a sentence; empty once its worker runs."""
    end: End | None = None
    """None while its worker lives or may still come to life."""


class Nodes(NamedTuple):
    """What an engine has for its jobs elsewhere, as far as it can be seen now."""

    gpus: Sequence[str] = ()
    """Models, as a table of GPUs begins their names: "L4", "A100"."""
    has_gpu: bool = False
    """Whether each job has a GPU there; False also where that is not known."""
    trouble: str = ""
    """Why no job would start there now, as a sentence."""


class Engine(Protocol):
    """Where jobs run.

    Called by one supervisor, from one thread at a time, some times a second: what asks a network keeps its answer for a
    while. Any method may raise EngineUnavailableError where the place cannot be reached: then nothing is decided of its
    jobs until it can be. An error that is not named below counts as that too, is logged with its traceback, and keeps
    no other engine's jobs waiting. A class that inherits from this one has the methods below with a body.
    """

    name: str
    """As in `--engine NAME` and RANKVIZ_ENGINE."""
    shares_disk: bool
    """Whether its workers write into the store's own run folders. Then nothing is brought back, and `begin` is taken by
    worker and supervisor from the same folder."""
    is_limited: bool = True
    """Whether the server's time limit of a run holds there. False where the owner of the runs pays for the place."""
    sees_folders: bool = True
    """Whether its workers see the folders of this machine under the same paths."""
    divides: bool = False
    """Whether a sweep is divided among its free places. False where a place costs money, and loading the base in each
    would too."""

    about: str = ""
    """What happens there and what that needs, in a sentence or two, for whoever chooses where to train."""

    @property
    def title(self) -> str:
        """What that choice is called: "This machine", "Ray cluster 10.0.0.1:8265"."""
        return self.name

    def why_not(self) -> str:
        """Why this server cannot use it, and what its owner does to change that, as a sentence; empty where it is set
        up. It only looks at settings and at what is installed, and costs nothing."""
        return ""

    def nodes(self) -> Nodes:
        """What it has elsewhere. May take some seconds, and keeps its answer for a while."""
        return Nodes()

    def room(self) -> int:
        """How many more jobs it would start now."""
        ...

    def sound_room(self) -> int:
        """How many of those would start where none was lost lately: runs that were lost wait for such a place. All
        of them where no place of the engine is so, or it cannot tell."""
        return self.room()

    def start(self, job: Job) -> Live | None:
        """Start a job. None where that has to wait a moment; EngineUnavailableError where it waits for something that
        its owner should know of, and then the others' jobs are tried. EngineError, or OSError of a file that is not
        there (errors.OF_NAMES): it cannot be started at all, and why: its runs fail with that. Any other OSError: it is
        tried again.

        Where the disk is not shared, the journals hold an AttemptPlaced of each attempt already. A job that has started
        is among `live` from then on, also after a restart of the app. Starting the same name twice starts one.
        """
        ...

    def live(self) -> Sequence[Live]:
        """Every job of this home that was started, by whomever, and not forgotten: those that have ended too."""
        ...

    def cancel(self, live: Live, unless: Callable[[], bool] = lambda: False) -> End | None:
        """End a job with every process it started, and return once they are gone. None, and nothing is ended, where
        `unless` is true; an engine that can, stops the job first, so that what its journal says stays true meanwhile.
        A remote engine calls `unless` after it has read the newest events, and lets EngineEndingError of it through:
        what it is to judge by cannot be read now. EngineEndingError where all that takes a while: it goes on, and this
        is called again."""
        ...

    def events(self, live: Live, attempt: Attempt, offset: int) -> bytes:
        """What this attempt's own journal holds from a byte offset on; its last line may be unfinished."""
        return b""

    def collect(self, live: Live, attempt: Attempt, folder: Path) -> None:
        """Bring what an attempt left beside its journal (adapter/, cuts/, worker.log) into the run's folder. Called
        once its journal ends, before that counts; and without an end, for the log. EngineError where it is not there.
        """

    def give_way(self, live: Live) -> None:
        """Ask the job to end before its next run, since somebody else waits."""

    def forget(self, live: Live) -> None:
        """All of an ended job has been read: what is left of it there may go. Its end says what it was taken for."""

    def release(self) -> None:
        """This supervisor stops, and its jobs go on: keep nothing in memory that another may change."""
