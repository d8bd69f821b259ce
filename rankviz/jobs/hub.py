"""Calls to Hugging Face for one account, and the logins of all visitors.

A job's input is committed to a private dataset repository: a login's scope `contribute-repos` allows this, and a job
mounts the repository without a token. A job's output comes back through a bucket, which is read by plain HTTP as
huggingface_hub's own file system does. Tokens are kept in memory only.
"""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock, RLock
from typing import Any, NamedTuple
from urllib.parse import quote

from rankviz import units
from rankviz.background import Background
from rankviz.core.quantity import Range
from rankviz.errors import (
    EngineDeclinedError,
    EngineError,
    EngineUnavailableError,
    InvalidSettingError,
    RankVizError,
    in_a_line,
)
from rankviz.jobs.bundle import MOST_USD, Submission
from rankviz.store.durable import replace_durably

STARTING = Range(120.0, 300.0, 600.0)
"""Billed seconds before a job's base is loaded (image, packages, download of the base). Assumed, not measured."""
MOST_SECONDS = 7 * 24 * 3600
"""Longest time limit of a job, in seconds."""
LEAST_SECONDS = 300
"""Shortest time limit of a job, in seconds; in less time hardly any job gets to train."""
FOLLOWED_SECONDS = 60.0
"""Seconds after the last report of a running job's time in which its cost counts as known."""
DIGITS = 6
"""Decimal places to which an amount is rounded before floor or ceiling, so that 0.31 - 0.11 US dollars pay for as much
as 0.2."""
COSTS_UNREADABLE = (
    "What jobs of this sweep have cost cannot be read, so none starts. The owner of the server can mend "
    "hf-jobs/{} in the runs folder, or remove it: then the spending limit counts from 0."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Flavor:
    """A machine that a job can rent."""

    name: str
    label: str
    usd_per_minute: float
    gpu: str = ""
    """GPU model such as "L4"; empty for a machine without a GPU."""
    gpus: int = 0
    memory_bytes: int | None = None
    """Memory of one GPU; None where not known."""

    @property
    def usd_per_hour(self) -> float:
        return 60.0 * self.usd_per_minute


def cost_of(seconds: float, usd_per_minute: float) -> float:
    """Return the cost of a job in US dollars; each minute that has begun is billed whole."""
    return math.ceil(max(0.0, seconds) / 60.0) * usd_per_minute


def cost_range(training: Range, usd_per_minute: float) -> Range:
    """Return the cost range in US dollars of a job whose runs take `training` seconds, start-up included."""
    seconds = training.plus(STARTING)
    return Range(*(cost_of(each, usd_per_minute) for each in (seconds.low, seconds.expected, seconds.high)))


def seconds_left(usd: float, spent: float, usd_per_minute: float) -> int:
    """Return the time limit of a new job in seconds, which the rest of its sweep's spending limit pays for. usd: The
    spending limit, in US dollars. spent: US dollars that the sweep's jobs have cost. The longest expected start is
    subtracted, since Hugging Face bills it and may not count it against the time limit. Raise InvalidSettingError where
    the rest is too little; the message names a limit that would be enough."""
    if not 0 < usd <= MOST_USD:
        raise InvalidSettingError(f"The spending limit must be above 0 and at most {MOST_USD:,} dollars (got {usd:g}).")
    paid = 60.0 * (usd - spent) / usd_per_minute if usd_per_minute else 24 * 3600.0
    seconds = math.floor(round(min(paid, MOST_SECONDS) - STARTING.high, DIGITS))
    if seconds >= LEAST_SECONDS:
        return seconds
    least = spent + math.ceil((STARTING.high + LEAST_SECONDS) / 60.0) * usd_per_minute
    so_far = f"is used up: this sweep's jobs have cost up to {units.usd(spent)}" if spent else "does not pay for a job"
    raise InvalidSettingError(
        f"The spending limit of {units.usd(usd)} {so_far}: starting alone may take {STARTING.high / 60:.0f} billed "
        f"minutes. Give at least {units.usd(math.ceil(round(100 * least, DIGITS)) / 100)} for the whole sweep, or "
        "choose a cheaper machine."
    )


Cost = tuple[float, float]
"""Lower and upper bound of one job's cost, in US dollars."""


class Bill(NamedTuple):
    """Costs of all jobs of one sweep so far."""

    jobs: int
    usd: float
    """Lower bound of the cost."""
    is_whole: bool
    """True where the cost is exact; False where the running time of a job is not known now."""
    most_usd: float
    """Upper bound of the cost, which counts against the limit."""


def cost_so_far(submission: Submission) -> Cost:
    """Return the bounds of a rented job's cost so far, in US dollars. While its running time is not known, the upper
    bound is the cost of its start and its time limit."""
    terms = submission.terms
    longest = terms.timeout_seconds + STARTING.high
    if not submission.submitted or (submission.end and not submission.handle):  # it was listed nowhere
        least = most = 0.0
    elif submission.seconds is None:
        least, most = 0.0, longest
    else:
        since = 0.0 if submission.end else max(0.0, time.time() - submission.seconds_at)
        least, most = submission.seconds, max(submission.seconds, min(longest, submission.seconds + since))
        if since < FOLLOWED_SECONDS:
            least = most
    return cost_of(least, terms.usd_per_minute), cost_of(most, terms.usd_per_minute)


class Ledger:
    """Files with the spending limits and the costs of ended jobs: {"limit": USD, "jobs": {JOB: [LEAST, MOST]}}."""

    def __init__(self, place: Path):
        self._place, self._lock = place, Lock()

    def note(self, sweep_id: str, *, limit: float | None = None, costs: Mapping[str, Cost] | None = None) -> None:
        """Store a sweep's spending limit in US dollars, and costs of its ended jobs by job name; earlier values are
        replaced. Raise OSError where the file cannot be written."""
        with self._lock:
            known, jobs = self._read(sweep_id)
            content = {"limit": known if limit is None else limit, "jobs": {**jobs, **(costs or {})}}
            self._place.mkdir(parents=True, exist_ok=True)
            replace_durably(self._place / f"{sweep_id}.json", json.dumps(content))

    def limit(self, sweep_id: str) -> float | None:
        """Return a sweep's latest spending limit, or None; raise EngineUnavailableError where it cannot be read."""
        return self._read(sweep_id)[0]

    def bill(self, sweep_id: str, running: Mapping[str, Cost]) -> Bill:
        """Return a sweep's bill. running: Costs, by job name, of jobs that are not in the file yet. Raise
        EngineUnavailableError where the file cannot be read."""
        costs = {**self._read(sweep_id)[1], **running}.values()
        is_whole = all(least == most for least, most in costs)
        return Bill(len(costs), sum(least for least, _ in costs), is_whole, sum(most for _, most in costs))

    def _read(self, sweep_id: str) -> tuple[float | None, Mapping[str, Cost]]:
        file = self._place / f"{sweep_id}.json"
        try:
            content = json.loads(file.read_text())
            limit = content["limit"]
            jobs = {name: (float(least), float(most)) for name, (least, most) in content["jobs"].items()}
            is_valid = limit is None or 0 < limit < math.inf
            if is_valid and all(0.0 <= least <= most < math.inf for least, most in jobs.values()):
                return limit, jobs
        except FileNotFoundError:
            return None, {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise EngineUnavailableError(COSTS_UNREADABLE.format(file.name))


REPOSITORY, BUCKET = "rankviz-jobs", "rankviz-runs"
IN, OUT = "/rankviz/in", "/rankviz/out"
"""Paths in a job at which the repository and the bucket are mounted."""
READ_SECONDS = 30.0
CALL_SECONDS = 120.0
"""Seconds without data from Hugging Face after which a call fails. huggingface_hub itself has no such limit."""
FLAVORS_SECONDS, SOON_SECONDS = 300.0, 5.0
"""FLAVORS_SECONDS: time for which machines and prices are cached. SOON_SECONDS: time to wait for them."""
MAX_LISTED = 20_000
LOGIN = (
    "It waits for its owner's login at Hugging Face: the page keeps no token. Log in, and what the job did meanwhile "
    "is read."
)
NO_TOKEN = "It waits for a login at Hugging Face: set HF_TOKEN, or run `hf auth login`."
ASKED = "Hugging Face is asked for its machines and their prices. Try again in a moment."
REJECTED = "Hugging Face does not accept this login any more. Log in again."
NO_CREDIT = (
    "Hugging Face does not start jobs for this account: it has no credit. Add some at "
    "https://huggingface.co/settings/billing."
)
PUBLIC = (
    "Others can read {} on Hugging Face, so nothing is sent there. Make it private in its settings, or rename it, and "
    "resume the sweep."
)
NOT_REACHED = "Hugging Face cannot be reached ({})."
UNREADABLE = "Hugging Face answered something that cannot be read ({}). RankViz asks again."


@dataclass(frozen=True, slots=True)
class HubJob:
    """A job as Hugging Face described it."""

    id: str
    stage: str
    message: str = ""
    seconds: float | None = None
    """Billed seconds, as an upper bound; None where not known."""
    running_seconds: float | None = None
    name: str = ""
    """Name of the job's folder, from its label."""

    @property
    def ended(self) -> bool:
        return self.stage in ("COMPLETED", "CANCELED", "ERROR", "DELETED")


class Hub:
    """Calls to Hugging Face with one token.

    EngineError means that Hugging Face refused, EngineUnavailableError that the call may be tried again later. A call
    with EngineError or EngineDeclinedError did nothing; after any other EngineUnavailableError the result is not known.

    Args:
        name: Name of the account; fetched when needed where it is empty.
    """

    def __init__(self, token: str, name: str = "", endpoint: str | None = None):
        from huggingface_hub import HfApi

        self.token = token
        self.rejected = False
        self.was_searched = False
        """True once a search of the account for jobs to restore has begun."""
        self._name = name
        self._api = HfApi(endpoint=endpoint, token=token)
        self._background = Background(SOON_SECONDS, FLAVORS_SECONDS)

    @property
    def name(self) -> str:
        """Name of the account, fetched at the first use where it was not given."""
        if not self._name:
            with self._reaching():
                self._name = _text(self._api.whoami()["name"])
        return self._name

    def flavors(self, wait: float = SOON_SECONDS) -> Sequence[Flavor]:
        """Return the machines for rent, cheapest first, and fetch the account's name. One thread fetches them for all
        callers; raise EngineUnavailableError where the answer takes longer than `wait` seconds."""
        if (answer := self._background.ask("machines", "", self._list_flavors, wait)) is None:
            raise EngineUnavailableError(ASKED)
        return answer.result()

    def _list_flavors(self) -> Sequence[Flavor]:
        _ = self.name
        found = []
        with self._reaching():
            for each in self._api.list_jobs_hardware():
                if each.unit_label != "minute":
                    continue
                card = each.accelerator
                number, _, unit = ((card.vram if card else None) or "").partition(" ")
                is_gib = unit == "GB" and number.replace(".", "", 1).isdigit()  # so a card's label means GiB
                flavor = Flavor(
                    name=_text(each.name),
                    label=_text(each.pretty_name),
                    usd_per_minute=each.unit_cost_micro_usd / 1e6,
                    gpu=card.model if card else "",
                    gpus=int(card.quantity or 1) if card else 0,
                    memory_bytes=round(float(number) * 2**30) if is_gib else None,
                )
                found.append(flavor)
        return sorted(found, key=lambda each: (each.usd_per_minute, each.name))

    def run(self, *, image: str, command: Sequence[str], flavor: str, timeout: int, labels: Mapping[str, str]) -> str:
        """Start a job; return its id."""
        from huggingface_hub import Volume

        volumes = [
            Volume(type="dataset", source=f"{self.name}/{REPOSITORY}", mount_path=IN, read_only=True),
            Volume(type="bucket", source=f"{self.name}/{BUCKET}", mount_path=OUT),
        ]
        with self._reaching():
            job = self._api.run_job(
                image=image,
                command=list(command),
                flavor=flavor,
                timeout=timeout,
                labels=dict(labels),
                volumes=volumes,
                namespace=self.name,
            )
            return _text(job.id)

    def job(self, job_id: str) -> HubJob | None:
        """Describe a job; None where Hugging Face does not know it."""
        from huggingface_hub.errors import JobNotFoundError

        with self._reaching():
            try:
                return self._described(self._api.inspect_job(job_id=job_id, namespace=self.name))
            except JobNotFoundError:
                return None

    def find(self, labels: Mapping[str, str]) -> Sequence[HubJob]:
        """Return the jobs with all these labels, the newest last."""
        with self._reaching():
            listed = islice(self._api.list_jobs(labels=dict(labels), namespace=self.name), MAX_LISTED)
            jobs = [job for job in listed if labels.items() <= (job.labels or {}).items()]
            return [self._described(job) for job in sorted(jobs, key=lambda job: str(job.created_at))]

    def cancel(self, job_id: str) -> None:
        with self._reaching():
            self._api.cancel_job(job_id=job_id, namespace=self.name)

    def send(self, files: Mapping[str, bytes | Path], message: str) -> None:
        """Commit files, by path, to the private repository, without files of `code/` that it has already. Create
        repository and bucket where missing; raise EngineError where one of the two is public."""
        from huggingface_hub import CommitOperationAdd

        bucket, repository = f"{self.name}/{BUCKET}", f"{self.name}/{REPOSITORY}"
        with self._reaching():
            self._api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
            self._api.create_bucket(bucket, private=True, exist_ok=True)
            places = {
                f"datasets/{repository}": self._api.dataset_info(repository, expand=["private"]).private,
                f"buckets/{bucket}": self._api.bucket_info(bucket).private,
            }
            if public := [place for place, private in places.items() if private is not True]:
                raise EngineError(PUBLIC.format(" and ".join(public)))
            additions = [
                CommitOperationAdd(path_in_repo=path, path_or_fileobj=content)
                for path, content in files.items()
                if not (path.startswith("code/") and self._api.file_exists(repository, path, repo_type="dataset"))
            ]
            self._api.create_commit(repository, additions, commit_message=message, repo_type="dataset")

    def unsend(self, folder: str) -> None:
        """Delete a folder on the repository's main branch; it stays in the history."""
        with self._reaching():
            self._api.delete_folder(
                folder, f"{self.name}/{REPOSITORY}", repo_type="dataset", commit_message=f"Read: {folder}"
            )

    def read(self, path: str, offset: int, most: int, *, sent: bool = False) -> bytes:
        """Return up to `most` bytes of a file from an offset on; empty where it does not exist. sent: True for a file
        of the repository, False for one of the bucket."""
        from huggingface_hub import get_session
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        place = f"datasets/{self.name}/{REPOSITORY}/resolve/main" if sent else f"buckets/{self.name}/{BUCKET}/resolve"
        url = f"{self._api.endpoint}/{place}/{quote(path)}"
        headers = {**build_hf_headers(token=self.token), "Accept-Encoding": "identity", "Range": f"bytes={offset}-"}
        with (
            self._reaching(),
            get_session().stream("GET", url, headers=headers, timeout=READ_SECONDS, follow_redirects=True) as response,
        ):
            if response.status_code in (404, 416):
                return b""
            if response.is_error:
                response.read()
            hf_raise_for_status(response)
            skip, data = 0 if response.status_code == 206 else offset, bytearray()
            for chunk in response.iter_raw():
                data += chunk[skip:]
                skip = max(0, skip - len(chunk))
                if len(data) >= most:
                    break
            return bytes(data[:most])

    def _described(self, job: Any) -> HubJob:
        stage, durations = _text(getattr(job.status.stage, "value", job.status.stage)), job.durations
        known = (durations and getattr(durations, f"{which}_secs") for which in ("total", "running"))
        total, running = (float(each) if each is not None and 0 <= each < math.inf else None for each in known)
        if total is not None and not (running is None and stage in ("RUNNING", "COMPLETED")):
            total = min(total, (running or 0.0) + STARTING.high)  # waiting for a machine is not billed, starting is
        return HubJob(
            id=_text(job.id),
            stage=stage,
            message=in_a_line(job.status.message or "", 300, self.token),
            seconds=total,
            running_seconds=running,
            name=str((job.labels or {}).get("job", "")),
        )

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Wrap every call: set a time limit, and turn errors into messages of RankViz, which contain no token.
        huggingface_hub has one HTTP client for all visitors, so its cookies are switched off."""
        from http.cookiejar import DefaultCookiePolicy  # with ssl, which a list of runs does not need

        from huggingface_hub import get_session

        session = get_session()
        session.timeout = CALL_SECONDS
        session.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
        try:
            yield
        except RankVizError:
            raise
        except Exception as error:
            raise self._in_words(error) from None

    def _in_words(self, error: BaseException) -> EngineError | EngineUnavailableError:
        import httpx
        from huggingface_hub import errors

        if isinstance(error, RuntimeError):  # so it wraps what kept a file from being sent
            error = error.__cause__ or error
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | errors.OfflineModeIsEnabled):
            return EngineDeclinedError(NOT_REACHED.format(type(error).__name__))
        if not isinstance(error, errors.HfHubHTTPError):
            is_network = isinstance(error, httpx.HTTPError | OSError)
            return EngineUnavailableError((NOT_REACHED if is_network else UNREADABLE).format(type(error).__name__))
        code = error.response.status_code
        words = in_a_line(error.server_message or error.response.reason_phrase, 300, self.token)
        if code == 401:
            self.rejected = True
            return EngineDeclinedError(REJECTED)
        if code == 402:
            return EngineError(NO_CREDIT)
        if code == 403:
            return EngineError(
                f"Hugging Face did not allow it ({words}). The login or token needs the scopes jobs and "
                "contribute-repos, and write access to a bucket of yours."
            )
        if code in (409, 412, 423, 429):
            return EngineDeclinedError(f"Hugging Face answered {code}: {words}")
        if code == 408 or code >= 500:
            return EngineUnavailableError(f"Hugging Face answered {code}: {words}")
        return EngineError(f"Hugging Face refused it ({code}: {words}).")


class Logins:
    """Logins at Hugging Face, by the visitor's id. On a shared page a visitor's token serves only that visitor's jobs.
    On a private machine the token is HF_TOKEN, or the login of the machine.

    Args:
        endpoint: URL of the Hub; None for huggingface_hub's default.
        of_machine: True where the machine's token serves jobs without an owner.
    """

    def __init__(self, endpoint: str | None = None, of_machine: bool = True):
        self._endpoint, self._of_machine = endpoint, of_machine
        self._known: dict[str, tuple[Hub, float]] = {}
        """Hub and expiry time (unix seconds), by the visitor's id."""
        self._ended_at: dict[str, float] = {}
        """Time of each owner's last logout, from time.monotonic."""
        self._lock = RLock()

    def give(
        self, owner: str, token: str, name: str = "", expires_at: float = math.inf, *, came_at: float = math.inf
    ) -> Hub | None:
        """Store a visitor's login and return the visitor's Hub; None where the visitor has logged out since `came_at`.
        Where one account is logged in twice, as on a laptop and a phone, the first token stays until it expires.

        Args:
            name: Name of the account; fetched when needed where it is empty.
            came_at: Arrival time of the request with the token, from time.monotonic.
        """
        with self._lock:
            if came_at <= self._ended_at.get(owner, -math.inf):
                return None
            hub = self._valid(owner)
            if hub is None or not (hub.token == token or (name and name == hub._name)):
                hub = Hub(token, name, self._endpoint)
            if hub.token == token:
                self._known[owner] = hub, expires_at
            return hub

    def forget(self, owner: str) -> None:
        """Log a visitor out. Login requests that arrived before the logout are ignored, however long they take."""
        with self._lock:
            self._ended_at[owner] = time.monotonic()
            self._known.pop(owner, None)

    def of(self, owner: str) -> Hub | None:
        """Return a visitor's Hub; None without a login. The machine's token is read each time, since it may change."""
        if not owner and self._of_machine:
            if token := machine_token():
                return self.give("", token)
            self.forget("")
        return self._valid(owner)

    def _valid(self, owner: str) -> Hub | None:
        with self._lock:
            hub, expires_at = self._known.get(owner, (None, 0.0))
            if hub is not None and (hub.rejected or expires_at <= time.time()):
                del self._known[owner]
                return None
            return hub

    def require(self, owner: str) -> Hub:
        """Return a visitor's Hub; raise EngineUnavailableError where the visitor is not logged in."""
        hub = self.of(owner)
        if hub is None:
            raise EngineUnavailableError(self.sentence(owner))
        return hub

    def sentence(self, owner: str) -> str:
        """Return the message for a job that waits because the visitor is not logged in."""
        return LOGIN if owner or not self._of_machine else NO_TOKEN


def machine_token() -> str:
    """Return HF_TOKEN, or the token saved by `hf auth login`; empty where there is neither."""
    from huggingface_hub import get_token

    return get_token() or ""


def _text(value: Any) -> str:
    """Return a text of Hugging Face's answer; raise TypeError where it is no text, and ValueError where it is empty."""
    if not isinstance(value, str):
        raise TypeError(f"a word is a {type(value).__name__}")
    if not value:
        raise ValueError("a word is missing")
    return value
