"""Jobs on machines elsewhere: one engine for all of them.

`Remote` packs a job into HOME/NAME-jobs/RUN_ID-aN, follows it (follower.py), collects its adapters and cancels it. A
`Cluster` (cluster.py) says how one place submits, polls, reads and cancels a job.

NAME-jobs/RUN_ID-aN/                 the packed job (bundle.py), its journals as far as they have come
NAME-jobs/RUN_ID-aN/submission.json  what is known of it elsewhere
"""

import contextlib
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rankviz.core.runs.events import Attempt
from rankviz.errors import EngineEndingError, EngineError, EngineUnavailableError
from rankviz.jobs import bundle
from rankviz.jobs.cluster import (
    CANCELLED,
    OWN_LIMITS,
    Cluster,
    JobLimits,
    RemoteJob,
    Submission,
    in_thread,
    read_submission,
    write_submission,
)
from rankviz.jobs.engine import End, Engine, Job, Live
from rankviz.jobs.follower import Follower
from rankviz.store import RunStore
from rankviz.store.durable import aside_of

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
        limits: JobLimits = OWN_LIMITS,
    ):
        self.cluster, self.limits = cluster, limits
        self.place = store.home.absolute() / f"{self.name.removesuffix('-jobs')}-jobs"
        self._store, self._at_once = store, at_once
        self._follower_of = partial(
            Follower,
            cluster,
            limits=limits,
            poll_seconds=poll_seconds,
            missing_seconds=missing_seconds,
            given_up_seconds=given_up_seconds,
        )
        self._followers: dict[str, Follower] = {}
        """By the names of their folders."""

    def why_not(self) -> str:
        return self.cluster.why_not()

    def terms(self, job: Job) -> Mapping[str, Any]:
        """Return what is agreed on for a new job. As `start` where it has to wait."""
        return {}

    def room(self) -> int:
        return self._at_once - sum(self.is_live(folder) for folder in bundle.folders_in(self.place))

    def is_live(self, folder: Path) -> bool:
        """Whether the job of a folder has not ended, as far as is known."""
        follower = self._followers.get(folder.name)
        return follower is None or follower.end is None

    def start(self, job: Job) -> Live | None:
        folder = bundle.folder_of(job, self.place)
        if not folder.exists():
            if why_not := self.why_not():
                raise EngineUnavailableError(why_not)
            terms, aside = self.terms(job), aside_of(folder)
            try:
                bundle.pack(self._store, job, aside, engine=self.name, sees_folders=self.sees_folders)
                write_submission(aside, Submission(terms=terms))
                os.replace(aside, folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return self._live(folder)

    def live(self) -> Sequence[Live]:
        return [self._live(folder) for folder in bundle.folders_in(self.place)]

    def events(self, live: Live, attempt: Attempt, offset: int) -> bytes:
        return bundle.since(bundle.folder_of(live.job, self.place), attempt.run_id, offset)

    def collect(self, live: Live, attempt: Attempt, folder: Path) -> None:
        bundle.collect(bundle.folder_of(live.job, self.place), attempt.run_id, folder)

    def cancel(self, live: Live, unless: Callable[[], bool] = lambda: False) -> End | None:
        folder = bundle.folder_of(live.job, self.place)
        try:
            follower = self._follower(folder)
        except EngineError:  # it is found by its name
            follower = self._follow(RemoteJob(folder, live.job, Submission(submitted=True)))
        if follower.end is None and not follower.job.is_unwanted:
            if unless():
                return None
            follower.cancel()
        if follower.end is None:
            raise EngineUnavailableError(follower.trouble) if follower.trouble else EngineEndingError(CANCELLING)
        unless()  # which takes over what has come since
        return End(follower.end.exit_code, why=CANCELLED)

    def forget(self, live: Live) -> None:
        self._remove(bundle.folder_of(live.job, self.place))

    def release(self) -> None:
        for follower in self._followers.values():
            follower.stop()
        self._followers.clear()

    def _live(self, folder: Path) -> Live:
        try:
            follower = self._follower(folder)
        except EngineError as error:  # another job could run beside this one, so its runs end
            return Live(job=bundle.job_by_names(folder), handle="", end=End(why=str(error), is_final=True))
        except OSError as error:
            raise EngineUnavailableError(
                f"Files of its job cannot be read now ({folder.name}: {error.strerror}). Its runs wait, since the job "
                "may go on. Mend that folder or its disk."
            ) from error
        status = follower.status
        return Live(
            job=follower.job.job,
            handle=follower.job.handle,
            where=status.where if status else "",
            waits="" if follower.end else follower.trouble or follower.waits,
            end=follower.end,
        )

    def _follower(self, folder: Path) -> Follower:
        """EngineError where the job is damaged; OSError where it may be read later."""
        if folder.name in self._followers:
            return self._followers[folder.name]
        return self._follow(RemoteJob(folder, bundle.read_job(folder), read_submission(folder)))

    def _follow(self, job: RemoteJob) -> Follower:
        return self._followers.setdefault(job.name, self._follower_of(job)).started()

    def _remove(self, folder: Path) -> None:
        """Remove a job's folder. A job that starts afterwards finds nothing to run; one that may run is cancelled."""
        follower = self._followers.pop(folder.name, None)
        if follower:
            follower.stop()
            job = follower.job
        else:
            job = RemoteJob(folder, Job(attempts=()), read_submission(folder))
        may_run = job.submission.submitted and not (follower and follower.status and follower.status.end)

        def clean() -> None:
            """What fails is left: the job finds no folder."""
            with contextlib.suppress(Exception):
                if may_run:
                    self.cluster.cancel(job)
            with contextlib.suppress(Exception):
                self.cluster.forget(job)

        in_thread(clean, "rankviz-forget")
        with contextlib.suppress(FileNotFoundError):
            os.replace(folder, aside_of(folder))
        for gone in self.place.glob(".*"):  # also what a network disk could not remove before
            shutil.rmtree(gone, ignore_errors=True)
