"""Jobs that Hugging Face did not list for minutes, or did not know any more, and whose runs have gone on without them.

Where one shows up late after all, it is ended, and what it has cost is on the bill of its sweep.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rankviz.engines.hf_jobs.answers import Seen
from rankviz.engines.hf_jobs.hub import Hub
from rankviz.engines.hf_jobs.papers import Papers, Rented
from rankviz.engines.hf_jobs.prices import MOST_SECONDS, MOST_USD, longest_seconds
from rankviz.engines.hf_jobs.spending import Cost, Span, Spending, span_of
from rankviz.errors import EngineError, EngineUnavailableError, RunNotFoundError, RunUnreadError
from rankviz.store import RunStore
from rankviz.store.ownership import read_destination

NAME = "rankviz-jobs-missing"


class Missing:
    """Looks for them as long as they could run, in a thread for each owner: nobody waits for another's account.

    Args:
        hub_of: Of an owner who is logged in.
        seconds: Between two looks.
        whose: Owner and sweep of a job by the name of its folder, and the limit in US dollars with which its first run
            was queued; each is empty where it is not known.
    """

    def __init__(
        self,
        papers: Papers,
        hub_of: Callable[[str], Hub | None],
        spending: Spending,
        seconds: float,
        whose: Callable[[str], tuple[str, str, str]],
    ):
        self._papers, self._hub_of, self._spending = papers, hub_of, spending
        self._seconds, self._whose = seconds, whose
        self._stopped = threading.Event()
        self._threads: dict[str, threading.Thread] = {}

    def look(self) -> None:
        """See to it that somebody looks where some are missing."""
        for name in self._papers.damaged():
            with contextlib.suppress(EngineUnavailableError, OSError):  # it is tried again
                self.give_up(name)
        for owner in {rented.owner for rented in self._papers.missing().values()}:
            thread = self._threads.get(owner)
            if thread is None or not thread.is_alive():
                arguments = owner, self._stopped
                self._threads[owner] = threading.Thread(target=self._loop, args=arguments, name=NAME, daemon=True)
                self._threads[owner].start()

    def stop(self) -> None:
        self._stopped.set()
        self._stopped = threading.Event()
        self._threads.clear()

    def lose(self, name: str, rented: Rented) -> None:
        """A job that nobody follows any more. Until it is found it may have cost all that its time limit allows."""
        if rented.is_asked:
            span = Span(rented.span.least, longest_seconds(rented.timeout_seconds))
            self._spending.add(rented.sweep_id, name, span.cost(rented.usd_per_minute), rented.owner)
        self._papers.miss(name, rented)

    def drop(self, folder: Path) -> None:
        """A job whose papers cannot be read: it may run, so it is looked for by its labels and ended."""
        try:
            self.lose(folder.name, self._papers.read(folder))
        except (EngineError, OSError):
            self.give_up(folder.name, self._papers.sweep_of(folder))

    def give_up(self, name: str, sweep_id: str = "") -> None:
        """A job of which no more is known. Until it is found it may have cost all that its sweep may."""
        owner, sweep, usd = self._whose(name)
        sweep_id, limit = sweep_id or sweep, None
        with contextlib.suppress(EngineUnavailableError):
            limit = self._papers.limit(sweep_id, owner)
        known = self._spending.jobs(sweep_id, owner).get(name, Cost(0.0, 0.0))
        most = max(known.most, limit or float(usd or MOST_USD))
        self._spending.add(sweep_id, name, Cost(known.least, most), owner)
        terms = {"flavor": "", "usd_per_minute": 0.0, "timeout_seconds": MOST_SECONDS}
        self._papers.miss(name, Rented(owner=owner, account="", sweep_id=sweep_id, **terms))

    def _loop(self, owner: str, stopped: threading.Event) -> None:
        while not stopped.is_set() and (files := self._of(owner)):
            hub = self._hub_of(owner)
            for file, rented in files.items():
                with contextlib.suppress(EngineError, EngineUnavailableError, OSError):
                    if hub is not None and not stopped.is_set() and rented.account in (hub.name, ""):
                        self._look_for(hub, file, rented)
            stopped.wait(self._seconds)

    def _of(self, owner: str) -> Mapping[Path, Rented]:
        return {file: rented for file, rented in self._papers.missing().items() if rented.owner == owner}

    def _look_for(self, hub: Hub, file: Path, rented: Rented) -> None:
        folder = self._papers.place / file.stem
        if folder.exists():  # its runs have not gone on without it yet
            return
        labels = self._papers.labels(folder)
        jobs = list(hub.find(labels))
        if rented.job_id and not jobs:
            job = hub.job(rented.job_id)
            jobs = [job] if labels.items() <= job.labels.items() else []
        for job in jobs:
            if not job.ended:
                hub.cancel(job.id)
        could_run = file.stat().st_mtime + longest_seconds(rented.timeout_seconds) > time.time()
        if not all(job.ended for job in jobs) or (not jobs and could_run):
            return
        if jobs:
            self._spending.add(rented.sweep_id, file.stem, _cost(hub, jobs, rented), rented.owner)
        file.unlink()


def whose(store: RunStore, name: str) -> tuple[str, str, str]:
    """Payer, sweep and limit of a job by the name of its folder; empty where its first run has them no more."""
    options = read_destination(store.run_dir(run_id := name.rpartition("-a")[0])).options
    payer, usd = options.get("payer"), options.get("spend", "")
    with contextlib.suppress(RunNotFoundError):
        return payer or store.ownership(run_id).owner, store.record(run_id).request.sweep_id, usd
    return "", "", usd


def sweeps(papers: Papers, store: RunStore) -> Iterator[str]:
    """Of all jobs that are here, also of those that cannot be read: they may cost."""
    for folder in papers.all():
        try:
            yield papers.read(folder).sweep_id
        except (EngineError, OSError):
            sweep_id = papers.sweep_of(folder)
            with contextlib.suppress(RunUnreadError):  # one that nobody can tell holds up no other
                sweep_id = sweep_id or whose(store, folder.name)[1]
            yield sweep_id


def _cost(hub: Hub, jobs: Sequence[Seen], rented: Rented) -> Cost:
    """Of jobs that have ended. Where their price is not written down, it is today's."""
    today = {} if rented.usd_per_minute else {each.name: each.usd_per_minute for each in hub.flavors()}
    costs = []
    for job in jobs:
        price = rented.usd_per_minute or today.get(job.flavor)
        if price is None:
            raise EngineError("Its machine has no price any more.")
        costs.append(span_of(job.seconds, rented.timeout_seconds).cost(price))
    return Cost(sum(cost.least for cost in costs), sum(cost.most for cost in costs))
