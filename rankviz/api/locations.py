"""The machines that runs will be on, and where runs are, are to be, or were."""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

from rankviz import units
from rankviz.catalog import hardware
from rankviz.core.cost.setup import Device, card
from rankviz.core.quantity import Range
from rankviz.core.runs.events import HF_JOBS, LOCAL, queued_at
from rankviz.core.runs.run_time import DeviceTime, Rent, times_by_engine
from rankviz.core.runs.words import Place, all_in_words, place_of, title, with_attempt
from rankviz.errors import EngineUnavailableError, RankVizError
from rankviz.jobs import Engine, Nodes
from rankviz.jobs.known import require
from rankviz.shared import rights
from rankviz.store.ownership import ANYWHERE, WantedEngine, read_destination
from rankviz.store.runs import IMPORTED
from rankviz.visitor import SERVER, acting_as

if TYPE_CHECKING:
    from rankviz.api.workspace import Workspace
    from rankviz.core.runs.record import RunRecord
    from rankviz.core.runs.record import Sweep
    from rankviz.core.probe import ProbeRequest
    from rankviz.core.runs.request import RunRequest
    from rankviz.jobs.queue import Batch
    from rankviz.store.journal import Record
    from rankviz.api.runs import Runs
    from rankviz.jobs.hf_jobs import HfJobs



NOT_HERE = "This page cannot use that engine now."
"""For visitors, who cannot set it up."""
MOST_CHOSEN = 10_000
"""Runs whose destinations are kept in memory: a page asks for those that wait each second."""


class Machines:
    """This machine, and those of other engines."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace

    def engine(self, name: str) -> Engine:
        """Return the engine of a name; empty: the one of runs that name none. InvalidSettingError."""
        known = {engine.name: engine for engine in self._workspace.supervisor.engines}
        return known[require(name or self._workspace.settings.engine, known)]

    def why_not(self, name: str) -> str:
        """Return why an engine cannot be used, as whoever asks may read it; empty where it can be."""
        why_not = self.engine(name).why_not()
        return why_not if self._workspace.visitor.admin else why_not and NOT_HERE

    def is_here(self, destination: WantedEngine) -> bool:
        """Return whether runs with it are on this machine."""
        return (destination.engine or self._workspace.settings.engine) == LOCAL

    def destination(self, sweep: Sweep) -> WantedEngine:
        """Return where a sweep goes on: where the run was to be that somebody asked for last."""
        last = max(sweep.runs, key=queued_at)
        return read_destination(self._workspace.store.run_dir(last.run_id))

    def environment(self, name: str, *, look: bool = True) -> Mapping[str, Any] | None:
        """Return what a run on an engine will find there: as the newest run that completed there, or as its engine
        sees its nodes. A GPU that is not known by its row has no speed; None is not known at all.

        Args:
            look: Whether the engine may look at its nodes, which may take seconds.
        """
        if self.is_here(WantedEngine(name)):
            from rankviz import machine

            return machine.here()
        engine = self.engine(name)
        nodes, last = engine.nodes() if look else Nodes(), self._last_on(engine.name)
        rows = [gpu for model in nodes.gpus for gpu in hardware.gpus_of_model(self._workspace.gpus, model)]
        if last and (not rows or self._workspace.gpu_of(last) in rows):
            return last
        if len(rows) == 1 and len(nodes.gpus) == 1:
            return hardware.environment_of(rows[0])
        return {"device": "cuda", "device_name": " or ".join(nodes.gpus) or "a GPU"} if nodes.has_gpu else None

    def device(self, name: str) -> Device:
        """Return the same as a device. What is not known at all is taken for a GPU, which trains whatever a CPU
        does."""
        environment = self.environment(name)
        return card(None) if environment is None else self._workspace.device(environment)

    def _last_on(self, name: str) -> Mapping[str, Any] | None:
        """The environment of the newest completed run that was sent there from here: an imported one may say anything
        of itself."""
        store = self._workspace.store
        completed = [
            record
            for record in store.records()
            if record.engine == name and record.environment.get("device_name") and record.state == "completed"
        ]
        for record in sorted(completed, key=lambda record: record.ended_at or 0.0, reverse=True):
            if read_destination(store.run_dir(record.run_id)).engine == name:
                return record.environment
        return None


class Locations:
    """Where runs of one runs folder, and those that ship, are or were. "This machine" in an imported journal is another
    one, which is not known here."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace
        self._chosen: dict[str, tuple[int, WantedEngine]] = {}

    def of(self, run: RunRecord) -> Place:
        """Return where a run is or was; of one that no engine has had, where it is or was to be."""
        place = place_of(run)
        if run.state.ended and run.begun_attempts:
            return Place() if self._is_of_another_machine(run, place.engine) else place
        if place.where or run.state == "running":
            return place
        attempt, there = self._chosen.get(run.run_id, (0, ANYWHERE))
        if attempt != run.attempt:  # another is chosen for another attempt only
            there = read_destination(self._workspace.store.run_dir(run.run_id))
            if len(self._chosen) >= MOST_CHOSEN:
                self._chosen.clear()
            self._chosen[run.run_id] = run.attempt, there
        chosen = there.engine or ("" if run.state.ended else self._workspace.settings.engine)
        has_options = place.engine in ("", chosen)
        return Place(place.engine or chosen, there.options.get("flavor", "") if has_options else "")

    def in_words(self, run: RunRecord) -> str:
        """Return "Ray cluster, node-0, attempt 2"; empty where nothing is known."""
        return with_attempt(self.of(run), run)

    def of_sweep(self, sweep: Sweep) -> str:
        """Return "Ray cluster (node-0 and node-1) and this machine": while some of its runs run, where these are; empty
        where nothing is known, and of a recorded sweep."""
        return all_in_words(self._of_each(sweep))

    def engine_of_sweep(self, sweep: Sweep) -> str:
        """Return the name of the only engine that `of_sweep` names; empty where it names several or none."""
        engines = {place.engine for place in self._of_each(sweep)}
        return engines.pop() if len(engines) == 1 else ""

    def _of_each(self, sweep: Sweep) -> Sequence[Place]:
        if sweep.recorded:
            return ()
        running = [run for run in sweep.runs if run.state == "running"]
        waiting = [run for run in sweep.runs if not run.state.ended]
        return [self.of(run) for run in running or waiting or sweep.runs]

    def times(self, run: RunRecord, now: float) -> Mapping[str, DeviceTime]:
        """Return the time of all attempts of a run until now, unix seconds, by engine; "" where that is not known."""
        return {
            "" if self._is_of_another_machine(run, engine) else engine: spent
            for engine, spent in times_by_engine(run, now).items()
        }

    def _is_of_another_machine(self, run: RunRecord, engine: str) -> bool:
        is_ended_here = engine == LOCAL and run.state.ended
        return is_ended_here and (self._workspace.store.run_dir(run.run_id) / IMPORTED).exists()



