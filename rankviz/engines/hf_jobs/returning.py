"""Jobs that carry this page's label and that its runs folder does not know: a Space's disk is emptied when it restarts.

What comes from an account is read as an import is. A job that was read and forgotten here is not brought again.
"""

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from rankviz.core.from_json import build
from rankviz.core.runs.attempts import HF_JOBS, Attempt, AttemptPlaced
from rankviz.core.runs.request import RunRequest
from rankviz.engines.bundle import JOB_FILE, read_job
from rankviz.engines.hf_jobs.hub import Hub, Seen
from rankviz.engines.hf_jobs.papers import RENTED, Papers, Rented
from rankviz.engines.hf_jobs.spending import Cost, Spending, span_of
from rankviz.errors import EngineError, RankVizError
from rankviz.store import RunStore
from rankviz.store.destination import Destination
from rankviz.store.journal import line_of, parse_request, request_text
from rankviz.store.ownership import Ownership

MOST_RUNS = 1000
"""Of one job."""
COMING_SECONDS = 60.0
"""So long it may take to make the runs of a job that has come back."""
MOST = 20
"""The newest jobs that are looked at."""
TERMS = ("flavor", "usd_per_minute", "timeout_seconds", "sweep_id", "limit_usd")
"""What is taken from what a job carries."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, slots=True)
class Found:
    """One job with its runs."""

    name: str
    """Of its folder."""
    attempts: tuple[Attempt, ...]
    requests: tuple[RunRequest, ...]
    rented: Rented

    def without(self, run_ids: Collection[str]) -> "Found":
        """The same job with the runs that are not among these."""
        kept = [place for place, attempt in enumerate(self.attempts) if attempt.run_id not in run_ids]
        attempts, requests = (tuple(each[place] for place in kept) for each in (self.attempts, self.requests))
        return replace(self, attempts=attempts, requests=requests)


def look(hub: Hub, papers: Papers, spending: Spending, store: RunStore, owner: str) -> Sequence[Found]:
    """The newest jobs of an account that are this page's and not here, each with the runs that no newer one has, and
    what the others cost. Nothing of an account counts for a sweep of somebody else. EngineUnavailableError."""
    here = {folder.name for folder in papers.folders(coming=True)} | papers.forgotten()
    store.wait_until_read()
    records = store.records()
    runs = {record.run_id for record in records}
    others = {each.request.sweep_id for each in records if store.listed_ownership(each.run_id).owner != owner}
    found = []
    for seen in hub.find(papers.labels_of_home())[-1 : -MOST - 1 : -1]:
        name = seen.labels.get("job", "")
        job = _read(hub, seen, name, owner) if NAME.fullmatch(name) and name not in here else None
        if job is None or job.rented.sweep_id in others:
            continue
        if (missing := job.without(runs)).attempts:
            found.append(missing)
            runs |= {attempt.run_id for attempt in missing.attempts}
        elif seen.ended:
            spending.add(job.rented.sweep_id, name, _cost(seen, job.rented))
    return found


def take(job: Found, papers: Papers, store: RunStore, owner: str) -> None:
    """Make its runs, and the folder that its watch fills. Nothing of it is started. The folder comes first: a run that
    no job has would be started. EngineError where somebody else is just taking it."""
    folder, aside = papers.place / job.name, papers.place / f".{secrets.token_hex(4)}"
    rented = replace(job.rented, has_returned=True)
    for attempt in job.attempts:
        (aside / "runs" / attempt.run_id).mkdir(parents=True)
    content = {"kind": "finetune", "attempts": [str(attempt) for attempt in job.attempts]}
    (aside / JOB_FILE).write_text(json.dumps(content))
    papers.write(aside, replace(rented, is_coming=True))
    try:
        os.rename(aside, folder)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        raise EngineError("This job is here already.") from None
    try:
        store.publish(
            {
                request.run_id: {
                    "request.json": request_text(request),
                    "events.jsonl": _placed(request, attempt, job.rented),
                    **Destination(HF_JOBS, _options(job.rented)).files,
                }
                for request, attempt in zip(job.requests, job.attempts, strict=True)
            },
            Ownership(owner),
        )
    except BaseException:
        papers.remove(folder)
        raise
    papers.write(folder, rented)


def settle(papers: Papers, store: RunStore) -> None:
    """Of jobs that were coming when the app was killed: they are here if their runs are, and else come again."""
    for folder in list(papers.folders(coming=True)):
        rented = papers.read(folder)
        if rented.is_coming and time.time() - (folder / RENTED).stat().st_mtime > COMING_SECONDS:
            if all(store.run_dir(attempt.run_id).is_dir() for attempt in read_job(folder).attempts):
                papers.write(folder, replace(rented, is_coming=False))
            else:
                papers.remove(folder)


def _options(rented: Rented) -> Mapping[str, str]:
    """As whoever queued the runs chose them."""
    limit = {} if rented.limit_usd is None else {"spend": f"{rented.limit_usd:g}"}
    return {"flavor": rented.flavor, **limit}


def _placed(request: RunRequest, attempt: Attempt, rented: Rented) -> bytes:
    place = AttemptPlaced(
        time=request.created_at,
        attempt=attempt.number,
        engine=HF_JOBS,
        where=rented.flavor,
        job=rented.job_id,
    )
    return line_of(place)


def _read(hub: Hub, seen: Seen, name: str, owner: str) -> Found | None:
    """From the bucket, or from what was sent where it has not begun; None where it cannot be read."""

    def text(path: str) -> bytes:
        return hub.read(f"{name}/{path}", 0) or hub.sent(f"{name}/{path}")

    try:
        job, terms = json.loads(text(JOB_FILE)), json.loads(text(RENTED))
        attempts = tuple(Attempt.parse(each) for each in job["attempts"][:MOST_RUNS])
        requests = tuple(parse_request(text(f"runs/{attempt.run_id}/request.json")) for attempt in attempts)
        own = {"owner": owner, "account": hub.name, "job_id": seen.id}
        rented = build(Rented, {**{name: terms[name] for name in TERMS}, **own})
    except (ValueError, KeyError, TypeError, RankVizError):
        return None
    if not attempts or not all(isinstance(request, RunRequest) for request in requests):
        return None
    same = all(r.run_id == a.run_id and a.number > 0 for r, a in zip(requests, attempts, strict=True))
    if not same or {request.sweep_id for request in requests} != {rented.sweep_id}:
        return None
    return Found(name, attempts, requests, rented)


def _cost(seen: Seen, rented: Rented) -> Cost:
    return span_of(seen.seconds, rented.timeout_seconds).cost(rented.usd_per_minute)
