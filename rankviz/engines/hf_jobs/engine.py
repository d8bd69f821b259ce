"""The engine: jobs on Hugging Face, paid by whoever started their runs.

Reading happens in threads (watch) into folders here (mirror), so that nothing waits for a network but starting and
cancelling.
"""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rankviz.core.runs.attempts import HF_JOBS, Attempt
from rankviz.engines import bundle
from rankviz.engines.engine import End, Engine, Job, Live
from rankviz.engines.hf_jobs import code, returning
from rankviz.engines.hf_jobs.ends import CANCELLED_THERE, end_of
from rankviz.engines.hf_jobs.hub import IN, OUT, Hub
from rankviz.engines.hf_jobs.logins import Logins
from rankviz.engines.hf_jobs.mirror import Mirror
from rankviz.engines.hf_jobs.papers import Papers, Rented
from rankviz.engines.hf_jobs.prices import Flavor, cost_of, seconds_left, timeout_seconds
from rankviz.engines.hf_jobs.returning import Found
from rankviz.engines.hf_jobs.spending import Bill, Spending
from rankviz.engines.hf_jobs.watch import Watch
from rankviz.errors import EngineError, EngineUnavailableError, InvalidSettingError, quoted
from rankviz.store import RunStore

IMAGE = "unsloth/unsloth:latest"
FLAVORS_SECONDS = 300.0
CANCEL_SECONDS = 60.0
NOT_KNOWN = "It is not known yet whether Hugging Face has started it."
SCHEDULED = "Hugging Face looks for a free machine."
ONE_AT_A_TIME = "It waits for another job of its sweep to end: the spending limit of a sweep pays for one at a time."


