"""Jobs that carry this page's label and that its runs folder does not know: a Space's disk is emptied when it restarts.

What comes from an account is read as an import is. A job that was read and forgotten here is not brought again.
"""

import json
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from rankviz.core.from_json import build
from rankviz.core.runs.attempts import HF_JOBS, Attempt, AttemptPlaced
from rankviz.core.runs.request import RunRequest
from rankviz.engines.bundle import JOB_FILE
from rankviz.engines.hf_jobs.hub import Hub, Seen
from rankviz.engines.hf_jobs.papers import RENTED, Papers, Rented
from rankviz.engines.hf_jobs.spending import Cost, Spending, span_of
from rankviz.errors import RankVizError
from rankviz.store import RunStore
from rankviz.store.destination import Destination
from rankviz.store.journal import line_of, parse_request, request_text
from rankviz.store.ownership import Ownership

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
    what the others cost. EngineUnavailableError."""
    here = {folder.name for folder in papers.folders()} | papers.forgotten()
    store.wait_until_read()
    runs = {record.run_id for record in store.records()}
    found = []
    for seen in hub.find(papers.labels_of_home())[-1 : -MOST - 1 : -1]:
        name = seen.labels.get("job", "")
        job = _read(hub, seen, name, owner) if NAME.fullmatch(name) and name not in here else None
        if job is None:
            continue
        if (missing := job.without(runs)).attempts:
            found.append(missing)
            runs |= {attempt.run_id for attempt in missing.attempts}
        elif seen.ended:
            spending.add(job.rented.sweep_id, name, _cost(seen, job.rented))
    return found


def take(job: Found, papers: Papers, store: RunStore, owner: str) -> None:
    """Make its runs, and the folder that its watch fills. Nothing of it is started."""
    folder = papers.place / job.name
    shutil.rmtree(folder, ignore_errors=True)
    for attempt in job.attempts:
        (folder / "runs" / attempt.run_id).mkdir(parents=True)
    content = {"kind": "finetune", "attempts": [str(attempt) for attempt in job.attempts]}
    (folder / JOB_FILE).write_text(json.dumps(content))
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
    papers.write(folder, job.rented)


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
        attempts = tuple(Attempt.parse(each) for each in job["attempts"])
        requests = tuple(parse_request(text(f"runs/{attempt.run_id}/request.json")) for attempt in attempts)
        own = {"owner": owner, "account": hub.name, "job_id": seen.id}
        rented = build(Rented, {**{name: terms[name] for name in TERMS}, **own})
    except (ValueError, KeyError, TypeError, RankVizError):
        return None
    same = all(r.run_id == a.run_id and a.number > 0 for r, a in zip(requests, attempts, strict=True))
    if not attempts or not same or not all(isinstance(request, RunRequest) for request in requests):
        return None
    return Found(name, attempts, requests, rented)


def _cost(seen: Seen, rented: Rented) -> Cost:
    return span_of(seen.seconds, rented.timeout_seconds).cost(rented.usd_per_minute)
