"""Locations of runs, their place in the queue, and the machine time and rent they have cost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, TypedDict

from rankviz import units
from rankviz.api.workspace import Operations
from rankviz.catalog import hardware
from rankviz.core.cost.setup import Device, card
from rankviz.core.quantity import Range
from rankviz.core.runs.events import HF_JOBS, LOCAL, queued_at
from rankviz.core.runs.run_time import DeviceTime, Rent, device_time
from rankviz.core.runs.words import Place, all_in_words, title
from rankviz.errors import EngineUnavailableError
from rankviz.jobs import Engine, queue
from rankviz.jobs.engine import require
from rankviz.shared import rights
from rankviz.store.ownership import WantedEngine, read_destination
from rankviz.store.runs import IMPORTED
from rankviz.visitor import SERVER, acting_as

if TYPE_CHECKING:
    from rankviz.core.probe import ProbeRecord
    from rankviz.core.runs.record import RunRecord, Sweep

NOT_HERE = "This page cannot use that engine now."
"""Message for visitors, who cannot set up the engine."""


class Locations(Operations):
    """Engines and their machines, and the location of each run. An imported journal's "this machine" is another
    machine, which is not known here."""

    def engine(self, name: str) -> Engine:
        """Return the engine of this name; empty for the default engine. InvalidSettingError for an unknown name."""
        known = {engine.name: engine for engine in self._workspace.supervisor.engines}
        return known[require(name or self._workspace.settings.engine, known)]

    def why_not(self, name: str) -> str:
        """Return why an engine cannot be used, as the current visitor may read it; empty if it can be used."""
        why_not = self.engine(name).why_not()
        return why_not if self._workspace.visitor.admin else why_not and NOT_HERE

    def is_here(self, engine: str) -> bool:
        """Return whether an engine of this name (empty: the default engine) trains on this machine."""
        return (engine or self._workspace.settings.engine) == LOCAL

    def destination(self, runs: Sequence[RunRecord]) -> WantedEngine:
        """Return the destination of the most recently queued of a sweep's runs, where the sweep continues."""
        last = max(runs, key=queued_at)
        return read_destination(self._workspace.store.run_dir(last.run_id))

    def environment(self, name: str) -> Mapping[str, Any] | None:
        """Return the environment that a run on an engine will find: that of the newest run completed there, or what
        the engine says about its nodes. None if nothing is known; a GPU that is not in the table has no known speed."""
        if self.is_here(name):
            from rankviz import machine

            return machine.here()
        engine = self.engine(name)
        nodes, last = engine.nodes(), self._last_on(engine.name)
        rows = [gpu for model in nodes.gpus for gpu in hardware.gpus_of_model(self._workspace.gpus, model)]
        if last and (not rows or self._workspace.gpu_of(last) in rows):
            return last
        if len(rows) == 1 and len(nodes.gpus) == 1:
            return hardware.environment_of(rows[0])
        return {"device": "cuda", "device_name": " or ".join(nodes.gpus) or "a GPU"} if nodes.has_gpu else None

    def device(self, there: WantedEngine) -> Device:
        """Return the device at a destination; where it is not known, a GPU, which can train whatever a CPU can."""
        if there.engine == HF_JOBS:
            return self._api.jobs.device(there)
        environment = self.environment(there.engine)
        return card(None) if environment is None else self._workspace.device(environment)

    def _last_on(self, name: str) -> Mapping[str, Any] | None:
        """Return the environment of the newest completed run that was sent to an engine from here. Imported runs do
        not count: their journals may claim anything."""
        store = self._workspace.store
        there = [
            record
            for record in store.records()
            if record.engine == name
            and record.state == "completed"
            and record.environment.get("device_name")
            and store.listed_destination(record.run_id).engine == name
        ]
        return max(there, key=lambda record: record.ended_at or 0.0).environment if there else None

    def of(self, run: RunRecord) -> Place:
        """Return the place where a run is or was; before any engine has taken it, the place where it is to run."""
        place = Place(run.engine, run.where)
        if run.state.ended and run.begun_attempts:
            is_imported = place.engine == LOCAL and (self._workspace.store.run_dir(run.run_id) / IMPORTED).exists()
            return Place() if is_imported else place
        if place.where or run.state == "running":
            return place
        there = self._workspace.store.listed_destination(run.run_id)
        chosen = there.engine or ("" if run.state.ended else self._workspace.settings.engine)
        has_options = place.engine in ("", chosen)
        return Place(place.engine or chosen, there.options.get("flavor", "") if has_options else "")

    def in_words(self, run: RunRecord) -> str:
        """Return text such as "Ray cluster, node-0, attempt 2"; empty where nothing is known."""
        attempt = f"attempt {run.shown_attempt:,}" if run.shown_attempt > 1 else ""
        return ", ".join(filter(None, [self.of(run).in_words, attempt]))

    def of_sweep(self, sweep: Sweep) -> str:
        """Return text such as "Ray cluster, node-0; this machine": the places of the running runs, if any run. Empty
        where nothing is known, and for a recorded sweep."""
        if sweep.recorded:
            return ""
        running = [run for run in sweep.runs if run.state == "running"]
        waiting = [run for run in sweep.runs if not run.state.ended]
        return all_in_words([self.of(run) for run in running or waiting or sweep.runs])


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuePlace:
    """Place of a sweep or probe in the queue of all visitors."""

    ahead: int
    """Number of sweeps and probes that go first, running ones included."""
    seconds: Range | None
    """Seconds until the sweep starts; None where the time of an earlier sweep or probe is not known."""
    trouble: str = ""
    """Sentence on why nothing starts at all; empty if nothing is wrong."""

    @property
    def sentence(self) -> str:
        """Place and longest wait as a sentence. The wait may be shorter, since others may cancel."""
        if self.trouble:
            return f"Waiting. {self.trouble}"
        if not self.ahead:
            return "Next in the queue."
        wait = "not known" if self.seconds is None else f"up to {units.duration(self.seconds.high)}"
        before = units.counted(self.ahead, "sweep")
        return f"Place {self.ahead + 1:,} in the queue: {before} before it. Expected wait: {wait}."