KNOWN_SECONDS = 60.0
"""The time of what goes first is taken as known for so long: pages ask each second."""
MOST_KNOWN = 5_000
MOST_AT_ONCE = 40
"""Times that one answer finds out, a few milliseconds each; the next answers find out more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuePlace:
    """Where a sweep stands in the queue of all visitors."""

    ahead: int
    """Sweeps and probes that go first, the running one among them."""
    seconds: Range | None
    """Until its turn; None where the time of one of those is not known."""
    trouble: str = ""
    """Why nothing starts at all, as a sentence."""

    @property
    def sentence(self) -> str:
        """For who waits."""
        if self.trouble:
            return f"Waiting. {self.trouble}"
        if not self.ahead:
            return "Next in the queue."
        first = f"Place {self.ahead + 1:,} in the queue: {units.counted(self.ahead, 'sweep')} before it."
        return f"{first} {wait_in_words(self.seconds)}"


class Waiting:
    """The queue, for whoever asks: what goes before a sweep is told by number and time alone, whoever's it is.

    Args:
        time_of: What runs take on an engine.
        seconds_left: What a sweep that runs still takes.
    """

    def __init__(
        self,
        workspace: Workspace,
        time_of: Callable[[str, list[RunRequest]], Range | None],
        seconds_left: Callable[[Sweep], float | None],
    ):
        self._workspace, self._time_of, self._seconds_left = workspace, time_of, seconds_left
        self._known: dict[Hashable, tuple[float, Range | None]] = {}
        self._settings: dict[tuple[str, ...], Hashable] = {}

    def place(self, sweep_id: str) -> QueuePlace | None:
        """Return where a sweep or a probe stands; None where a worker has it, or nothing of it waits."""
        from rankviz.jobs import queue

        supervisor, store = self._workspace.supervisor, self._workspace.store
        records, with_job = store.unended(), supervisor.with_job or ()
        started = [record for record in records if record.state == "running" or record.run_id in with_job]
        mine = next((batch for batch in self._batches(records) if batch.sweep_id == sweep_id), None)
        if mine is None or any(record.request.sweep_id == sweep_id for record in started):
            return None
        engine = supervisor.engine_of(mine)
        waiting, running = self._on(engine, records)
        owners = {batch.owner for batch in waiting}
        served = queue.served_at(store.records(), owners, self._owner_of, now=time.time()) if len(owners) > 1 else {}
        order = queue.in_turn(waiting, served, Counter(self._owner_of(record.run_id) for record in running))
        before = order[: order.index(mine)]
        trouble = self._workspace.why_not_write() or rights.shown_text(self._workspace, supervisor.away.get(engine, ""))
        places = max(supervisor.places(engine), len(running))
        if len(running) + len(before) < places:
            return QueuePlace(ahead=0, seconds=Range(0.0, 0.0, 0.0), trouble=trouble)
        sweeps = len({record.request.sweep_id for record in running})
        return QueuePlace(
            ahead=sweeps + len(before), seconds=self._until_free(engine, running, before), trouble=trouble
        )

    def words(self, engine: str) -> str:
        """Return how many sweeps and probes of all visitors have not ended on an engine, and how long they take
        together, as a sentence for who has not started one; empty where there is none."""
        waiting, running = self._on(engine, self._workspace.store.unended())
        count = len(waiting) + len({record.request.sweep_id for record in running})
        if not count:
            return ""
        wait = "wait or run" if count > 1 else "waits or runs"
        seconds = self._until_free(engine, running, waiting)
        return f"{units.counted(count, 'sweep')} {wait} here now. {wait_in_words(seconds)}"

    def _owner_of(self, run_id: str) -> str:
        return self._workspace.store.listed_ownership(run_id).owner

    def _on(self, engine: str, records: Sequence[Record]) -> tuple[Sequence[Batch], Sequence[Record]]:
        """What waits for an engine, without the rest of what runs, and what runs there."""
        running = [record for record in records if record.state == "running"]
        sweeps, engine_of = {record.request.sweep_id for record in running}, self._workspace.supervisor.engine_of
        here = [
            batch for batch in self._batches(records) if batch.sweep_id not in sweeps and engine_of(batch) == engine
        ]
        return here, [record for record in running if record.engine in ("", engine)]

    def _batches(self, records: Sequence[Record]) -> Sequence[Batch]:
        from rankviz.jobs import queue

        return queue.batches(records, self._owner_of, self._workspace.supervisor.place_of)

    def _until_free(self, engine: str, running: Sequence[Record], batches: Sequence[Batch]) -> Range | None:
        """When the engine has a free place after all these."""
        with acting_as(SERVER):
            times = [self._running_time(record.request) for record in running] + self._times(engine, batches)
        places = max(self._workspace.supervisor.places(engine), len(running))
        return None if None in times else first_free(times, places)

    def _running_time(self, request: RunRequest | ProbeRequest) -> Range | None:
        if hasattr(request, "time_limit_seconds"):
            return Range(0.0, request.time_limit_seconds, request.time_limit_seconds)
        left = self._seconds_left(self._workspace.store.sweep(request.sweep_id))
        return None if left is None else Range(0.0, left, left)

    def _times(self, engine: str, batches: Sequence[Batch]) -> list[Range | None]:
        """Of each on an engine. What takes as long as another one is found out once."""
        times, since, found = [], time.monotonic() - KNOWN_SECONDS, 0
        for batch in batches:
            if batch.run_ids not in self._settings:
                self._settings[batch.run_ids] = _setting(batch)
            key = engine, self._settings[batch.run_ids]
            at, known = self._known.get(key, (-math.inf, None))
            if at < since and found < MOST_AT_ONCE:
                found += 1
                known = self._time(engine, batch)
                self._known[key] = time.monotonic(), known
            times.append(known)
        for known in (self._known, self._settings):
            while len(known) > MOST_KNOWN:
                del known[next(iter(known))]
        return times

    def _time(self, engine: str, batch: Batch) -> Range | None:
        """What it should take, and at most what the server lets it take."""
        requests = [record.request for record in batch.records]
        if hasattr(requests[0], "time_limit_seconds"):
            return self._running_time(requests[0])
        try:
            seconds = self._time_of(engine, requests)
        except RankVizError:
            return None  # its base or its data has gone; the worker will say so
        if seconds is None or (minutes := self._workspace.limits.run_minutes) is None:
            return seconds
        most = 60.0 * minutes * len(requests)
        return Range(*(min(each, most) for each in (seconds.low, seconds.expected, seconds.high)))


def _setting(batch: Batch) -> Hashable:
    """What its time depends on."""
    requests = [record.request for record in batch.records]
    if hasattr(requests[0], "time_limit_seconds"):
        return requests[0].time_limit_seconds
    return tuple(replace(request, created_at=0.0, run_id="", sweep_id="") for request in requests)


def wait_in_words(seconds: Range | None) -> str:
    """Return the wait, at most, since whoever goes first may give up their turn at once."""
    return f"Expected wait: {'not known' if seconds is None else f'up to {units.duration(seconds.high)}'}."


def first_free(times: Sequence[Range], places: int) -> Range:
    """Return when one of so many places is free after these jobs, each begun as soon as there is a place for it."""

    def free(seconds_of: Sequence[float]) -> float:
        free_at = [0.0] * places
        for seconds in seconds_of:
            heapq.heapreplace(free_at, free_at[0] + seconds)
        return free_at[0]

    ends = [(each.low, each.expected, each.high) for each in times]
    return Range(*(free(each) for each in zip(*ends, strict=True)))



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