class HfJobs(Engine):
    """Jobs of one runs folder.

    Args:
        image: In which they run; one with Unsloth, or one with uv.
        at_once: Jobs of all owners together.
        worker: Instead of the true one.
        sees_folders: Whether jobs see the folders of this machine, as those of a stand-in do.
    """

    name = HF_JOBS
    title = "Hugging Face Jobs"
    about = "Your Hugging Face account pays. The data and RankViz's code go into a private repository of yours."
    shares_disk = False
    is_limited = False

    def __init__(
        self,
        store: RunStore,
        logins: Logins,
        *,
        image: str = IMAGE,
        at_once: int = 8,
        spend: float = 2.0,
        flavor: str = "l4x1",
        worker: Sequence[str] = (),
        sees_folders: bool = False,
        poll_seconds: float = 5.0,
    ):
        self.logins = logins
        self.papers = Papers(store.home)
        self.spending = Spending(self.papers.place)
        self._store, self._image, self._at_once = store, image, at_once
        self._spend, self._flavor = spend, flavor
        self._worker, self.sees_folders = worker, sees_folders
        self._poll_seconds = poll_seconds
        self._watches: dict[str, Watch] = {}
        self._coming: set[str] = set()
        """Runs that are being taken from a job that has come back."""
        self._flavors: tuple[float, Sequence[Flavor]] = (-FLAVORS_SECONDS, ())

    def flavors(self, hub: Hub) -> Sequence[Flavor]:
        """What can be rented now; asked once in some minutes."""
        at, flavors = self._flavors
        if time.monotonic() - at > FLAVORS_SECONDS:
            flavors = hub.flavors()
            self._flavors = time.monotonic(), flavors
        return flavors

    def terms(self, hub: Hub, options: Mapping[str, str]) -> tuple[Flavor, float]:
        """The machine and the spending limit in US dollars that these options name. InvalidSettingError."""
        name, spend = options.get("flavor") or self._flavor, options.get("spend") or self._spend
        flavors = self.flavors(hub)
        flavor = next((each for each in flavors if each.name == name), None)
        if flavor is None:
            known = ", ".join(each.name for each in flavors)
            raise InvalidSettingError(f"Hugging Face has no flavor {quoted(name)}. It has: {known}.")
        try:
            usd = float(spend)
        except ValueError:
            raise InvalidSettingError(f"The spending limit must be a number of US dollars (got {spend!r}).") from None
        timeout_seconds(usd, flavor.usd_per_minute)
        return flavor, usd

    def room(self) -> int:
        return self._at_once - len(list(self.papers.folders()))

    def start(self, job: Job) -> Live | None:
        folder = self.papers.folder(job.name)
        if folder in self.papers.folders():
            return self._live(folder)
        shutil.rmtree(folder, ignore_errors=True)  # of a start that was cut off before anything was rented
        if self._carried() & {attempt.run_id for attempt in job.attempts}:
            return None  # a job that has come back has them
        hub = self.logins.require(job.owner)
        flavor, usd = self.terms(hub, job.options)
        first = self._store.record(job.attempts[0].run_id)
        sweep_id = first.request.sweep_id
        if any(self._folders_of(sweep_id)):
            raise EngineUnavailableError(ONE_AT_A_TIME)
        if self.papers.closed_at(sweep_id) > (first.requeued_at or first.request.created_at):
            raise EngineError(CANCELLED_THERE)
        rented = Rented(
            owner=job.owner,
            account=hub.name,
            flavor=flavor.name,
            usd_per_minute=flavor.usd_per_minute,
            timeout_seconds=seconds_left(usd, self.bill(sweep_id).usd, flavor.usd_per_minute),
            sweep_id=sweep_id,
            limit_usd=usd,
        )
        try:
            bundle.pack(self._store, job, folder, engine=self.name, sees_folders=self.sees_folders)
            self.papers.write(folder, rented)
            self._send(hub, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        try:
            seen = hub.run(
                image=self._image,
                command=code.command(
                    f"{IN}/{code.archive()[0]}",
                    f"{IN}/{folder.name}",
                    f"{OUT}/{folder.name}",
                    self._worker,
                ),
                flavor=flavor.name,
                timeout=rented.timeout_seconds,
                labels={**self.papers.labels(folder), "name": f"rankviz-{sweep_id}"[:100]},
            )
        except EngineError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        except EngineUnavailableError:
            return self._live(folder)  # it may have been started: the watch looks for it by its labels
        self.papers.write(folder, replace(rented, job_id=seen.id))
        return self._live(folder)

    def live(self) -> Sequence[Live]:
        for folder in list(self.papers.folders()):
            watch = self._watches.get(folder.name)
            if watch is not None and watch.absent:
                self._drop(folder)
        return [self._live(folder) for folder in self.papers.folders()]

    def cancel(self, live: Live, unless: Callable[[], bool] = lambda: False) -> End | None:
        folder = self.papers.folder(live.job.name)
        rented = self.papers.read(folder)
        if not rented.job_id:
            raise EngineUnavailableError(NOT_KNOWN)
        hub = self.logins.require(rented.owner)
        if (watch := self._watch(folder, rented)) is not None:
            watch.refresh()
        if unless():
            return None
        hub.cancel(rented.job_id)
        deadline = time.monotonic() + CANCEL_SECONDS
        while not (seen := hub.job(rented.job_id)).ended:
            if time.monotonic() > deadline:
                raise EngineUnavailableError("Hugging Face has not ended the job yet.")
            time.sleep(min(1.0, self._poll_seconds))
        if watch is not None:
            watch.see(seen)
        return End(why="The job was cancelled.")

    def events(self, live: Live, attempt: Attempt, offset: int) -> bytes:
        return bundle.since(self.papers.folder(live.job.name), attempt.run_id, offset)

    def collect(self, live: Live, attempt: Attempt, folder: Path) -> None:
        bundle.collect(self.papers.folder(live.job.name), attempt.run_id, folder)

    def forget(self, live: Live) -> None:
        """What it made stays in the bucket, which is its owner's."""
        folder = self.papers.folder(live.job.name)
        rented = self.papers.read(folder)
        self.spending.add(rented.sweep_id, folder.name, self._cost(folder) or 0.0)
        if live.end is not None and live.end.why == CANCELLED_THERE:
            self.papers.close(rented.sweep_id)
        if hub := self.logins.of(rented.owner):
            threading.Thread(target=_unsend, args=(hub, folder.name), daemon=True).start()
        self.papers.forget(folder)
        self._drop(folder)

    def release(self) -> None:
        for watch in self._watches.values():
            watch.stop()
        self._watches.clear()

    def returning(self, owner: str) -> Sequence[Found]:
        """Jobs of an owner that are this page's and that its runs folder does not know."""
        return returning.look(self.logins.require(owner), self.papers, self.spending, self._store, owner)

    def take(self, found: Found, owner: str) -> None:
        """Have such a job's runs here again, and follow it."""
        run_ids = {attempt.run_id for attempt in found.attempts}
        self._coming |= run_ids
        try:
            returning.take(found, self.papers, self._store, owner)
        finally:
            self._coming -= run_ids

    def bill(self, sweep_id: str) -> Bill:
        """What a sweep's jobs have cost so far, with those that run."""
        return self.spending.bill(sweep_id, {each.name: self._cost(each) for each in self._folders_of(sweep_id)})

    def _cost(self, folder: Path) -> float | None:
        """US dollars of a job so far; None while its time cannot be read."""
        seconds = watch.seconds if (watch := self._watches.get(folder.name)) else None
        return None if seconds is None else cost_of(seconds, self.papers.read(folder).usd_per_minute)

    def _folders_of(self, sweep_id: str) -> Iterator[Path]:
        """Of the jobs of a sweep that have not been read to their end."""
        return (folder for folder in self.papers.folders() if self.papers.read(folder).sweep_id == sweep_id)

    def _carried(self) -> set[str]:
        """Runs that some job has."""
        jobs = (bundle.read_job(folder) for folder in self.papers.folders())
        return self._coming | {attempt.run_id for job in jobs for attempt in job.attempts}

    def _send(self, hub: Hub, folder: Path) -> None:
        hub.make_places()
        path, data = code.archive()
        files: dict[str, bytes | Path] = {} if hub.has_sent(path) else {path: data}
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                files[f"{folder.name}/{file.relative_to(folder).as_posix()}"] = file
        hub.send(files, f"Job {folder.name}")

    def _live(self, folder: Path) -> Live:
        rented = self.papers.read(folder)
        watch = self._watch(folder, rented)
        live = Live(
            job=replace(bundle.read_job(folder), owner=rented.owner),
            handle=rented.job_id,
            where=rented.flavor,
        )
        if watch is None:
            return replace(live, waits=self.logins.sentence(rented.owner))
        if not rented.job_id:
            return replace(live, waits=watch.trouble or NOT_KNOWN)
        if watch.done:
            return replace(live, end=end_of(watch.seen, watch.exit_code, watch.last_words, rented))
        scheduled = watch.seen is None or watch.seen.waits
        return replace(live, waits=watch.trouble or (SCHEDULED if scheduled else ""))

    def _watch(self, folder: Path, rented: Rented) -> Watch | None:
        """None where nobody is logged in whose job it is; what was read until then stays."""
        watch, hub = self._watches.get(folder.name), self.logins.of(rented.owner)
        if watch is not None and (watch.done or watch.absent or (watch.lives and watch.hub is hub)):
            return watch
        if watch is not None:
            watch.stop()
            del self._watches[folder.name]
        if hub is None or hub.name != rented.account:
            return None

        def found(job_id: str) -> None:
            self.papers.write(folder, replace(rented, job_id=job_id))

        watch = self._watches[folder.name] = Watch(
            hub,
            rented.job_id,
            Mirror(folder, bundle.read_job(folder).attempts),
            folder=folder.name,
            labels=self.papers.labels(folder),
            found=found,
            poll_seconds=self._poll_seconds,
        )
        watch.start()
        return watch

    def _drop(self, folder: Path) -> None:
        if watch := self._watches.pop(folder.name, None):
            watch.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _unsend(hub: Hub, folder: str) -> None:
    """What was sent has been read; the repository's history has it still."""
    with contextlib.suppress(EngineError, EngineUnavailableError):
        hub.unsend(folder)
