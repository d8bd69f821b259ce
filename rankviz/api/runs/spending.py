"""What sweeps have cost so far: the time of devices over all attempts, and the US dollars of rented machines.

A rented machine is billed as a whole, from its start to its end, and starting serves all runs of its job: its dollars
are those of the sweep, and are not divided among runs. Machines of one's own have no price, so they have time only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from rankviz import units
from rankviz.core.runs.events import HF_JOBS, queued_at
from rankviz.core.runs.run_time import DeviceTime, Rent
from rankviz.core.runs.words import title
from rankviz.errors import EngineUnavailableError
from rankviz.store.ownership import read_destination

if TYPE_CHECKING:
    from rankviz.api.runs.locations import Locations
    from rankviz.api.runs.runs import Runs
    from rankviz.api.workspace import Workspace
    from rankviz.core.runs.record import RunRecord, Sweep
    from rankviz.jobs.hf_jobs import HfJobs

USD_NOT_KNOWN = f"in US dollars {units.NOT_KNOWN} here"


class CostJSON(TypedDict):
    """So far: seconds of devices in all attempts of all runs, and the US dollars of rented machines, null where there
    was none or it is not known. What is not whole is at least so much."""

    device_seconds: float
    device_seconds_is_whole: bool
    attempts: int
    usd: float | None
    usd_is_whole: bool
    limit_usd: float | None
    in_words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """Machine time and US dollars of runs so far."""

    times: Mapping[str, DeviceTime]
    """By the name of the engine; empty where that is not known."""
    attempts_of_each: Sequence[int]
    """That have begun, of each run of which one has."""
    rent: Rent | None = None
    """None of a sweep that had no rented machine, and for whoever does not pay for it."""

    @property
    def time(self) -> DeviceTime:
        """On all engines together."""
        return sum(self.times.values(), DeviceTime())

    @property
    def attempts(self) -> int:
        """Of all runs together."""
        return sum(self.attempts_of_each)

    @property
    def in_words(self) -> str:
        """ "$0.40 of at most $5.00 on Hugging Face Jobs, 18 min in runs"; "24 s on Ray cluster, 62 s on this machine";
        empty where nothing has begun."""
        return self.in_words_after("")

    @property
    def called(self) -> str:
        """The heading of in_words; a machine of one's own has no price."""
        return "Cost so far" if self.rent else "Machine time so far"

    def sentence(self, engine: str = "") -> str:
        """Return "Machine time so far: 18 min on this machine."; empty where nothing has begun. As `in_words_after`."""
        words = self.in_words_after(engine)
        return f"{self.called}: {words}." if words else ""

    def in_words_after(self, engine: str) -> str:
        """Return in_words after a sentence that names one engine, which is not named again where there is no other."""
        is_named = {*self.times, *([HF_JOBS] if self.rent else [])} == {engine}
        known = ", ".join(self._parts(is_named))
        return "; ".join(filter(None, [known, USD_NOT_KNOWN if self.rent and not self.rent.in_words else ""]))

    def _parts(self, is_named: bool) -> Iterator[str]:
        rent = self.rent.in_words if self.rent else ""
        if rent:
            yield rent if is_named else f"{rent} on {title(HF_JOBS)}"
        for engine, spent in self.times.items():
            if rent and engine == HF_JOBS and spent.in_words:
                yield f"{spent.in_words} in runs{' there' if len(self.times) > 1 else ''}"
            elif spent.in_words:
                elsewhere = " elsewhere" if len(self.times) > 1 else ""
                on = f" on {title(engine)}" if engine else elsewhere
                yield f"{spent.in_words}{on if spent.seconds and not is_named else ''}"
        if again := [attempts for attempts in self.attempts_of_each if attempts > 1]:
            most = f"{'up to ' if len(set(again)) > 1 else ''}{max(again):,} attempts"
            each = " each" if len(again) > 1 and len(set(again)) == 1 else ""
            is_one = len(self.attempts_of_each) == 1
            yield f"in {most}" if is_one else f"{units.counted(len(again), 'run')} in {most}{each}"

    def as_json(self) -> CostJSON:
        rent = self.rent or Rent(usd=None, is_whole=True, limit_usd=None)
        return {
            "device_seconds": self.time.seconds,
            "device_seconds_is_whole": self.time.is_whole,
            "attempts": self.attempts,
            "usd": rent.usd,
            "usd_is_whole": rent.is_whole,
            "limit_usd": rent.limit_usd,
            "in_words": self.in_words,
        }


class Spending:
    """What sweeps of whoever asks have cost."""

    def __init__(self, workspace: Workspace, runs: Runs, locations: Locations):
        self._workspace, self._runs, self._locations = workspace, runs, locations

    def of_sweep(self, sweep: Sweep) -> Spent:
        """Return the cost of all its runs."""
        rent = None if sweep.recorded or not self._runs.is_mine(sweep.sweep_id) else self._rent(sweep)
        return self._spent(sweep.runs, rent)

    def of_run(self, run: RunRecord) -> Spent:
        """Return its time alone: what a rented machine cost is its sweep's."""
        return self._spent([run])

    def limit(self, sweep: Sweep) -> float | None:
        """Return `given_limit`, and None where that cannot be read."""
        with suppress(EngineUnavailableError):
            return self.given_limit(sweep)
        return None

    def given_limit(self, sweep: Sweep) -> float | None:
        """Return the spending limit in US dollars that a sweep was given last, also where it is on another engine now;
        None where it never had one. EngineUnavailableError where that cannot be read."""
        engine = self._engine()
        if engine and (given := engine.ledger.limit(sweep.sweep_id)) is not None:
            return given
        for run in sorted(sweep.runs, key=queued_at, reverse=True):  # before its first job, of an earlier version
            destination = read_destination(self._workspace.store.run_dir(run.run_id))
            if destination.engine == HF_JOBS and (spend := destination.options.get("spend")):
                return float(spend)
        return None

    def _engine(self) -> HfJobs | None:
        return self._workspace.supervisor.engine(HF_JOBS)

    def _rent(self, sweep: Sweep) -> Rent | None:
        engine, limit = self._engine(), self.limit(sweep)
        try:
            if engine and (bill := engine.bill(sweep.sweep_id)).jobs:
                if limit and (job := engine.job_of(sweep.sweep_id)):
                    limit = max(limit, job[1].limit_usd or 0.0)  # one that was started with a higher limit keeps it
                most = max(limit, bill.most_usd) if limit else None
                return Rent(usd=bill.usd, is_whole=bill.is_whole, limit_usd=most)
        except EngineUnavailableError:  # what jobs have cost cannot be read
            return Rent(usd=None, is_whole=False, limit_usd=limit)
        if any(run.engine == HF_JOBS and run.started_at is not None for run in sweep.runs):
            return Rent(usd=None, is_whole=False, limit_usd=None)  # it was imported, say
        return None

    def _spent(self, runs: Sequence[RunRecord], rent: Rent | None = None) -> Spent:
        times: dict[str, DeviceTime] = {}
        now = time.time()
        for run in runs:
            for engine, spent in self._locations.times(run, now).items():
                times[engine] = times.get(engine, DeviceTime()) + spent
        attempts = [run.begun_attempts for run in runs if run.begun_attempts]
        return Spent(times=times, attempts_of_each=attempts, rent=rent)
