"""What the one remote of all engines asks of the place where jobs run: five methods, and the types that they pass."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from rankviz.engines import bundle
from rankviz.engines.engine import End, Job
from rankviz.store.durable import replace_durably

SUBMISSION = "submission.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """What is known of a job elsewhere, as its folder has it."""

    submitted: bool = False
    """Whether the cluster may have the job. From then on it is never submitted again."""
    handle: str = ""
    """The cluster's id of it; empty until that is known."""
    cancelled: bool = False
    """Whether RankViz has cancelled it."""
    end: End | None = None


@dataclass(slots=True)
class RemoteJob:
    """A job as a cluster is given it."""

    folder: Path
    job: Job
    submission: Submission
    asked_at: float = -math.inf
    """When it was submitted or cancelled last, by time.monotonic: an answer asked for earlier does not count."""

    @property
    def name(self) -> str:
        """By which it is found again where its handle is not known."""
        return self.folder.name

    @property
    def handle(self) -> str:
        return self.submission.handle


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """How a cluster describes a job."""

    handle: str
    where: str = ""
    waits: str = ""
    """Why it does not run, as a sentence; empty while it runs."""
    end: End | None = None
    was_cancelled: bool = False
    """Whether it ended because somebody cancelled it."""
    is_ending: bool = False
    """Whether it was told to end already."""


class Cluster(Protocol):
    """Where jobs run. Each method may take minutes and is called from several threads.

    EngineUnavailableError from any of them: it is tried again later.
    """

    shares_folder: bool = False
    """Whether jobs run in the folder itself, which the nodes see. Then `read` is not called."""

    def submit(self, job: RemoteJob) -> str:
        """Submit a job and return its handle. EngineDeclinedError: not now, and nothing was done. EngineError: never.
        Another EngineUnavailableError: the answer was lost, and `poll` finds out."""
        ...

    def poll(self, job: RemoteJob) -> Status | None:
        """Describe a job, found by its handle, or by its name where that is empty; None where there is none."""
        ...

    def read(self, job: RemoteJob, path: str, offset: int, most: int) -> bytes:
        """Return at most so many bytes of a file that the job wrote, from an offset on; none where it is not there."""
        ...

    def cancel(self, job: RemoteJob) -> None:
        """Ask for the end of a job, by its handle, or by its name where that is empty."""
        ...

    def why_not(self) -> str:
        """Return why it cannot be used, with what to do; empty where it can. Only looks at settings and packages."""
        ...

    def forget(self, job: RemoteJob) -> None:
        """Remove what the cluster was sent for a job that nobody reads any more, where it was sent something."""


def read_submission(folder: Path) -> Submission:
    """What is known of a job elsewhere; of one whose file is damaged, that it may have been submitted. OSError where
    it may be read later."""
    try:
        content = bundle.read_json(folder / SUBMISSION)
        end = content.get("end")
        return Submission(
            submitted=content["submitted"] is not False,
            handle=content["handle"] if isinstance(content["handle"], str) else "",
            cancelled=content.get("cancelled") is True,
            end=End(**end) if end else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Submission(submitted=True)


def write_submission(folder: Path, submission: Submission) -> None:
    """Keep it in the folder of the job. OSError."""
    content = asdict(submission) | {"end": submission.end._asdict() if submission.end else None}
    replace_durably(folder / SUBMISSION, json.dumps(content))
