"""Hugging Face Jobs: machines rented by the minute, on the account of the owner of the runs.

A job is submitted once and found again by its labels. Its time limit is the time that the sweep's spending limit pays
for. The packed job and this package are uploaded to a private repository; journals and adapters come back through a
bucket (hub.py).
"""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from rankviz.core.bounds import Between, Word
from rankviz.core.from_json import build
from rankviz.core.runs.events import HF_JOBS, AttemptPlaced
from rankviz.core.runs.request import RunRequest
from rankviz.errors import (
    EngineDeclinedError,
    EngineError,
    EngineUnavailableError,
    InvalidSettingError,
    UserError,
    quoted,
)
from rankviz.jobs import bundle
from rankviz.jobs.bundle import Submission
from rankviz.jobs.engine import End, Job, Live
from rankviz.jobs.hub import (
    IN,
    MOST_USD,
    OUT,
    Bill,
    Cost,
    Flavor,
    Hub,
    HubJob,
    Ledger,
    Logins,
    cost_so_far,
    require_limit,
    seconds_left,
)
from rankviz.jobs.local import describe_exit
from rankviz.jobs.remote import (
    OWN_LIMITS,
    READ_BYTES,
    JobLimits,
    Remote,
    RemoteJob,
    Status,
)
from rankviz.paths import ASSETS, IMPORT_ROOT
from rankviz.settings import JOBS_AT_ONCE, JOBS_FLAVOR, JOBS_IMAGE, JOBS_SPEND
from rankviz.store import RunStore
from rankviz.store.durable import aside_of
from rankviz.store.journal import line_of, parse_request, request_text
from rankviz.store.ownership import Ownership, WantedEngine

MOST_RETURNING, MOST_RUNS = 100, 1000
"""Number of an account's newest jobs that are searched for lost sweeps, and number of runs read from each job."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
MISSING_SECONDS = 300.0
"""Seconds until Hugging Face lists a job that it has started, at most."""
NEEDED = ("pydantic-settings", "filelock", "psutil", "PyYAML", "threadpoolctl", "nvidia-ml-py")
"""Packages that the worker imports besides the trainer; a job gets the versions of this machine."""
LEFT_OUT = (".css", ".js", ".png", ".svg", ".woff2", ".pyc")
RESUME = "Resume the sweep to start what is left."
CANCELLED_THERE = "Its job was cancelled on Hugging Face. Resume the sweep to start it again."
TIME_IS_UP = (
    "Hugging Face ended the job for its time limit ({:.0f} minutes, which the spending limit pays for). Resume the "
    "sweep with a higher limit or a faster machine."
)
SCHEDULED = "Hugging Face looks for a free machine."
ONE_AT_A_TIME = "It waits for another job of its sweep to end: the spending limit of a sweep pays for one at a time."
NO_PLACE = "It waits for another job to end: of all visitors together, {} run at the same time."
ANOTHER_ACCOUNT = (
    "Its job is of another account of Hugging Face than the one that is logged in now. Log in with that one, or give "
    "its token, and what the job did is read."
)
USED_UP = (
    "The spending limit of its sweep does not pay for another job. Resume the sweep with a higher limit, which is that "
    "of the whole sweep."
)
SCRIPT = r"""
set -e
here=$(mktemp -d)
for python in /opt/venv/bin/python python3 python; do
  "$python" -c 'import importlib.util as u; raise SystemExit(u.find_spec("unsloth") is None)' 2>/dev/null && break
done
"$python" -m zipfile -e "$1" "$here"
export PYTHONPATH="$here:$here/packages" PYTHONUNBUFFERED=1
"$python" -c 'import filelock, psutil, pydantic_settings, pynvml, threadpoolctl, yaml' 2>/dev/null ||
  "$python" -m pip install --quiet --target "$here/packages" -r "$here/needed.txt"
shift
exec "$python" -m rankviz.jobs.inside "$@"
"""
"""Shell script that starts the worker in a job's image, which has Unsloth, in a virtual environment or not. The first
argument is the archive of this package, the others are for `inside`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobTerms:
    """Terms on which a job was rented, stored in its submission."""

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


