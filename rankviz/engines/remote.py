"""Jobs on machines elsewhere: one engine for all of them.

`Remote` packs a job into HOME/NAME-jobs/RUN_ID-aN, follows it (follower.py), collects its adapters and cancels it. How
a job is submitted, polled, read and cancelled in one place, a `Cluster` says (cluster.py).

NAME-jobs/RUN_ID-aN/                 the packed job (bundle.py), its journals as far as they have come
NAME-jobs/RUN_ID-aN/submission.json  what is known of it elsewhere
"""

import contextlib
import math
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rankviz.core.runs.events import Attempt
from rankviz.engines import bundle, listing
from rankviz.engines.bounds import Bounds
from rankviz.engines.cluster import Cluster, RemoteJob, Submission, read_submission, write_submission
from rankviz.engines.engine import End, Engine, Job, Live
from rankviz.engines.follower import CANCELLED, Follower
from rankviz.engines.in_thread import in_thread
from rankviz.errors import EngineEndingError, EngineError, EngineUnavailableError
from rankviz.settings import Limits
from rankviz.store import RunStore
from rankviz.store.durable import aside_of

OWN_BOUNDS = Bounds.of(Limits())
READING = "Reading what the job did last. Then it is cancelled."
CANCELLING = "The job is asked to end and has not ended yet."


class Remote(Engine):
    """An engine that runs jobs on a cluster.

    Args:
        cluster: Where they run.
        at_once: Jobs that the cluster has at most, those that wait there too.
        poll_seconds: Pause between two looks at a job.
        missing_seconds: A job that the cluster does not know for so long is gone.
        given_up_seconds: A cancelled job of a cluster that cannot be reached for so long is left to it.
    """

    shares_disk = False

    def __init__(
        self,
        store: RunStore,
        cluster: Cluster,
        *,
        at_once: int,
        poll_seconds: float,
        missing_seconds: float = 60.0,
        given_up_seconds: float = math.inf,
        bounds: Bounds = OWN_BOUNDS,
    ):
        self.cluster, self.bounds = cluster, bounds
        self.place = store.home.absolute() / f"{self.name}-jobs"
        self._store, self._at_once = store, at_once
        self._seconds = {
            "poll_seconds": poll_seconds,
            "missing_seconds": missing_seconds,
            "given_up_seconds": given_up_seconds,
        }
        self._followers: dict[str, Follower] = {}
        """By the names of their folders."""

    def why_not(self) -> str:
        return self.cluster.why_not()

    def room(self) -> int:
        return self._at_once - sum(self.is_live(folder) for folder in listing.folders_in(self.place))

    def is_live(self, folder: Path) -> bool:
        """Whether the job of a folder has not ended, as far as is known."""
        follower = self._followers.get(folder.name)
        return follower is None or follower.end is None

    def start(self, job: Job) -> Live | None:
        folder = bundle.folder_of(job, self.place)
        if not folder.exists():
            if why_not := self.why_not():
                raise EngineUnavailableError(why_not)
            self._pack(job, folder)
        try:
            return self._live(folder)
        except OSError as error:
            raise EngineUnavailableError(f"Files of jobs cannot be read now ({error.strerror}).") from error

    def _pack(self, job: Job, folder: Path) -> None:
        """Make the folder of a job, whole or not at all."""
        aside = aside_of(folder)
        try:
            bundle.pack(self._store, job, aside, engine=self.name, sees_folders=self.sees_folders)
            write_submission(aside, Submission())
            os.replace(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def live(self) -> Sequence[Live]:
        for name, follower in list(self._followers.items()):
            if follower.is_absent:  # its runs are free again
                self._remove(self.place / name)
        return listing.each(listing.folders_in(self.place), self._live)

    def events(self, live: Live, attempt: Attempt, offset: int) -> bytes:
        return bundle.since(bundle.folder_of(live.job, self.place), attempt.run_id, offset)

    def collect(self, live: Live, attempt: Attempt, folder: Path) -> None:
        bundle.collect(bundle.folder_of(live.job, self.place), attempt.run_id, folder)

    def cancel(self, live: Live, unless: Callable[[], bool] = lambda: False) -> End | None:
        folder = bundle.folder_of(live.job, self.place)
        try:
            follower = self._follower(folder)
        except (OSError, EngineError):  # it is found by its name
            follower = self._follow(RemoteJob(folder, live.job, Submission(submitted=True)))
        if follower.end is None and not follower.is_unwanted:
            if not follower.is_fresh():
                raise EngineEndingError(READING)
            if unless():
                return None
            follower.cancel()
        if follower.end is None and not follower.is_absent:
            raise EngineUnavailableError(follower.trouble) if follower.trouble else EngineEndingError(CANCELLING)
        unless()  # which takes over what has come since
        return End(follower.end.exit_code if follower.end else None, why=CANCELLED)

    def forget(self, live: Live) -> None:
        self._remove(bundle.folder_of(live.job, self.place))

    def release(self) -> None:
        for follower in self._followers.values():
            follower.stop()
        self._followers.clear()

    def _live(self, folder: Path) -> Live:
        try:
            follower = self._follower(folder)
        except EngineError as error:
            return listing.unreadable(folder, str(error))
        status, waits = follower.status, follower.trouble or follower.waits
        return Live(
            job=follower.job.job,
            handle=follower.job.handle,
            where=status.where if status else "",
            waits="" if follower.end else waits,
            end=follower.end,
        )

    def _follower(self, folder: Path) -> Follower:
        """EngineError where the job cannot be read; OSError where that may go better later."""
        if folder.name in self._followers:
            return self._followers[folder.name]
        return self._follow(RemoteJob(folder, bundle.read_job(folder), read_submission(folder)))

    def _follow(self, job: RemoteJob) -> Follower:
        follower = Follower(self.cluster, job, self.bounds, **self._seconds)
        return self._followers.setdefault(job.name, follower).started()

    def _remove(self, folder: Path) -> None:
        """Remove a job's folder. A job that starts afterwards finds nothing to run; one that may run is cancelled."""
        follower = self._followers.pop(folder.name, None)
        if follower:
            follower.stop()
        job = follower.job if follower else RemoteJob(folder, Job(attempts=()), Submission(submitted=True))
        may_run = job.submission.submitted and not (follower and follower.status and follower.status.end)
        in_thread(partial(self._clean, job, may_run=may_run), "rankviz-forget")
        with contextlib.suppress(FileNotFoundError):
            os.replace(folder, aside_of(folder))
        for gone in self.place.glob(".*"):  # also what a network disk could not remove before
            shutil.rmtree(gone, ignore_errors=True)

    def _clean(self, job: RemoteJob, *, may_run: bool) -> None:
        """Nobody waits for this, and what fails is left: the job finds no folder."""
        with contextlib.suppress(Exception):
            if may_run:
                self.cluster.cancel(job)
        with contextlib.suppress(Exception):
            self.cluster.forget(job)
