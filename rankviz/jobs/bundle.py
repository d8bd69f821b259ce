"""A job packed as a folder that can be sent anywhere: a small runs folder with the job's runs and their data.

    job.json                        attempts, and state on the cluster
    runs/RUN_ID/request.json        its data is a sample, or a path inside this folder
    runs/RUN_ID/events.jsonl        its first line says which attempt this is; the worker appends
    data/DIGEST/FILE                training data

`python -m rankviz.worker finetune FOLDER RUN_ID@ATTEMPT ...` runs it, and leaves worker.log, adapter/ and cuts/ beside
the journals.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from rankviz.core.bounds import Between, Word
from rankviz.core.from_json import build
from rankviz.core.runs.events import Attempt, AttemptPlaced
from rankviz.errors import EngineError, EngineUnavailableError
from rankviz.jobs.engine import End, Job
from rankviz.references import References
from rankviz.store import RunStore
from rankviz.store.durable import digest_of, replace_durably
from rankviz.store.journal import append_events, request_text

JOB_FILE = "job.json"
FOLDER = re.compile(r"[^.].*-a[0-9]+")
"""Name of a job's folder: RUN_ID-aATTEMPT."""
MOST_USD = 10**6
"""Highest spending limit of a sweep, in US dollars."""


def pack(store: RunStore, job: Job, folder: Path, *, engine: str, sees_folders: bool = False) -> None:
    """Write a job into a new folder; raise EngineError where its base is a folder of this machine that the job cannot
    see, and UserError where the job's owner may not read a file that a request names. sees_folders: True where the job
    sees the folders of this machine under the same paths."""
    folder.mkdir(parents=True)
    sent: dict[Path, Path] = {}  # path in the folder of each data file that was copied, so that runs share one copy
    for attempt in job.attempts:
        record = store.get(attempt.run_id)
        request, target = record.request, folder / "runs" / attempt.run_id
        target.mkdir(parents=True)
        known = References.of_runs(store.home, store.ownership(request.run_id).owner)
        base, data = known.model(request.base), known.data(request.data).path
        if base.path and not sees_folders:
            raise EngineError(
                f"The base {base.path.name!r} is a folder of this machine, and weights are not sent: give a Hub id."
            )
        if data and data not in sent:
            aside = folder / "data" / secrets.token_hex(4)
            aside.parent.mkdir(exist_ok=True)
            shutil.copyfile(data, aside)
            sent[data] = Path("data") / digest_of(aside) / f"data{data.suffix}"
            (folder / sent[data]).parent.mkdir(exist_ok=True)
            os.replace(aside, folder / sent[data])
        request = replace(request, data=str(sent[data])) if data else request
        (target / "request.json").write_text(request_text(request), encoding="utf-8")
        placed = AttemptPlaced(time=time.time(), attempt=attempt.number or record.attempt, engine=engine)
        append_events(target / "events.jsonl", [placed])


@dataclass(frozen=True, kw_only=True, slots=True)
class JobTerms:
    """Terms on which a machine of Hugging Face was rented for a job."""

    owner: str = ""
    """Id of the visitor who pays."""
    account: str
    flavor: Word
    usd_per_minute: Annotated[float, Between(0, MOST_USD)]
    timeout_seconds: Annotated[int, Between(0, 10**9)]
    sweep_id: Word
    limit_usd: Annotated[float, Between(0, MOST_USD)]
    """Spending limit of the whole sweep, in US dollars."""
    has_returned: bool = False
    """True where the job was restored from its account after this runs folder had been emptied."""


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
    terms: JobTerms | None = None
    """Terms of a rented machine; None on a cluster that costs nothing."""


def write_job(folder: Path, job: Job, submission: Submission) -> None:
    """Write job.json, durably; raise OSError where this fails."""
    end = submission.end._asdict() if submission.end else None
    content = asdict(replace(submission, end=None)) | {"attempts": [*map(str, job.attempts)], "end": end}
    replace_durably(folder / JOB_FILE, json.dumps(content))


def read_job(folder: Path) -> tuple[Job, Submission]:
    """Read job.json. Raise EngineUnavailableError where it cannot be read: the job may still run, and submitting it
    again could cost twice."""
    file = folder / JOB_FILE
    try:
        return parse_job(file.read_bytes() if file.exists() else b"")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error  # a visitor reads no path
        raise EngineUnavailableError(
            f"The files of a job cannot be read ({folder.parent.name}/{folder.name}: {why}). Its runs wait, since it "
            "may go on. Mend that folder, or end the job where it runs and remove the folder."
        ) from error


def parse_job(text: bytes) -> tuple[Job, Submission]:
    """Return a job and its state from the content of its job.json. Raise ValueError where that is missing or damaged: a
    job whose state is not known is never taken for one that was not submitted."""
    try:
        content = json.loads(text)
        job = Job(attempts=tuple(map(Attempt.parse, content["attempts"])))
        known = {name: content[name] for name in Submission.__dataclass_fields__}
        known["end"] = End(**known["end"]) if known["end"] else None
        known["terms"] = build(JobTerms, known["terms"]) if known["terms"] else None
        if job.attempts:
            return job, Submission(**known)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ValueError(f"{JOB_FILE} is missing or damaged")


def job_by_names(folder: Path) -> Job:
    """Return the job of a folder whose job.json is damaged, from its file names; attempts but the first run's are 0,
    which stands for any. Raise OSError where the folder cannot be listed."""
    name, _, number = folder.name.rpartition("-a")
    others = sorted({*os.listdir(folder / "runs")} - {name})
    return Job(attempts=(Attempt(name, int(number)), *(Attempt(run_id, 0) for run_id in others)))


def folders_in(place: Path) -> Sequence[Path]:
    """Return the job folders in `place`, sorted; raise OSError where `place` cannot be listed now."""
    with contextlib.suppress(FileNotFoundError), os.scandir(place) as entries:
        return sorted(place / entry.name for entry in entries if FOLDER.fullmatch(entry.name) and entry.is_dir())
    return []


def read_plain(path: Path, offset: int, most: int = 2**22) -> bytes:
    """Read up to `most` bytes of a file from an offset on; empty where there is no plain file. No link is followed."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return b""
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(most)
    except (FileNotFoundError, NotADirectoryError):
        return b""


def files_in(folder: Path) -> list[Path]:
    """Return all plain files below a folder, sorted. No link is followed."""
    files = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return sorted(file for file in files if file.is_file() and not file.is_symlink())