def terms_of(submission: Submission) -> JobTerms:
    """Return the terms of a submission; raise ValueError where they cannot be read."""
    return build(JobTerms, dict(submission.terms))


@dataclass(frozen=True, slots=True)
class Returning:
    """A job of an account whose sweep this page has lost, as when a Space restarts and its disk is emptied."""

    name: str
    job: Job
    requests: tuple[RunRequest, ...]
    terms: JobTerms
    handle: str


class HfJobs(Remote):
    """Engine that runs the jobs of one runs folder on Hugging Face.

    Args:
        image: Container image with Unsloth.
        at_once: Number of jobs that run at the same time, of all owners together.
        spend, flavor: Default spending limit in US dollars, and default machine, of runs that name none.
        limits: Limits for the files that a job returns.
        worker: Command that replaces the real worker in tests.
        sees_folders: True where jobs see the folders of this machine, as a stand-in's jobs do in tests.
        missing_seconds: Seconds after which a job unknown to Hugging Face counts as never started or deleted.
    """

    name = HF_JOBS
    title = "Hugging Face Jobs"
    about = "Your Hugging Face account pays. The data and RankViz's code go into a private repository of yours."
    is_limited = False

    def __init__(
        self,
        store: RunStore,
        logins: Logins,
        *,
        image: str = JOBS_IMAGE,
        at_once: int = JOBS_AT_ONCE,
        spend: float = JOBS_SPEND,
        flavor: str = JOBS_FLAVOR,
        limits: JobLimits = OWN_LIMITS,
        worker: Sequence[str] = (),
        sees_folders: bool = False,
        poll_seconds: float = 5.0,
        missing_seconds: float = MISSING_SECONDS,
    ):
        self.logins, self.sees_folders = logins, sees_folders
        self._spend, self._flavor, self._image, self._worker = spend, flavor, image, tuple(worker)
        seconds = {"poll_seconds": poll_seconds, "missing_seconds": missing_seconds}
        super().__init__(store, at_once=at_once, limits=limits, **seconds)
        self.ledger = Ledger(self.place)
        self._coming: set[str] = set()
        """Ids of runs that are being restored; no job starts for them meanwhile."""

    def room(self) -> int:
        """Return at least 1, so that `start` is called and gives the reason why a job waits."""
        return max(1, super().room())

    def start(self, job: Job) -> Live | None:
        """Start a job; None where a job that this page has restored meanwhile has its runs."""
        run_ids = {attempt.run_id for attempt in job.attempts}
        if self._coming & run_ids:  # asked first: it is empty only once the job's folder is there
            return None
        held = {attempt.run_id for live in self.live() if not live.end for attempt in live.job.attempts}
        return None if held & run_ids else super().start(job)

    def check(self, terms: Mapping[str, Any]) -> None:
        build(JobTerms, dict(terms))

    def terms(self, job: Job) -> Mapping[str, Any]:
        payer = job.options.get("payer", job.owner)
        hub = self.logins.require(payer)
        sweep_id = self.store.record(job.attempts[0].run_id).request.sweep_id
        jobs = list(self._jobs())
        if any(terms.sweep_id == sweep_id for _, _, terms in jobs):
            raise EngineUnavailableError(ONE_AT_A_TIME)
        # A job that nobody can follow takes a place of its own owner only.
        payers = [terms.owner for _, each, terms in jobs if not each.end]
        if sum(owner == payer or self.logins.of(owner) is not None for owner in payers) >= self._at_once:
            raise EngineUnavailableError(NO_PLACE.format(self._at_once))
        limit, bill = self.ledger.limit(sweep_id), self.bill(sweep_id)
        options = {**job.options, **({} if limit is None else {"spend": repr(limit)})}
        try:
            flavor, usd = self.offer(hub, options, wait=0.0)
            seconds = seconds_left(usd, bill.most_usd, flavor.usd_per_minute)
        except InvalidSettingError as error:  # who looks at a run of another sees no dollars
            raise EngineError(USED_UP if bill.jobs else str(error)) from error
        if limit is None:
            self.ledger.note_limit(sweep_id, usd)
        price = {"flavor": flavor.name, "usd_per_minute": flavor.usd_per_minute}
        times = {"timeout_seconds": seconds, "limit_usd": usd}
        return asdict(JobTerms(owner=payer, account=hub.name, sweep_id=sweep_id, **price, **times))

    def forget(self, live: Live) -> None:
        """Add the job's cost to the ledger and remove its folder. The job's files stay in the owner's bucket."""
        folder = bundle.folder_of(live.job, self.place)
        submission = bundle.read_job(folder)[1]
        terms = terms_of(submission)
        self.ledger.add(terms.sweep_id, folder.name, _cost(submission, terms))
        with (self.place / "forgotten").open("a") as file:  # its runs may be deleted here, and do not return
            file.write(f"{folder.name}\n")
        super().forget(live)

    def offer(self, hub: Hub, options: Mapping[str, str], wait: float = 5.0) -> tuple[Flavor, float]:
        """Return the machine and the spending limit in US dollars that the options name; raise InvalidSettingError
        where the machine is unknown or the limit is invalid."""
        name, spend = options.get("flavor") or self._flavor, options.get("spend") or self._spend
        flavors = hub.flavors(wait)
        flavor = next((each for each in flavors if each.name == name), None)
        if flavor is None:
            known = ", ".join(each.name for each in flavors)
            raise InvalidSettingError(f"Hugging Face has no flavor {quoted(name)}. It has: {known}.")
        try:
            usd = float(spend)
        except ValueError:
            raise InvalidSettingError(f"The spending limit must be a number of US dollars (got {spend!r}).") from None
        require_limit(usd)
        return flavor, usd

    def bill(self, sweep_id: str) -> Bill:
        """Return the cost of a sweep's jobs so far; raise EngineUnavailableError where the ledger is unreadable."""
        jobs = {name: _cost(each, terms) for name, each, terms in self._jobs() if terms.sweep_id == sweep_id}
        return self.ledger.bill(sweep_id, jobs)

    def job_of(self, sweep_id: str) -> tuple[Submission, JobTerms] | None:
        """Return submission and terms of the sweep's job that has a folder here; None where there is none."""
        return next(((each, terms) for _, each, terms in self._jobs() if terms.sweep_id == sweep_id), None)

    def _jobs(self) -> Iterator[tuple[str, Submission, JobTerms]]:
        """Yield folder name, submission and terms of each readable job with a folder here. Thread-safe."""
        for folder in bundle.folders_in(self.place):
            with contextlib.suppress(OSError, EngineError, ValueError):
                submission = bundle.read_job(folder)[1]
                yield folder.name, submission, terms_of(submission)

    def returning(self, owner: str) -> Sequence[Returning]:
        """Return the newest jobs of an owner's account whose sweeps are not here, each with the runs that no newer job
        has; raise EngineUnavailableError or EngineError where a job cannot be read."""
        hub, forgotten, found = self.logins.require(owner), self.place / "forgotten", []
        here = set(forgotten.read_text(errors="replace").split()) if forgotten.exists() else set()
        self.store.update(waits=True)
        runs, sweeps = self.store.ids(), {record.request.sweep_id for record in self.store.records()}
        for seen in list(reversed(hub.find(self.labels())))[:MOST_RETURNING]:
            job = self._read_job(hub, seen, owner) if NAME.fullmatch(seen.name) and seen.name not in here else None
            requests = tuple(request for request in job.requests if request.run_id not in runs) if job else ()
            if requests and job.terms.sweep_id not in sweeps:
                found.append(replace(job, requests=requests))
                runs |= {request.run_id for request in requests}
        return found

    def take(self, found: Returning, owner: str) -> None:
        """Restore the runs of a job from its account into this store, and follow the job. Nothing is started. Raise
        EngineError where the job is here already."""
        folder, terms = self.place / found.name, found.terms
        numbers = {attempt.run_id: attempt.number for attempt in found.job.attempts}
        first, *others = found.job.attempts  # the first names the folder
        self._coming |= (wanted := {request.run_id for request in found.requests})
        self.place.mkdir(parents=True, exist_ok=True)
        aside = aside_of(folder)
        try:
            aside.mkdir()
            attempts = (first, *(each for each in others if each.run_id in wanted))
            state = Submission(submitted=True, handle=found.handle, terms=asdict(terms))
            bundle.write_job(aside, replace(found.job, attempts=attempts), state)
            if folder.exists():
                raise EngineError("This job is here already.")
            there = WantedEngine(HF_JOBS, {"flavor": terms.flavor, "spend": f"{terms.limit_usd:g}"})
            content = {}
            for request in found.requests:
                placed = {"attempt": numbers[request.run_id], "engine": HF_JOBS, "job": found.handle}
                events = line_of(AttemptPlaced(time=request.created_at, **placed))
                content[request.run_id] = {"request.json": request_text(request), "events.jsonl": events, **there.files}
            self.store.publish(content, Ownership(owner))
            os.rename(aside, folder)
            if terms.limit_usd and self.ledger.limit(terms.sweep_id) is None:
                self.ledger.note_limit(terms.sweep_id, terms.limit_usd)  # the newest job comes first
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            self._coming -= wanted

    def _read_job(self, hub: Hub, seen: HubJob, owner: str) -> Returning | None:
        """Read a job from the bucket, or before it has begun from the repository; None if its files are invalid."""

        def text(path: str) -> bytes:
            path = f"{seen.name}/{path}"
            return hub.read(path, 0, READ_BYTES) or hub.sent(path, READ_BYTES)

        try:
            content = json.loads(text(bundle.JOB_FILE))
            if "terms" not in content:
                content = json.loads(text(bundle.OLD_STATE_FILE)) | content
            job, terms = bundle.job_of(content), build(JobTerms, content["terms"])
            job = replace(job, attempts=job.attempts[:MOST_RUNS])
            requests = tuple(parse_request(text(f"runs/{attempt.run_id}/request.json")) for attempt in job.attempts)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UserError):
            return None
        named = [attempt.run_id for attempt in job.attempts if attempt.number > 0]
        is_one = (
            all(isinstance(each, RunRequest) for each in requests)
            and named == [request.run_id for request in requests]
            and len(set(named)) == len(named)
            and {request.sweep_id for request in requests} == {terms.sweep_id}
            and bundle.folder_of(job, self.place).name == seen.name
        )
        terms = replace(terms, owner=owner, account=hub.name, has_returned=True)
        return Returning(seen.name, job, requests, terms, seen.id) if is_one else None

    def send(self, job: RemoteJob) -> None:
        path, data = archive()
        files: dict[str, bytes | Path] = {path: data}
        for file in sorted(job.folder.rglob("*")):
            if file.is_file():
                files[f"{job.name}/{file.relative_to(job.folder).as_posix()}"] = file
        self._hub(terms_of(job.submission)).send(files, f"Job {job.name}")

    def submit(self, job: RemoteJob) -> str:
        terms, path = terms_of(job.submission), archive()[0]
        try:
            hub = self._hub(terms)
            if there := hub.find(self.labels(job.name)):  # what was written down of it was lost
                return there[-1].id
        except EngineUnavailableError as error:
            raise EngineDeclinedError(str(error)) from error
        places = (f"{IN}/{path}", f"{IN}/{job.name}", f"{OUT}/{job.name}")
        return hub.run(
            image=self._image,
            command=["sh", "-c", SCRIPT, "rankviz", *places, *self._worker],
            flavor=terms.flavor,
            timeout=terms.timeout_seconds,
            labels={**self.labels(job.name), "name": f"rankviz-{terms.sweep_id}"[:100]},
        )

    def poll(self, job: RemoteJob) -> Status | None:
        terms = terms_of(job.submission)
        hub = self._hub(terms)
        seen = hub.job(job.handle) if job.handle else self._newest(hub, job.name)
        if seen is None:
            return None
        end = None
        if seen.ended:
            text = hub.read(f"{job.name}/exit_code", 0, 16).strip()
            end = end_of(seen, int(text) if re.fullmatch(rb"-?\d{1,10}", text) else None, terms)
        return Status(
            handle=seen.id,
            where=terms.flavor,
            waits=SCHEDULED if seen.stage == "SCHEDULING" else "",
            end=end,
            was_cancelled=seen.stage in ("CANCELED", "DELETED"),
            seconds=seen.seconds,
        )

    def read(self, job: RemoteJob, path: str, offset: int, most: int) -> bytes:
        return self._hub(terms_of(job.submission)).read(f"{job.name}/{path}", offset, most)

    def end(self, job: RemoteJob) -> None:
        hub = self._hub(terms_of(job.submission))
        for job_id in [job.handle] if job.handle else [seen.id for seen in hub.find(self.labels(job.name))]:
            hub.cancel(job_id)

    def unsend(self, job: RemoteJob) -> None:
        self._hub(terms_of(job.submission)).unsend(job.name)

    def labels(self, name: str = "") -> Mapping[str, str]:
        """Return the labels that find a job of this runs folder in its account; without a name, the labels that find
        all of its jobs. A restart empties the disk of a Space, so there the Space's name identifies the folder."""
        space = os.environ.get("SPACE_ID")
        home = hashlib.sha256(space.encode()).hexdigest()[:16] if space else ""
        known = {"app": "rankviz", "home": home or self.home_id}
        return {**known, "job": re.sub(r"[^A-Za-z0-9_-]", "_", name)[-100:]} if name else known

    def _newest(self, hub: Hub, name: str) -> HubJob | None:
        """Return the newest job of a name, or None. Cancel older jobs of this name that have not ended."""
        *twins, newest = hub.find(self.labels(name)) or [None]
        for twin in twins:
            if not twin.ended:
                with contextlib.suppress(EngineError):  # it has ended meanwhile
                    hub.cancel(twin.id)
        return newest

    def _hub(self, terms: JobTerms) -> Hub:
        """Return the Hub of a job's account; raise EngineUnavailableError where that account is not logged in."""
        hub = self.logins.require(terms.owner)
        if hub.name != terms.account:
            raise EngineUnavailableError(ANOTHER_ACCOUNT)
        return hub