class Queue(Operations):
    """Queue of all visitors' sweeps and probes. Visitors see number and time of earlier entries, not the owners."""

    def place(self, sweep_id: str) -> QueuePlace | None:
        """Return the place of a sweep or probe; None if it has started, or no run of it waits."""
        supervisor, store = self._workspace.supervisor, self._workspace.store
        records, with_job = store.unended(), supervisor.with_job or ()
        running = [record for record in records if record.state == "running"]
        started = {record.request.sweep_id for record in records if record in running or record.run_id in with_job}
        batches = queue.batches(records, self._owner_of, supervisor.place_of)
        mine = next((batch for batch in batches if batch.sweep_id == sweep_id), None)
        if mine is None or sweep_id in started:
            return None
        engine = supervisor.engine_of(mine)
        at_work = {record.request.sweep_id for record in running}
        waiting = [each for each in batches if each.sweep_id not in at_work and supervisor.engine_of(each) == engine]
        running = [record for record in running if record.engine in ("", engine)]
        served = queue.served_at(store.records(), self._owner_of, now=time.time())
        order = queue.in_turn(waiting, served, Counter(self._owner_of(record.run_id) for record in running))
        before = order[: order.index(mine)]
        trouble = self._workspace.why_not_write() or rights.shown(self._workspace, supervisor.away.get(engine, ""))
        places = max(supervisor.places(engine), len(running))
        if len(running) + len(before) < places:
            return QueuePlace(ahead=0, seconds=Range(0.0, 0.0, 0.0), trouble=trouble)
        sweeps = {record.request.sweep_id: record for record in running}
        with acting_as(SERVER):
            times = [*map(self._left, sweeps.values()), *(self._time(batch.records) for batch in before)]
        seconds = None if None in times else reduce(Range.plus, times).times(1 / places)
        return QueuePlace(ahead=len(sweeps) + len(before), seconds=seconds, trouble=trouble)

    def _owner_of(self, run_id: str) -> str:
        return self._workspace.store.listed_ownership(run_id).owner

    def _left(self, record: RunRecord | ProbeRecord) -> Range | None:
        """Return the seconds until the sweep of a running run, or a probe, ends at the latest."""
        left = getattr(record.request, "time_limit_seconds", None)
        if left is None:
            left = self._api.runs.progress(self._workspace.store.sweep(record.request.sweep_id)).seconds_left
        return None if left is None else Range(0.0, left, left)

    def _time(self, records: Sequence[RunRecord | ProbeRecord]) -> Range | None:
        """Return the expected seconds of a batch, at most the server's limit; None where they are not known."""
        if hasattr(records[0].request, "time_limit_seconds"):
            return self._left(records[0])
        time, minutes = self._api.runs.time_of_records(records), self._workspace.limits.run_minutes
        if time is None or minutes is None:
            return time and time.total
        most = 60.0 * minutes * len(records)
        return Range(*(min(each, most) for each in (time.total.low, time.total.expected, time.total.high)))


