"""Hugging Face Jobs: machines rented by the minute, on the account of the owner of the runs.

A job is submitted once and found again by its labels. Its time limit is the time that the sweep's spending limit pays
for. The packed job and this package are uploaded to a private repository; journals and adapters come back through a
bucket (hub.py).
"""

import contextlib
import hashlib
import io
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass, replace
from functools import cache
from importlib import metadata

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
from rankviz.jobs.bundle import JobTerms, Submission, files_in
from rankviz.jobs.engine import End, Job, Live
from rankviz.jobs.hub import IN, OUT, Bill, Flavor, Hub, HubJob, Ledger, Logins, cost_so_far, seconds_left
from rankviz.jobs.local import end_by
from rankviz.jobs.remote import READ_BYTES, Remote, RemoteJob
from rankviz.paths import ASSETS, IMPORT_ROOT
from rankviz.settings import JOBS_AT_ONCE, JOBS_FLAVOR, JOBS_IMAGE, JOBS_SPEND
from rankviz.store.durable import aside_of
from rankviz.store.journal import Ownership, WantedEngine, line_of, parse_request, request_text

MOST_RETURNING, MOST_RUNS = 100, 1000
"""MOST_RETURNING: number of an account's newest jobs in which lost sweeps are searched for. MOST_RUNS: number of runs
that are read from each of them."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
MISSING_SECONDS = 300.0
"""Seconds until Hugging Face lists a job that it has started, at most."""
NEEDED = ("filelock", "psutil", "PyYAML", "threadpoolctl", "nvidia-ml-py")
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
SCRIPT = (ASSETS / "templates" / "hf_job.sh").read_text("utf-8")
"""Shell script that starts the worker in a job's image, which has Unsloth, in a virtual environment or not. The first
argument is the archive of this package, the others are for `inside`."""


@dataclass(eq=False)
class HfJobs(Remote):
    """Engine that runs the jobs of one runs folder on Hugging Face. at_once counts jobs of all owners together."""

    logins: Logins
    _: KW_ONLY
    image: str = JOBS_IMAGE
    """Container image with Unsloth."""
    spend: float = JOBS_SPEND
    """Spending limit, in US dollars, of sweeps that give none."""
    flavor: str = JOBS_FLAVOR
    """Machine of sweeps that give none."""
    sees_folders: bool = False
    """True where jobs see the folders of this machine: only in tests, whose jobs run on this machine."""
    at_once: int = JOBS_AT_ONCE
    poll_seconds: float = 5.0
    missing_seconds: float = MISSING_SECONDS

    name = HF_JOBS
    title = "Hugging Face Jobs"
    about = "Your Hugging Face account pays. The data and RankViz's code go into a private repository of yours."
    is_limited = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ledger = Ledger(self.place)
        self._coming: set[str] = set()
        """Ids of runs that are being restored; no job starts for them meanwhile."""

    def room(self) -> int:
        """Return at least 1, so that `start` is called and gives the reason why a job waits."""
        return max(1, super().room())

    def start(self, job: Job) -> Live | None:
        """Start a job; None where another job, which was restored in the meantime, has its runs already."""
        run_ids = {*job.run_ids}
        if self._coming & run_ids:  # asked first: it is empty only once the job's folder is there
            return None
        held = {run_id for live in self.live() if not live.end for run_id in live.job.run_ids}
        return None if held & run_ids else super().start(job)

    def terms(self, job: Job) -> JobTerms:
        payer = job.options.get("payer", job.owner)
        hub = self.logins.require(payer)
        if self.jobs(job.sweep_id):
            raise EngineUnavailableError(ONE_AT_A_TIME)
        # A job that nobody can follow takes a place of its own owner only.
        payers = [each.terms.owner for each in self.jobs().values() if not each.end]
        if sum(owner == payer or self.logins.of(owner) is not None for owner in payers) >= self.at_once:
            raise EngineUnavailableError(NO_PLACE.format(self.at_once))
        limit, bill = self.ledger.limit(job.sweep_id), self.bill(job.sweep_id)
        options = {**job.options, **({} if limit is None else {"spend": repr(limit)})}
        try:
            flavor, usd = self.offer(hub, options, wait=0.0)
            seconds = seconds_left(usd, bill.most_usd, flavor.usd_per_minute)
        except InvalidSettingError as error:  # who looks at a run of another sees no dollars
            raise EngineError(USED_UP if bill.jobs else str(error)) from error
        if limit is None:
            self.ledger.note(job.sweep_id, limit=usd)
        return JobTerms(
            owner=payer,
            account=hub.name,
            flavor=flavor.name,
            usd_per_minute=flavor.usd_per_minute,
            timeout_seconds=seconds,
            sweep_id=job.sweep_id,
            limit_usd=usd,
        )

    def forget(self, live: Live) -> None:
        """Add the job's cost to the ledger and remove its folder. The job's files stay in the owner's bucket."""
        name = live.job.name
        submission = bundle.read_job(self.place / name)[1]
        self.ledger.note(submission.terms.sweep_id, costs={name: cost_so_far(submission)})
        with (self.place / "forgotten").open("a") as file:  # its runs may be deleted here, and do not return
            file.write(f"{name}\n")
        super().forget(live)

    def offer(self, hub: Hub, options: Mapping[str, str], wait: float = 5.0) -> tuple[Flavor, float]:
        """Return the machine and the spending limit in US dollars that the options name, the limit unchecked. Raise
        InvalidSettingError where the machine is unknown or has several GPUs, or the limit is no number."""
        name, spend = options.get("flavor") or self.flavor, options.get("spend") or self.spend
        flavors = hub.flavors(wait)
        flavor = next((each for each in flavors if each.name == name), None)
        if flavor is None:
            known = ", ".join(each.name for each in flavors)
            raise InvalidSettingError(f"Hugging Face has no flavor {quoted(name)}. It has: {known}.")
        if flavor.gpus > 1:
            raise InvalidSettingError(f"{name} has {flavor.gpus} GPUs, and a job uses one. Choose one with one.")
        try:
            return flavor, float(spend)
        except ValueError:
            raise InvalidSettingError(f"The spending limit must be a number of US dollars (got {spend!r}).") from None

    def bill(self, sweep_id: str) -> Bill:
        """Return the cost of a sweep's jobs so far; EngineUnavailableError where ledger or a job is unreadable."""
        return self.ledger.bill(sweep_id, {name: cost_so_far(each) for name, each in self.jobs(sweep_id).items()})

    def jobs(self, sweep_id: str = "") -> dict[str, Submission]:
        """Return the stored states by job name: of all jobs with a readable folder here, or of one sweep's jobs. Raise
        EngineUnavailableError where a job of that sweep cannot be read. Thread-safe."""
        jobs = {}
        for folder in bundle.folders_in(self.place):
            try:
                submission = bundle.read_job(folder)[1]
            except EngineUnavailableError:
                # Its first run names it, and the sweep that run. A folder that is gone is on the ledger.
                if sweep_id and folder.name.startswith(f"{sweep_id}-") and folder.exists():
                    raise
                continue
            if submission.terms and sweep_id in ("", submission.terms.sweep_id):
                jobs[folder.name] = submission
        return jobs

    def restore(self, owner: str, admit: Callable[[int], AbstractContextManager[None]]) -> Iterator[Sequence[str]]:
        """Restore runs from an owner's newest jobs on Hugging Face, and follow these jobs again: a restart of a Space
        empties its disk, while jobs go on. Only jobs whose sweeps are missing here are read, and nothing is started.
        Yield the ids of the runs restored from each job, without runs that a newer job has. admit: Returns the context
        in which a number of runs is restored. Raise EngineUnavailableError or EngineError where a job cannot be read or
        is here already."""
        hub, forgotten, found = self.logins.require(owner), self.place / "forgotten", []
        known = set(forgotten.read_text(errors="replace").split()) if forgotten.exists() else set()
        self.store.update(waits=True)
        runs, sweeps = self.store.ids(), {record.request.sweep_id for record in self.store.records()}
        for seen in list(reversed(hub.find(self.labels())))[:MOST_RETURNING]:
            if NAME.fullmatch(seen.name) and seen.name not in known and (there := self._read_job(hub, seen, owner)):
                job, submission, requests = there
                requests = [request for request in requests if request.run_id not in runs]
                if requests and submission.terms.sweep_id not in sweeps:
                    found.append((job, submission, requests))
                    runs |= {request.run_id for request in requests}
        for job, submission, requests in found:
            with admit(len(requests)):
                self._take(job, submission, requests)
            yield [request.run_id for request in requests]

    def _take(self, job: Job, submission: Submission, requests: Sequence[RunRequest]) -> None:
        folder, terms = self.place / job.name, submission.terms
        numbers = {attempt.run_id: attempt.number for attempt in job.attempts}
        first, *others = job.attempts  # the first names the folder
        self._coming |= (wanted := {request.run_id for request in requests})
        self.place.mkdir(parents=True, exist_ok=True)
        aside = aside_of(folder)
        try:
            aside.mkdir()
            attempts = (first, *(each for each in others if each.run_id in wanted))
            bundle.write_job(aside, replace(job, attempts=attempts), submission)
            if folder.exists():
                raise EngineError("This job is here already.")
            there = WantedEngine(HF_JOBS, {"flavor": terms.flavor, "spend": f"{terms.limit_usd:g}"})
            content = {}
            for request in requests:
                placed = {"attempt": numbers[request.run_id], "engine": HF_JOBS, "job": submission.handle}
                events = line_of(AttemptPlaced(time=request.created_at, **placed))
                content[request.run_id] = {"request.json": request_text(request), "events.jsonl": events, **there.files}
            self.store.publish(content, Ownership(terms.owner))
            os.rename(aside, folder)
            if terms.limit_usd and self.ledger.limit(terms.sweep_id) is None:
                self.ledger.note(terms.sweep_id, limit=terms.limit_usd)  # the newest job comes first
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            self._coming -= wanted

    def _read_job(self, hub: Hub, seen: HubJob, owner: str) -> tuple[Job, Submission, Sequence[RunRequest]] | None:
        """Read a job from the bucket, or before its begin from the repository; None if its files are invalid."""

        def read(path: str) -> bytes:
            path = f"{seen.name}/{path}"
            return hub.read(path, 0, READ_BYTES) or hub.read(path, 0, READ_BYTES, sent=True)

        try:
            job, submission = bundle.parse_job(read(bundle.JOB_FILE))
            job = replace(job, attempts=job.attempts[:MOST_RUNS])
            requests = [parse_request(read(f"runs/{run_id}/request.json")) for run_id in job.run_ids]
        except (ValueError, UserError):
            return None
        named, terms = [attempt.run_id for attempt in job.attempts if attempt.number > 0], submission.terms
        is_one = (
            terms is not None
            and all(isinstance(each, RunRequest) for each in requests)
            and named == [request.run_id for request in requests]
            and len(set(named)) == len(named)
            and {request.sweep_id for request in requests} == {terms.sweep_id}
            and job.name == seen.name
        )
        if not is_one:
            return None
        terms = replace(terms, owner=owner, account=hub.name, has_returned=True)
        return job, Submission(submitted=True, handle=seen.id, terms=terms), requests

    def send(self, job: RemoteJob) -> None:
        path, data = archive()
        packed = {f"{job.name}/{file.relative_to(job.folder).as_posix()}": file for file in files_in(job.folder)}
        self._hub(job).send({path: data, **packed}, f"Job {job.name}")

    def submit(self, job: RemoteJob) -> str:
        terms, path = job.submission.terms, archive()[0]
        try:
            hub = self._hub(job)
            if there := hub.find(self.labels(job.name)):  # what was written down of it was lost
                return there[-1].id
        except EngineUnavailableError as error:
            raise EngineDeclinedError(str(error)) from error
        places = (f"{IN}/{path}", f"{IN}/{job.name}", f"{OUT}/{job.name}")
        return hub.run(
            image=self.image,
            command=["sh", "-c", SCRIPT, "rankviz", *places, *self.worker],
            flavor=terms.flavor,
            timeout=terms.timeout_seconds,
            labels={**self.labels(job.name), "name": f"rankviz-{terms.sweep_id}"[:100]},
        )

    def poll(self, job: RemoteJob) -> Live | None:
        terms, hub = job.submission.terms, self._hub(job)
        *twins, seen = [hub.job(job.handle)] if job.handle else hub.find(self.labels(job.name)) or [None]
        for twin in (each for each in twins if not each.ended):  # an older job of this name
            with contextlib.suppress(EngineError):  # it has ended meanwhile
                hub.cancel(twin.id)
        if seen is None:
            return None
        end = None
        if seen.ended:
            text = hub.read(f"{job.name}/exit_code", 0, 16).strip()
            end = end_of(seen, int(text) if re.fullmatch(rb"-?\d{1,10}", text) else None, terms)
        waits = SCHEDULED if seen.stage == "SCHEDULING" else ""
        return Live(job=job.job, handle=seen.id, where=terms.flavor, waits=waits, end=end, seconds=seen.seconds)

    def read(self, job: RemoteJob, path: str, offset: int, most: int) -> bytes:
        return self._hub(job).read(f"{job.name}/{path}", offset, most)

    def cancel_job(self, job: RemoteJob) -> None:
        hub = self._hub(job)
        for job_id in [job.handle] if job.handle else [seen.id for seen in hub.find(self.labels(job.name))]:
            hub.cancel(job_id)

    def unsend(self, job: RemoteJob) -> None:
        self._hub(job).unsend(job.name)

    def labels(self, name: str = "") -> Mapping[str, str]:
        """Return the labels that find a job of this runs folder in its account; without a name, the labels that find
        all of its jobs. A restart empties the disk of a Space, so there the Space's name identifies the folder."""
        space = os.environ.get("SPACE_ID")
        home = hashlib.sha256(space.encode()).hexdigest()[:16] if space else ""
        known = {"app": "rankviz", "home": home or self.home_id}
        return {**known, "job": re.sub(r"[^A-Za-z0-9_-]", "_", name)[-100:]} if name else known

    def _hub(self, job: RemoteJob) -> Hub:
        """Return the Hub of a job's account; raise EngineUnavailableError where that account is not logged in."""
        hub = self.logins.require(job.submission.terms.owner)
        if hub.name != job.submission.terms.account:
            raise EngineUnavailableError(ANOTHER_ACCOUNT)
        return hub