def end_of(seen: HubJob, exit_code: int | None, terms: JobTerms) -> End:
    """Return how a job ended. A restored job is not tried again by itself, since the number of its attempts is not
    known. exit_code: Exit code of the worker, None where not known. Hugging Face's own reason has priority, since
    Hugging Face may have ended the worker by a signal."""
    end = _end_of(seen, exit_code, terms)
    return end._replace(lost=False, is_final=True, why=f"{end.why} {RESUME}") if terms.has_returned else end


def _end_of(seen: HubJob, exit_code: int | None, terms: JobTerms) -> End:
    if seen.stage == "CANCELED":
        return End(why=CANCELLED_THERE, is_final=True)
    words, had_failed = seen.message.lower(), exit_code is not None and exit_code >= 0
    is_over = (seen.running_seconds or 0.0) >= terms.timeout_seconds and not had_failed
    if "timeout" in words or "timed out" in words or is_over:
        return End(why=TIME_IS_UP.format(terms.timeout_seconds / 60), is_final=True)
    if exit_code is not None:
        return End(exit_code, lost=exit_code < 0, why=describe_exit(exit_code))
    message = f" {seen.message.rstrip('.')}." if seen.message else ""
    return End(lost=True, why=f"The job ended on Hugging Face before its runs did ({seen.stage.lower()}).{message}")


def _cost(submission: Submission, terms: JobTerms) -> Cost:
    return cost_so_far(submission, terms.timeout_seconds, terms.usd_per_minute)


@cache
def archive() -> tuple[str, bytes]:
    """Return name and bytes of a zip of this package, which a job unpacks to run the same code as the page. The name
    contains a digest of the content."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:

        def write(name: str, data: bytes) -> None:
            """Write an entry with a fixed date, so that the same files make the same zip."""
            file.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)

        for folder, prefix in ((IMPORT_ROOT / "rankviz", "rankviz"), (ASSETS, "rankviz/assets")):
            for path in sorted(folder.rglob("*")):
                if path.is_file() and path.suffix not in LEFT_OUT and "__pycache__" not in path.parts:
                    write(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())
        write("needed.txt", "\n".join(f"{name}=={metadata.version(name)}" for name in NEEDED).encode())
    data = content.getvalue()
    return f"code/rankviz-{hashlib.sha256(data).hexdigest()[:16]}.zip", data