class CostJSON(TypedDict):
    """Cost so far: machine seconds of all attempts of all runs, and US dollars of rented machines, null without any or
    where they are not known. Values that are not whole are lower bounds."""

    device_seconds: float
    device_seconds_is_whole: bool
    attempts: int
    usd: float | None
    usd_is_whole: bool
    limit_usd: float | None
    in_words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """Machine time and US dollars of runs so far. A rented machine is billed from its start to its end, so its cost
    belongs to the sweep and is not divided among runs. Machines of one's own have no price."""

    time: DeviceTime
    """Machine time of all attempts."""
    attempts: int
    """Number of attempts that have begun, over all runs."""
    rent: Rent | None = None
    """Rent so far; None without a rented machine, and for a visitor who does not pay for it."""

    @property
    def in_words(self) -> str:
        """Text such as "$0.40 of at most $5.00 on Hugging Face Jobs, 18 min in runs" or "18 min"; empty if nothing has
        begun."""
        if self.rent is None:
            return self.time.in_words
        usd = f"{self.rent.in_words or f'US dollars {units.NOT_KNOWN}'} on {title(HF_JOBS)}"
        return f"{usd}, {self.time.in_words} in runs" if self.time.in_words else usd

    @property
    def sentence(self) -> str:
        """Sentence such as "Machine time so far: 18 min."; empty if nothing has begun."""
        called = "Cost so far" if self.rent else "Machine time so far"
        return f"{called}: {words}." if (words := self.in_words) else ""

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


class Spending(Operations):
    """Costs of the current visitor's sweeps."""

    def of_sweep(self, sweep: Sweep) -> Spent:
        """Return the cost of all runs of a sweep."""
        rent = None if sweep.recorded or not self._api.runs.is_mine(sweep.sweep_id) else self._rent(sweep)
        attempts = sum(run.begun_attempts for run in sweep.runs)
        return Spent(time=device_time(sweep.runs, time.time()), attempts=attempts, rent=rent)

    def limit(self, sweep: Sweep) -> float | None:
        """Return the same as `given_limit`; None where the limit cannot be read."""
        with suppress(EngineUnavailableError):
            return self.given_limit(sweep)
        return None

    def given_limit(self, sweep: Sweep) -> float | None:
        """Return the spending limit (US dollars) that a sweep was last given, even if it has moved to another engine;
        None if it never had one. EngineUnavailableError where the limit cannot be read."""
        engine = self._workspace.supervisor.engine(HF_JOBS)
        if engine and (given := engine.ledger.limit(sweep.sweep_id)) is not None:
            return given
        for run in sorted(sweep.runs, key=queued_at, reverse=True):  # before its first job, of an earlier version
            destination = read_destination(self._workspace.store.run_dir(run.run_id))
            if destination.engine == HF_JOBS and (spend := destination.options.get("spend")):
                return float(spend)
        return None

    def _rent(self, sweep: Sweep) -> Rent | None:
        engine, limit = self._workspace.supervisor.engine(HF_JOBS), self.limit(sweep)
        try:
            if engine and (bill := engine.bill(sweep.sweep_id)).jobs:
                if limit and (job := engine.job_of(sweep.sweep_id)):
                    limit = max(limit, job[1].limit_usd)  # one that was started with a higher limit keeps it
                most = max(limit, bill.most_usd) if limit else None
                return Rent(usd=bill.usd, is_whole=bill.is_whole, limit_usd=most)
        except EngineUnavailableError:  # what jobs have cost cannot be read
            return Rent(usd=None, is_whole=False, limit_usd=limit)
        if any(run.engine == HF_JOBS and run.started_at is not None for run in sweep.runs):
            return Rent(usd=None, is_whole=False, limit_usd=None)  # it was imported, say
        return None