def end_of(seen: HubJob, exit_code: int | None, terms: JobTerms) -> End:
    """Return how a job ended. exit_code: Exit code of the worker, None where not known. The reason that Hugging Face
    gives has priority over it, since Hugging Face may have ended the worker by a signal. Runs of a restored job are not
    tried again automatically, since the number of their attempts is not known."""
    words, had_failed = seen.message.lower(), exit_code is not None and exit_code >= 0
    is_over = (seen.running_seconds or 0.0) >= terms.timeout_seconds and not had_failed
    if seen.stage == "CANCELED":
        end = End(why=CANCELLED_THERE, is_final=True)
    elif "timeout" in words or "timed out" in words or is_over:
        end = End(why=TIME_IS_UP.format(terms.timeout_seconds / 60), is_final=True)
    elif exit_code is not None:
        end = end_by(exit_code)._replace(lost=exit_code < 0)
    else:
        message = f" {seen.message.rstrip('.')}." if seen.message else ""
        end = End(lost=True, why=f"The job ended on Hugging Face before its runs did ({seen.stage.lower()}).{message}")
    return end._replace(lost=False, is_final=True, why=f"{end.why} {RESUME}") if terms.has_returned else end


@cache
def archive() -> tuple[str, bytes]:
    """Return name and bytes of a zip of this package, which a job unpacks to run the same code as the page. The name
    contains a digest of the content."""
    content = io.BytesIO()
    entries = {"needed.txt": "\n".join(f"{name}=={metadata.version(name)}" for name in NEEDED).encode()}
    for folder, prefix in ((IMPORT_ROOT / "rankviz", "rankviz"), (ASSETS, "rankviz/assets")):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix not in LEFT_OUT and "__pycache__" not in path.parts:
                entries[f"{prefix}/{path.relative_to(folder)}"] = path.read_bytes()
    with zipfile.ZipFile(content, "w") as file:
        for name, entry in entries.items():  # of a fixed date, so that the same files make the same zip
            file.writestr(zipfile.ZipInfo(name), entry, zipfile.ZIP_DEFLATED)
    data = content.getvalue()
    return f"code/rankviz-{hashlib.sha256(data).hexdigest()[:16]}.zip", data
