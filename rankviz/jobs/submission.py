"""What is known of a job elsewhere: what was asked for it, how it stands, and the most that is accepted from it."""

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
"""Bytes of an event where there are many."""


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
    seconds: float | None = None
    """Billed so far, where the place is paid for."""
    seconds_at: float = 0.0
    """When that was seen, unix seconds."""
    terms: Mapping[str, Any] = field(default_factory=dict)
    """What its engine has agreed on for it, such as a machine and its price."""


@dataclass(slots=True)
class RemoteJob:
    """A job as an engine is given it."""

    folder: Path
    job: Job
    submission: Submission
    asked_at: float = -math.inf
    """When it was submitted or cancelled last, by time.monotonic: an answer asked for earlier does not count."""
    is_unwanted: bool = False
    """Whether it is to be cancelled."""

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
    seconds: float | None = None
    """Billed so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobLimits:
    """The most that is accepted from one job: what it writes is its owner's, and nothing of it may be of any length."""

    journal_bytes: int
    journal_lines: int
    adapter_bytes: int
    """Of a run: its adapter and what it was truncated to."""
    job_bytes: int
    """Of the adapters of all runs."""

    @classmethod
    def of(cls, limits: Limits) -> "JobLimits":
        """As imports are limited. What an adapter is truncated to is together about its size again."""
        adapter = limits.adapter_mb * 10**6
        return cls(
            journal_bytes=max(limits.import_mb * 10**6, limits.events_per_run * EVENT_BYTES),
            journal_lines=limits.events_per_run,
            adapter_bytes=2 * adapter,
            job_bytes=10 * adapter,
        )

    def require(self, adapters: Sequence[int]) -> None:
        """Raise LimitError where the adapters of a job's runs, in bytes of each run, are more than is accepted."""
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
    """Return the id of a runs folder, which no copy of it elsewhere has.

    Args:
        file: Where a random part of it is kept; it is made once.
    """
    with contextlib.suppress(FileExistsError), file.open("x") as new:
        new.write(secrets.token_hex(8))
    return hashlib.sha256(f"{place} ".encode() + file.read_bytes()).hexdigest()[:12]


def in_thread(call: Callable[[], Any], name: str) -> Future[Any]:
    """Begin a call that may take minutes in a daemon thread: those of an executor keep a process from ending."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def read_submission(folder: Path) -> Submission:
    """Read what is known of a job elsewhere; of one whose file is missing or damaged, that it may have been submitted.
    OSError where it may be read later."""
    try:
        content = json.loads((folder / SUBMISSION).read_bytes())
        end = content["end"]
        known = {name: value for name, value in content.items() if name in Submission.__dataclass_fields__}
        return Submission(**known | {"end": End(**end) if end else None, "terms": dict(content["terms"])})
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Submission(submitted=True)


def write_submission(folder: Path, submission: Submission) -> None:
    """Keep it in the folder of the job, durably. OSError."""
    content = asdict(replace(submission, end=None)) | {"end": submission.end._asdict() if submission.end else None}
    replace_durably(folder / SUBMISSION, json.dumps(content))
