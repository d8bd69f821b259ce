"""Jobs that carry this page's label and that its runs folder does not know: a Space's disk is emptied when it restarts.

What comes from an account is read as an import is. A job that was read and forgotten here is not brought again.
"""

import contextlib
import json
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from rankviz.core.from_json import build
from rankviz.core.runs.events import HF_JOBS, Attempt, AttemptPlaced
from rankviz.core.runs.request import RunRequest
from rankviz.engines.bundle import JOB_FILE, read_job
from rankviz.engines.hf_jobs.hub import Hub, Seen
from rankviz.engines.hf_jobs.papers import RENTED, Papers, Rented
from rankviz.engines.hf_jobs.spending import Cost, Spending, span_of
from rankviz.errors import RunNotFoundError, UserError
from rankviz.store import RunStore
from rankviz.store.durable import write_durably
from rankviz.store.journal import line_of, parse_request, request_text
from rankviz.store.ownership import Destination, Ownership

MOST_RUNS = 1000
"""Of one job."""
COMING_SECONDS = 60.0
"""So long it may take to make the runs of a job that has come back."""
MOST = 20
"""The newest jobs that are looked at, with the older ones of their sweeps, which share their limits."""
MOST_IN_ALL = 200
TERMS = ("flavor", "usd_per_minute", "timeout_seconds", "sweep_id", "limit_usd")
"""What is taken from what a job carries."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, slots=True)
class Found:
    """One job with its runs."""

    name: str
    """Of its folder."""
    attempts: tuple[Attempt, ...]
    """The first names the job."""
    requests: tuple[RunRequest, ...]
    """Of the runs that come back."""
    rented: Rented

    def without(self, run_ids: Collection[str]) -> "Found":
        """The same job without these runs. Its first attempt stays: where that run has a newer one, it changes
        nothing."""
        first, *others = self.attempts
        kept = (first, *(attempt for attempt in others if attempt.run_id not in run_ids))
        requests = tuple(request for request in self.requests if request.run_id not in run_ids)
        return replace(self, attempts=kept, requests=requests)


def look(hub: Hub, papers: Papers, spending: Spending, store: RunStore, owner: str) -> Sequence[Found]:
    """The newest jobs of an account that are this page's and not here, each with the runs that no newer one has, and
    what the others cost. Nothing of an account counts for a run or a sweep of somebody else. EngineUnavailableError,
    EngineError where a job cannot be looked at: then none comes yet, since it may have the newest attempt of a run."""
    here = {folder.name for folder in papers.all()} | papers.forgotten()
    store.wait_until_read()
    records = store.records()
    runs = {record.run_id for record in records}
    theirs = [each for each in records if store.listed_ownership(each.run_id).owner != owner]
    others = {name for each in theirs for name in (each.run_id, each.request.sweep_id)}
    found, sweeps, looked_at = [], set(), 0
    for place, seen in enumerate(reversed(hub.find(papers.labels_of_home()))):
        name, sweep = seen.labels.get("job", ""), seen.labels.get("name")
        if not NAME.fullmatch(name) or name in here or (place >= MOST and sweep not in sweeps):
            continue
        if (looked_at := looked_at + 1) > MOST_IN_ALL:
            break
        job = _read(hub, seen, name, owner)
        if job is None or papers.folder(str(job.attempts[0])).name != name:
            continue
        if not others.isdisjoint({job.rented.sweep_id, *(attempt.run_id for attempt in job.attempts)}):
            continue
        sweeps.add(sweep)
        if (missing := job.without(runs)).requests:
            found.append(missing)
            runs |= {request.run_id for request in missing.requests}
        elif seen.ended:
            spending.add(job.rented.sweep_id, name, _cost(seen, job.rented), owner)
    return found


def take(job: Found, papers: Papers, store: RunStore, owner: str) -> None:
    """Make its runs, and the folder that its watch fills. Nothing of it is started. The folder comes first: a run that
    no job has would be started. EngineError where somebody else is just taking it."""
    folder, rented = papers.place / job.name, replace(job.rented, has_returned=True)
    with papers.making(folder) as aside:
        for attempt in job.attempts:
            (aside / "runs" / attempt.run_id).mkdir(parents=True)
        for request in job.requests:
            (aside / "runs" / request.run_id / "request.json").write_text(request_text(request))
        content = {"kind": "finetune", "attempts": [str(attempt) for attempt in job.attempts]}
        write_durably(aside / JOB_FILE, json.dumps(content))
        papers.write(aside, replace(rented, is_coming=True))
    attempts = {attempt.run_id: attempt for attempt in job.attempts}
    try:
        store.publish(
            {
                request.run_id: {
                    "request.json": request_text(request),
                    "events.jsonl": _placed(request, attempts[request.run_id], job.rented),
                    **Destination(HF_JOBS, _options(job.rented)).files,
                }
                for request in job.requests
            },
            Ownership(owner),
            joins=job.requests,
        )
    except BaseException:
        papers.remove(folder)
        raise
    if rented.limit_usd:
        papers.note_limit(rented.sweep_id, rented.limit_usd, owner, anew=False)  # the newest job comes first
    papers.write(folder, rented)


def settle(papers: Papers, store: RunStore) -> None:
    """Of jobs that were coming when the app was killed: they are here if some run of theirs is, and else come again."""
    papers.remove_left()
    for folder in list(papers.folders(coming=True)):
        rented = papers.read(folder)
        if rented.is_coming and time.time() - (folder / RENTED).stat().st_mtime > COMING_SECONDS:
            if any(_is_here(store, attempt) for attempt in read_job(folder).attempts):
                papers.write(folder, replace(rented, is_coming=False))
            else:
                papers.remove(folder)


def _is_here(store: RunStore, attempt: Attempt) -> bool:
    with contextlib.suppress(RunNotFoundError):
        return store.record(attempt.run_id).attempt == attempt.number
    return False


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
    """From the bucket, or from what was sent where it has not begun; None where that makes no sense.
    EngineUnavailableError, EngineError where it cannot be had."""

    def text(path: str) -> bytes:
        return hub.read(f"{name}/{path}", 0) or hub.sent(f"{name}/{path}")

    try:
        job, terms = json.loads(text(JOB_FILE)), json.loads(text(RENTED))
        attempts = tuple(Attempt.parse(each) for each in job["attempts"][:MOST_RUNS])
        requests = tuple(parse_request(text(f"runs/{attempt.run_id}/request.json")) for attempt in attempts)
        own = {"owner": owner, "account": hub.name, "job_id": seen.id}
        rented = build(Rented, {**{name: terms[name] for name in TERMS}, **own})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UserError):
        return None
    if not attempts or not all(isinstance(request, RunRequest) for request in requests):
        return None
    if len({attempt.run_id for attempt in attempts}) < len(attempts):
        return None
    same = all(r.run_id == a.run_id and a.number > 0 for r, a in zip(requests, attempts, strict=True))
    if not same or {request.sweep_id for request in requests} != {rented.sweep_id}:
        return None
    return Found(name, attempts, requests, rented)


def _cost(seen: Seen, rented: Rented) -> Cost:
    return span_of(seen.seconds, rented.timeout_seconds).cost(rented.usd_per_minute)
