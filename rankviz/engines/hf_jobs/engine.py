"""The engine: jobs on Hugging Face, paid by whoever started their runs.

All calls happen in threads (watch, cancelling) and what they bring is in folders here (mirror), so that nothing waits
for a network.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rankviz import units
from rankviz.core.runs.events import HF_JOBS, Attempt
from rankviz.engines import bundle, listing
from rankviz.engines.bounds import Bounds
from rankviz.engines.engine import End, Engine, Job, Live
from rankviz.engines.hf_jobs import returning, words
from rankviz.engines.hf_jobs.answers import DELETED
from rankviz.engines.hf_jobs.cancelling import Cancelling
from rankviz.engines.hf_jobs.ends import CANCELLED, end_of
from rankviz.engines.hf_jobs.following.mirror import Mirror
from rankviz.engines.hf_jobs.following.watch import Watch, unsend
from rankviz.engines.hf_jobs.logins import Logins
from rankviz.engines.hf_jobs.missing import Missing, sweeps, whose
from rankviz.engines.hf_jobs.offers import Offers
from rankviz.engines.hf_jobs.papers import Papers, Rented
from rankviz.engines.hf_jobs.renting import LOOK_SECONDS, Renting
from rankviz.engines.hf_jobs.returning import Found
from rankviz.engines.hf_jobs.spending import Bill, Cost, Spending
from rankviz.errors import EngineEndingError, EngineError, EngineUnavailableError
from rankviz.settings import JOBS_AT_ONCE, JOBS_FLAVOR, JOBS_IMAGE, JOBS_SPEND, Limits
from rankviz.store import RunStore

LOOKS = 6
"""So many times rarer than jobs, those that are missing are looked for."""
MOST_MISSING = 2
"""So many jobs of a sweep may be missing at the same time, each with its limit."""


class HfJobs(Engine):
    """Jobs of one runs folder.

    Args:
        image: In which they run; one with Unsloth, or one with uv.
        at_once: Jobs of all owners together.
        bounds: Of what is taken of a job.
        worker: Instead of the true one.
        sees_folders: Whether jobs see the folders of this machine, as those of a stand-in do.
        look_seconds: A job whose start was not answered and that is listed nowhere for so long is started again, and
            one that Hugging Face does not know for so long counts as deleted.
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
        image: str = JOBS_IMAGE,
        at_once: int = JOBS_AT_ONCE,
        bounds: Bounds = Bounds.of(Limits()),  # noqa: B008
        spend: float = JOBS_SPEND,
        flavor: str = JOBS_FLAVOR,
        worker: Sequence[str] = (),
        sees_folders: bool = False,
        poll_seconds: float = 5.0,
        look_seconds: float = LOOK_SECONDS,
    ):
        self.logins, self.bounds = logins, bounds
        self.papers = Papers(store.home)
        self.spending = Spending(self.papers.place)
        self._store, self._image, self._at_once = store, image, at_once
        self.offers = Offers(spend=spend, flavor=flavor, retry_seconds=poll_seconds)
        self._worker, self.sees_folders = worker, sees_folders
        self._poll_seconds, self._look_seconds = poll_seconds, look_seconds
        self._missing = Missing(
            self.papers, lambda owner: self.logins.of(owner), self.spending, LOOKS * poll_seconds, partial(whose, store)
        )
        self._watches: dict[str, Watch] = {}
        self._cancelling: dict[str, Cancelling] = {}

    def room(self) -> int:
        """One at least: `start` says why a job waits."""
        return max(1, self._at_once - self._going())

    def start(self, job: Job) -> Live | None:
        if job.kind != "finetune":
            raise EngineError(words.NO_PROBES)
        folder = self.papers.folder(job.name)
        if folder in self.papers.folders():
            return self._live(folder)
        if self._carried() & {attempt.run_id for attempt in job.attempts}:
            return None  # a job that has come back has them
        payer = job.options.get("payer", job.owner)
        hub = self.logins.require(payer)
        sweep_id = self._store.record(job.attempts[0].run_id).request.sweep_id
        if sweep_id in sweeps(self.papers, self._store):
            raise EngineUnavailableError(words.ONE_AT_A_TIME)
        if sum(lost.sweep_id == sweep_id for lost in self.papers.missing().values()) >= MOST_MISSING:
            raise EngineError(words.TOO_MANY_MISSING)
        if self._going(payer) >= self._at_once:
            raise EngineUnavailableError(words.NO_PLACE.format(self._at_once))
        self.offers.require(hub)
        limit, bill = self.papers.limit(sweep_id, payer), self.bill(sweep_id, payer)
        flavor, usd, seconds = self.offers.within(hub, job.options, limit, bill)
        rented = Rented(
            is_asked=False,
            owner=payer,
            account=hub.name,
            flavor=flavor.name,
            usd_per_minute=flavor.usd_per_minute,
            timeout_seconds=seconds,
            sweep_id=sweep_id,
            limit_usd=usd,
        )
        with self.papers.making(folder) as aside:
            bundle.pack(self._store, job, aside, engine=self.name, sees_folders=self.sees_folders)
            self.papers.write(aside, rented)
            self.papers.note_limit(sweep_id, usd, payer, anew=False)
        return self._live(folder)

    def live(self) -> Sequence[Live]:
        returning.settle(self.papers, self._store)
        for folder in list(self.papers.folders()):
            watch = self._watches.get(folder.name)
            if watch is not None and watch.renting.absent:
                self.papers.miss(folder.name, watch.renting.rented)  # its runs are free again
                self._drop(folder)
        self._missing.look()
        return listing.each(self.papers.all(), self._seen)

    def cancel(self, live: Live, unless: Callable[[], bool] = lambda: False) -> End | None:
        folder = self.papers.folder(live.job.name)
        try:
            watch = self._watch(folder, self.papers.read(folder))
        except OSError:
            if unless():
                return None
            self._missing.drop(folder)
            return End(why=CANCELLED)
        if watch is None or watch.is_foreign:
            return self._cancel_without_login(live, self._needed_login(live.job.owner, watch), unless)
        renting = watch.renting
        if not renting.rented.job_id:
            if unless():
                return None
            if renting.withdraw() or renting.is_over:
                return End(why=CANCELLED)
            raise EngineUnavailableError(self._not_known) if renting.is_lost else EngineEndingError(words.NOT_ASKED_YET)
        cancelling = self._cancelling.get(folder.name)
        if cancelling is None or cancelling.watch is not watch:  # of a login that has ended
            cancelling = self._cancelling[folder.name] = Cancelling(watch, self._poll_seconds)
        try:
            is_ended = cancelling.look(unless)
        except EngineError as error:
            raise EngineUnavailableError(str(error)) from error
        self._cancelling.pop(folder.name, None)
        return End(why=CANCELLED) if is_ended else None

    def _cancel_without_login(self, live: Live, why: str, unless: Callable[[], bool]) -> End | None:
        """Of an owner who is not logged in. A job that runs can be ended by nobody else."""
        if self.papers.read(self.papers.folder(live.job.name)).is_asked:
            raise EngineUnavailableError(why)
        return None if unless() else End(why=CANCELLED)

    def events(self, live: Live, attempt: Attempt, offset: int) -> bytes:
        return bundle.since(self.papers.folder(live.job.name), attempt.run_id, offset)

    def collect(self, live: Live, attempt: Attempt, folder: Path) -> None:
        bundle.collect(self.papers.folder(live.job.name), attempt.run_id, folder)

    def forget(self, live: Live) -> None:
        """What it made stays in the bucket, which is its owner's."""
        folder = self.papers.folder(live.job.name)
        is_missing = self.papers.is_missing(folder.name)
        if not is_missing and folder not in self.papers.folders(coming=True):  # damaged, or not to be read now
            self._missing.drop(folder)
        elif not is_missing:
            rented, watch = self.papers.read(folder), self._watches.get(folder.name)
            if rented.job_id:
                self.spending.add(rented.sweep_id, folder.name, self._cost(folder, rented), rented.owner)
            is_known = rented.job_id and not (watch and watch.seen and watch.seen.stage == DELETED)
            if rented.is_asked and not is_known:
                self.papers.miss(folder.name, rented)  # it may still run
            if hub := self.logins.of(rented.owner):
                unsend(hub, folder.name, watch)
        self.papers.forget(folder)
        self._drop(folder)

    def release(self) -> None:
        for watch in self._watches.values():
            watch.stop()
        self._watches.clear()
        self._cancelling.clear()
        self._missing.stop()

    def returning(self, owner: str) -> Sequence[Found]:
        """Jobs of an owner that are this page's and that its runs folder does not know."""
        return returning.look(self.logins.require(owner), self.papers, self.spending, self._store, owner)

    def take(self, found: Found, owner: str) -> None:
        """Have such a job's runs here again, and follow it."""
        returning.take(found, self.papers, self._store, owner)

    def bill(self, sweep_id: str, payer: str | None = None) -> Bill:
        """What a sweep's jobs have cost so far, with those that run. payer: of theirs; None: of all."""
        jobs = [each for each in self._rented() if each[1].sweep_id == sweep_id and payer in (None, each[1].owner)]
        return self.spending.bill(sweep_id, {each.name: self._cost(each, rented) for each, rented in jobs}, payer)

    def _cost(self, folder: Path, rented: Rented) -> Cost:
        """Of a job so far."""
        return (self._watches.get(folder.name) or rented).span.cost(rented.usd_per_minute)

    def _going(self, owner: str | None = None) -> int:
        """Jobs that are followed, with those of an owner that cannot be: these take nobody else's place."""
        places = 0
        for folder, rented in self._rented():
            watch = self._watches.get(folder.name)
            is_followed = watch is not None and not watch.is_foreign
            places += not watch.has_ended if is_followed else rented.owner == owner
        return places

    def _rented(self) -> Iterator[tuple[Path, Rented]]:
        """Jobs that have not been read to their end. Any thread may ask: one that has just been is left out."""
        for folder in self.papers.folders():
            with contextlib.suppress(EngineError):
                yield folder, self.papers.read(folder)

    def _carried(self) -> set[str]:
        """Runs that some job has."""
        jobs = (bundle.read_job(folder) for folder in self.papers.folders(coming=True))
        return {attempt.run_id for job in jobs for attempt in job.attempts}

    def _needed_login(self, owner: str, watch: Watch | None) -> str:
        """Why a job waits that nobody can follow."""
        return words.ANOTHER_ACCOUNT if watch else self.logins.sentence(owner)

    @property
    def _not_known(self) -> str:
        return words.NOT_KNOWN.format(units.duration(self._look_seconds))

    def _seen(self, folder: Path) -> Live | None:
        if trouble := self.papers.trouble(folder):
            return listing.unreadable(folder, trouble)
        return None if self.papers.read(folder).is_coming else self._live(folder)

    def _live(self, folder: Path) -> Live:
        rented = self.papers.read(folder)
        watch = self._watch(folder, rented)
        live = Live(
            job=replace(bundle.read_job(folder), owner=rented.owner),
            handle=rented.job_id,
            where=rented.flavor,
        )
        if rented.refusal:
            return replace(live, end=End(why=rented.refusal, is_final=True))
        if watch is None or watch.is_foreign:
            return replace(live, waits=self._needed_login(rented.owner, watch))
        if watch.done:
            return replace(live, end=end_of(watch.seen, watch.exit_code, watch.last_words, watch.renting.rented))
        if not rented.job_id:
            return replace(live, waits=self._not_known if watch.renting.is_lost else watch.trouble or words.SENT)
        if watch.seen is None:
            return replace(live, waits=watch.trouble or words.NOT_DESCRIBED_YET)
        return replace(live, waits=watch.trouble or (words.SCHEDULED if watch.seen.waits else ""))

    def _watch(self, folder: Path, rented: Rented) -> Watch | None:
        """None where nobody is logged in whose job it is; what was read until then stays."""
        watch, hub = self._watches.get(folder.name), self.logins.of(rented.owner)
        if watch is not None and (
            watch.done or watch.renting.is_over or (watch.hub is hub and (watch.lives or watch.is_foreign))
        ):
            return watch
        if watch is not None:
            watch.stop()
            del self._watches[folder.name]
        if hub is None:
            return None
        terms = {"image": self._image, "worker": self._worker, "look_seconds": self._look_seconds}
        renting = Renting(hub, self.papers, folder, **terms)
        mirror = Mirror(folder, bundle.read_job(folder).attempts, self.bounds)
        seconds = {"poll_seconds": self._poll_seconds, "look_seconds": self._look_seconds}
        watch = self._watches[folder.name] = Watch(hub, renting, mirror, folder=folder.name, **seconds)
        watch.start()
        return watch

    def _drop(self, folder: Path) -> None:
        self._cancelling.pop(folder.name, None)
        if watch := self._watches.pop(folder.name, None):
            watch.stop()
        self.papers.remove(folder)
