"""State of a job elsewhere: its submission, its status, and the limits for the files it returns."""

import contextlib
import hashlib
import json
import math
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rankviz import units
from rankviz.errors import LimitError
from rankviz.jobs.engine import End, Job
from rankviz.settings import Limits
from rankviz.store.durable import replace_durably

SUBMISSION = "submission.json"
EVENT_BYTES = 500
"""Bytes per event in a journal with many events."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """State of a job elsewhere, as stored in its folder."""

    submitted: bool = False
    """True where the cluster may have the job; it is then never submitted again."""
    handle: str = ""
    """The job's id on the cluster; empty until known."""
    cancelled: bool = False
    """True where RankViz has cancelled the job."""
    end: End | None = None
    seconds: float | None = None
    """Billed seconds so far, on machines that cost money; None where not known."""
    seconds_at: float = 0.0
    """Time at which `seconds` was read, unix seconds."""
    terms: Mapping[str, Any] = field(default_factory=dict)
    """Terms of the job, such as machine and price; set by its engine."""


@dataclass(slots=True)
class RemoteJob:
    """A job as passed to an engine's methods."""

    folder: Path
    job: Job
    submission: Submission
    asked_at: float = -math.inf
    """Time of the latest submission or cancellation, from time.monotonic: answers to earlier polls do not count."""
    is_unwanted: bool = False
    """True where the job is to be cancelled."""

    @property
    def name(self) -> str:
        """Name that finds the job on its cluster while its handle is not known."""
        return self.folder.name

    @property
    def handle(self) -> str:
        return self.submission.handle


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """Status of a job as its cluster reports it."""

    handle: str
    where: str = ""
    waits: str = ""
    """Reason why the job does not run, as a sentence; empty while it runs."""
    end: End | None = None
    was_cancelled: bool = False
    """True where the job ended because somebody cancelled it."""
    is_ending: bool = False
    """True where the job is already ending."""
    seconds: float | None = None
    """Billed seconds so far; None where not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobLimits:
    """Limits for the files of one job. The job's owner controls these files, so each size has a limit."""

    journal_bytes: int
    journal_lines: int
    adapter_bytes: int
    """Bytes of one run's adapter and its truncated copies together."""
    job_bytes: int
    """Bytes of the adapters of all runs."""

    @classmethod
    def of(cls, limits: Limits) -> "JobLimits":
        """Return limits from those of imports. All truncated adapters of a run are about as large as its adapter."""
        adapter = limits.adapter_mb * 10**6
        return cls(
            journal_bytes=max(limits.import_mb * 10**6, limits.events_per_run * EVENT_BYTES),
            journal_lines=limits.events_per_run,
            adapter_bytes=2 * adapter,
            job_bytes=10 * adapter,
        )

    def require(self, adapters: Sequence[int]) -> None:
        """Raise LimitError where the adapters, in bytes of each run, are larger than accepted."""
        for size, most, whose, advice in (
            (max(adapters), self.adapter_bytes, "run", "Choose a lower rank or fewer target modules."),
            (sum(adapters), self.job_bytes, "sweep", "Choose fewer or lower ranks, learning rates or seeds."),
        ):
            if size > most:
                raise LimitError(
                    f"The adapters of one {whose} take {units.file_size(size)}, and this server takes at most "
                    f"{units.file_size(most)} from a job. {advice}"
                )


OWN_LIMITS = JobLimits.of(Limits())


def home_id(file: Path, place: Path) -> str:
    """Return the id of a runs folder, which differs from the id of any copy of the folder at another place. file: File
    with the random part of the id, created at the first call. place: Path that is the other part of the id."""
    with contextlib.suppress(FileExistsError), file.open("x") as new:
        new.write(secrets.token_hex(8))
    return hashlib.sha256(f"{place} ".encode() + file.read_bytes()).hexdigest()[:12]


def in_thread(call: Callable[[], Any], name: str) -> Future[Any]:
    """Start a call that may take minutes in a daemon thread, which does not keep a process from ending."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def read_submission(folder: Path) -> Submission:
    """Read a job's submission; submitted=True without a valid file. Raise OSError where a retry may help."""
    try:
        content = json.loads((folder / SUBMISSION).read_bytes())
        end = content["end"]
        known = {name: value for name, value in content.items() if name in Submission.__dataclass_fields__}
        return Submission(**known | {"end": End(**end) if end else None, "terms": dict(content["terms"])})
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Submission(submitted=True)


def write_submission(folder: Path, submission: Submission) -> None:
    """Write the submission into the job's folder, durably; raise OSError where this fails."""
    content = asdict(replace(submission, end=None)) | {"end": submission.end._asdict() if submission.end else None}
    replace_durably(folder / SUBMISSION, json.dumps(content))
