"""The calls of one account to the Hub: jobs, the repository that carries what they need, and the bucket that brings
back what they made.

What a job needs goes by commits to a private dataset repository: a login's scope `contribute-repos` covers that, and
a job mounts it without a token. What it makes comes back by a bucket, which is read by plain HTTP as huggingface_hub's
own file system does.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from http.cookiejar import DefaultCookiePolicy
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rankviz.engines.hf_jobs import answers
from rankviz.engines.hf_jobs.answers import DELETED, Seen
from rankviz.engines.hf_jobs.following.log import Log
from rankviz.engines.hf_jobs.prices import Flavor
from rankviz.errors import EngineDeclinedError, EngineError, EngineUnavailableError, RankVizError

REPOSITORY, BUCKET = "rankviz-jobs", "rankviz-runs"
IN, OUT = "/rankviz/in", "/rankviz/out"
"""Where a job has the two."""
READ_SECONDS = 30.0
CALL_SECONDS = 120.0
"""A call without any word from Hugging Face for so long counts as not answered. By itself huggingface_hub waits for
ever."""
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
READ_BYTES = 2**22
"""That are read of a file at once. A line of a journal has fewer."""
MAX_LISTED = 20_000
"""Files of one folder, or jobs of one account."""


class Hub:
    """Of one token. EngineUnavailableError: try again later. EngineError: the Hub refused. After that and after
    EngineDeclinedError nothing was done; after another EngineUnavailableError nobody knows.

    Args:
        name: Of the account; whoami is asked where it is not given.
    """

    def __init__(self, token: str, name: str = "", endpoint: str | None = None):
        from huggingface_hub import HfApi

        self.token = token
        self.rejected = False
        self.was_searched = False
        """Whether its account was looked through for jobs that have come back."""
        self._name = name
        self._api = HfApi(endpoint=endpoint, token=token)

    @property
    def name(self) -> str:
        """Of the account."""
        if not self._name:
            with self._reaching():
                self._name = answers.text(self._api.whoami()["name"])
        return self._name

    def is_of(self, name: str) -> bool:
        """Whether this is known to be the account of that name."""
        return bool(name) and name == self._name

    def renew(self, token: str) -> None:
        """From now on the same account is asked with this token."""
        self.token = self._api.token = token

    def flavors(self) -> Sequence[Flavor]:
        """What can be rented now, with today's prices; the cheapest first."""
        with self._reaching():
            found = [answers.flavor(each) for each in self._api.list_jobs_hardware()]
        return sorted((each for each in found if each), key=lambda each: (each.usd_per_minute, each.name))

    def run(self, *, image: str, command: Sequence[str], flavor: str, timeout: int, labels: Mapping[str, str]) -> Seen:
        """Start a job."""
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
            return answers.seen(job, self.token)

    def job(self, job_id: str) -> Seen:
        """As it is now; DELETED where the Hub does not know it. Any answer 404 says that, also for a job that lives."""
        from huggingface_hub.errors import JobNotFoundError

        with self._reaching():
            try:
                return answers.seen(self._api.inspect_job(job_id=job_id, namespace=self.name), self.token)
            except JobNotFoundError:
                return Seen(job_id, DELETED)

    def find(self, labels: Mapping[str, str]) -> Sequence[Seen]:
        """Jobs that have all these labels, whatever else Hugging Face lists; the newest last."""
        with self._reaching():
            listed = islice(self._api.list_jobs(labels=dict(labels), namespace=self.name), MAX_LISTED)
            jobs = [job for job in listed if labels.items() <= answers.labels(job).items()]
            return [answers.seen(job, self.token) for job in sorted(jobs, key=lambda job: str(job.created_at))]

    def log(self, job_id: str) -> Log:
        """A job's log from its beginning; `lines` reads it."""
        from huggingface_hub.utils import build_hf_headers

        url = f"{self._api.endpoint}/api/jobs/{self.name}/{quote(job_id)}/logs"
        headers = {**build_hf_headers(token=self.token), "Accept-Encoding": "identity"}
        return Log(url, headers, self._require)

    def lines(self, log: Log) -> Iterator[str]:
        """As they come."""
        with self._reaching():
            yield from log

    def cancel(self, job_id: str) -> None:
        with self._reaching():
            self._api.cancel_job(job_id=job_id, namespace=self.name)

    def make_places(self) -> None:
        """The repository and the bucket, both private, where they are not there. EngineError where one is not
        private."""
        bucket = f"{self.name}/{BUCKET}"
        with self._reaching():
            self._api.create_repo(self._repository, repo_type="dataset", private=True, exist_ok=True)
            self._api.create_bucket(bucket, private=True, exist_ok=True)
            places = {
                f"datasets/{self._repository}": self._api.dataset_info(self._repository, expand=["private"]).private,
                f"buckets/{bucket}": self._api.bucket_info(bucket).private,
            }
        if public := [place for place, private in places.items() if private is not True]:
            raise EngineError(PUBLIC.format(" and ".join(public)))

    def has_sent(self, path: str) -> bool:
        with self._reaching():
            return self._api.file_exists(self._repository, path, repo_type="dataset")

    def send(self, files: Mapping[str, bytes | Path], message: str) -> None:
        """Commit files to the repository."""
        from huggingface_hub import CommitOperationAdd

        additions = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=content) for path, content in files.items()]
        with self._reaching():
            self._api.create_commit(self._repository, additions, commit_message=message, repo_type="dataset")

    def unsend(self, folder: str) -> None:
        """Remove a folder from the repository's main branch."""
        with self._reaching():
            self._api.delete_folder(folder, self._repository, repo_type="dataset", commit_message=f"Read: {folder}")

    def sent(self, path: str) -> bytes:
        """The beginning of a file of the repository; nothing where it is not there."""
        url = f"{self._api.endpoint}/datasets/{self._repository}/resolve/main/{quote(path)}"
        return b"".join(self._chunks(url, 0, READ_BYTES))

    def files(self, folder: str) -> Mapping[str, int]:
        """Sizes of the bucket's files below a folder, by their paths in it; of the first where there are very many."""
        from huggingface_hub import BucketFile

        with self._reaching():
            tree = self._api.list_bucket_tree(f"{self.name}/{BUCKET}", prefix=folder, recursive=True)
            files = [each for each in islice(tree, MAX_LISTED) if isinstance(each, BucketFile)]
            found = {answers.text(each.path): int(each.size) for each in files}
        start = f"{folder}/"
        return {path.removeprefix(start): size for path, size in found.items() if path.startswith(start)}

    def read(self, path: str, offset: int) -> bytes:
        """READ_BYTES at most of a file of the bucket from an offset on; nothing where it is not there, or has no
        more."""
        return b"".join(self._chunks(self._in_bucket(path), offset, READ_BYTES))

    def fetch(self, path: str, target: Path, offset: int, most: int) -> None:
        """Write so many bytes at most of a file of the bucket into a new one here."""
        with target.open("wb") as file:
            for chunk in self._chunks(self._in_bucket(path), offset, most):
                file.write(chunk)

    def _chunks(self, url: str, offset: int, most: int) -> Iterator[bytes]:
        with self._getting(url, {"Range": f"bytes={offset}-"}) as response:
            if response.status_code in (404, 416):
                return
            self._require(response)
            before = 0 if response.status_code == 206 else offset
            for chunk in response.iter_raw():
                wanted = chunk[before:][:most]
                before, most = max(0, before - len(chunk)), most - len(wanted)
                yield wanted
                if not most:
                    return

    def _in_bucket(self, path: str) -> str:
        return f"{self._api.endpoint}/buckets/{self.name}/{BUCKET}/resolve/{quote(path)}"

    @property
    def _repository(self) -> str:
        return f"{self.name}/{REPOSITORY}"

    @contextlib.contextmanager
    def _getting(self, url: str, headers: Mapping[str, str]) -> Iterator[Any]:
        from huggingface_hub import get_session
        from huggingface_hub.utils import build_hf_headers

        headers = {**build_hf_headers(token=self.token), "Accept-Encoding": "identity", **headers}
        with (
            self._reaching(),
            get_session().stream("GET", url, headers=headers, timeout=READ_SECONDS, follow_redirects=True) as response,
        ):
            yield response

    def _require(self, response: Any) -> None:
        from huggingface_hub.utils import hf_raise_for_status

        if response.is_error:
            response.read()
        hf_raise_for_status(response)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Around every call. huggingface_hub has one client for all visitors, which so keeps nobody's cookies. Whatever
        it raises is said in words of ours, and is in no log, since it may hold a token."""
        from huggingface_hub import get_session

        session = get_session()
        session.timeout = CALL_SECONDS
        session.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
        token = self.token
        try:
            yield
        except RankVizError:
            raise
        except Exception as error:
            raise self._in_words(error, token) from None

    def _in_words(self, error: BaseException, token: str) -> EngineError | EngineUnavailableError:
        import httpx
        from huggingface_hub import errors

        if isinstance(error, RuntimeError):  # so it wraps what kept a file from being sent
            error = error.__cause__ or error
        name = type(error).__name__
        if isinstance(error, errors.HfHubHTTPError):
            return self._refused(error, token)
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | errors.OfflineModeIsEnabled):
            return EngineDeclinedError(NOT_REACHED.format(name))
        if isinstance(error, httpx.HTTPError | OSError):
            return EngineUnavailableError(NOT_REACHED.format(name))
        return EngineUnavailableError(UNREADABLE.format(name))

    def _refused(self, error: Any, token: str) -> EngineError | EngineUnavailableError:
        code = error.response.status_code
        if code == 401:
            self.rejected = self.rejected or token == self.token  # or it has been renewed meanwhile
            return EngineDeclinedError(REJECTED)
        words = answers.plain(error.server_message or error.response.reason_phrase, token, self.token)
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
